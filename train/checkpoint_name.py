"""The names of checkpoint folders: `step-00000320-epochs-7`."""

import dataclasses
import re

from featurize.storage import StoragePath

PROGRESS_FILE = "progress.json"  # written last and removed first: a folder that has one is complete
_NAME = re.compile(r"step-(\d{8,})-epochs-(\d+)")


@dataclasses.dataclass(frozen=True, order=True)
class CheckpointName:
    """Name of a checkpoint; later checkpoints compare greater.

    Attributes:
        step: Number of finished steps.
        epochs: Number of finished epochs; an epoch is finished once it is evaluated.
    """

    step: int
    epochs: int

    def __str__(self) -> str:
        return f"step-{self.step:08d}-epochs-{self.epochs}"

    @classmethod
    def parse(cls, name: str) -> "CheckpointName | None":
        """Parse the name of a folder; return None if it is not the name of a checkpoint."""
        match = _NAME.fullmatch(name)
        return cls(int(match[1]), int(match[2])) if match else None


def complete_checkpoints(folder: StoragePath) -> list[CheckpointName]:
    """Return the completely written checkpoints in a folder, earliest first."""
    names = set()
    for path, _ in folder.files():
        name, _, file = path.partition("/")
        if file == PROGRESS_FILE and (checkpoint := CheckpointName.parse(name)):
            names.add(checkpoint)
    return sorted(names)
