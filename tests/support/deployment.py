"""Read the deployment files, as they are or with their commented blocks put in place."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
CLUSTER = (ROOT / "cluster.yaml").read_text()
RAYJOB = (ROOT / "jobs" / "rayjob.yaml").read_text()
DOCKERFILE = (ROOT / "jobs" / "Dockerfile").read_text()


def locked(package: str) -> str:
    """Return the version of a package in requirements.lock."""
    return re.findall(rf"(?m)^{package}==(\S+)", (ROOT / "requirements.lock").read_text())[0]


def uncommented(text: str, name: str) -> list[str]:
    """Return the blocks between the marks `>>> name` and `<<< name`, without comment signs."""
    blocks = re.findall(rf"(?ms)^ *# >>> {name}\n(.*?)^ *# <<< {name}$", text)
    assert blocks, f"no block is marked {name}"
    return [re.sub(r"(?m)^( *)# ", r"\1", block) for block in blocks]


def cluster(kind: str = "aws") -> dict:
    """Read cluster.yaml, with the fields of the block for a provider other than AWS put in place."""
    config = yaml.safe_load(CLUSTER)
    if kind != "aws":
        (block,) = uncommented(CLUSTER, kind)
        config.update(yaml.safe_load(block))
    return config


def rayjob(volume: bool = False) -> dict:
    """Read jobs/rayjob.yaml, optionally with the blocks for a shared volume put in place."""
    text = RAYJOB
    if volume:
        for commented, block in zip(
            re.findall(r"(?ms)^ *# >>> volume\n(.*?)^ *# <<< volume$", text),
            uncommented(text, "volume"),
            strict=True,
        ):
            text = text.replace(commented, block)
    return yaml.safe_load(text)


def groups(manifest: dict) -> dict[str, dict]:
    """Return the groups of head and workers of a RayJob, by name."""
    spec = manifest["spec"]["rayClusterSpec"]
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}
