"""The names of checkpoint folders: `step-00000320-epochs-7`."""

import dataclasses
import re

from featurize.storage import StoragePath

PROGRESS_FILE = "progress.json"  # written last and removed first: a folder that has one is whole
_NAME = re.compile(r"step-(\d{8,})-epochs-(\d+)")


@dataclasses.dataclass(frozen=True, order=True)
class CheckpointName:
    """What a checkpoint's name holds; later checkpoints compare greater.

    Attributes:
        step: Steps done.
        epochs: Epochs finished; a checkpoint between an epoch's last step and its evaluation counts one fewer.
    """

    step: int
    epochs: int

    def __str__(self) -> str:
        return f"step-{self.step:08d}-epochs-{self.epochs}"

    @classmethod
    def parse(cls, name: str) -> "CheckpointName | None":
        """Read a folder's name; return None where it is not a checkpoint's."""
        match = _NAME.fullmatch(name)
        return cls(int(match[1]), int(match[2])) if match else None


def whole_checkpoints(folder: StoragePath) -> list[CheckpointName]:
    """Return the checkpoints in a folder that were written to the end, the earliest first."""
    found = set()
    for path, _ in folder.files():
        name, _, file = path.partition("/")
        if file == PROGRESS_FILE and (checkpoint := CheckpointName.parse(name)):
            found.add(checkpoint)
    return sorted(found)
