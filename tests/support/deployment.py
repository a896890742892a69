"""The files by which a cluster is brought up, as they stand and with their commented blocks in place."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent.parent
CLUSTER = (ROOT / "cluster.yaml").read_text()
RAYJOB = (ROOT / "jobs" / "rayjob.yaml").read_text()
DOCKERFILE = (ROOT / "jobs" / "Dockerfile").read_text()


def locked(package: str) -> str:
    """The version of a package in requirements.lock."""
    return re.findall(rf"(?m)^{package}==(\S+)", (ROOT / "requirements.lock").read_text())[0]


def uncommented(text: str, name: str) -> list[str]:
    """The blocks between the marks `>>> name` and `<<< name`, as they read without their comment signs."""
    blocks = re.findall(rf"(?ms)^ *# >>> {name}\n(.*?)^ *# <<< {name}$", text)
    assert blocks, f"no block is marked {name}"
    return [re.sub(r"(?m)^( *)# ", r"\1", block) for block in blocks]


def cluster(kind: str = "aws") -> dict:
    """cluster.yaml as it stands, or with the fields of the block for another provider put in place."""
    config = yaml.safe_load(CLUSTER)
    if kind != "aws":
        (block,) = uncommented(CLUSTER, kind)
        config.update(yaml.safe_load(block))
    return config


def rayjob(volume: bool = False) -> dict:
    """jobs/rayjob.yaml as it stands, or with the blocks for a shared volume."""
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
    """The head's and the workers' groups of a RayJob, by name."""
    spec = manifest["spec"]["rayClusterSpec"]
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}
