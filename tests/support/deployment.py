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
    return re.findall(rf"(?m)^{package}==(\S+)", lock())[0]


def lock(kind: str = "") -> str:
    """Return the text of requirements.lock, or of the lock of one kind of node."""
    return (ROOT / f"requirements{kind and f'-{kind}'}.lock").read_text()


def uncommented(text: str, name: str) -> list[str]:
    """Return the blocks between the marks `>>> name` and `<<< name`, without comment signs."""
    blocks = re.findall(rf"(?ms)^ *# >>> {name}\n(.*?)^ *# <<< {name}$", text)
    assert blocks, f"no block is marked {name}"
    return [re.sub(r"(?m)^( *)# ", r"\1", block) for block in blocks]


def cluster(kind: str = "aws") -> dict:
    """Read cluster.yaml, with the fields of the block for a larger GPU or another provider put in place."""
    config = yaml.safe_load(CLUSTER)
    if kind == "h100":
        (block,) = uncommented(CLUSTER, kind)
        config["available_node_types"].update(yaml.safe_load(block))
    elif kind != "aws":
        (block,) = uncommented(CLUSTER, kind)
        config.update(yaml.safe_load(block))
    return config


def rayjob(*names: str) -> dict:
    """Read jobs/rayjob.yaml, with the commented blocks of some names put in place: `volume`, `gke`."""
    text = RAYJOB
    for name in names:
        for commented, block in zip(
            re.findall(rf"(?ms)^ *# >>> {name}\n(.*?)^ *# <<< {name}$", text),
            uncommented(text, name),
            strict=True,
        ):
            text = text.replace(commented, block)
    return yaml.safe_load(text)


def groups(manifest: dict) -> dict[str, dict]:
    """Return the groups of head and workers of a RayJob, by name."""
    spec = manifest["spec"]["rayClusterSpec"]
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}
