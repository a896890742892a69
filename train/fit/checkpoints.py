"""Checkpoints: everything that training needs to go on as if it had never been interrupted.

    checkpoints/
      step-00000320-epochs-7/       state.index and state.data-00000-of-00001 (TensorFlow's), progress.json
      best/step-00000160-epochs-4/  the state after the best epoch, where a validation fold says which that is

progress.json is written last and removed first, so a folder that has one is whole, on a disk and in a bucket,
unless the disk lies. That is found out when it is read, and the one before is taken.
"""

import dataclasses
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf

from featurize.storage import StoragePath, describe
from train.checkpoint_name import PROGRESS_FILE, CheckpointName, whole_checkpoints
from train.errors import TrainError
from train.records import EpochRecord

_STATE, _BEST = "state", "best"
_log = logging.getLogger(__name__)

_STORED_AS_CORRECT = "right"  # the key of progress.json; renaming it would make older checkpoints unreadable


@dataclasses.dataclass
class TrainingProgress:
    """How far training has come, beside the weights and the optimizer's slots.

    Attributes:
        step: steps done.
        history: the entry of each finished epoch.
        loss_sum: of the steps of the unfinished epoch.
        correct: rows that were classified correctly in the unfinished epoch.
        seconds: spent in the unfinished epoch.
        waited: of these, seconds spent waiting for batches.
    """

    step: int = 0
    history: list[EpochRecord] = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    correct: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def to_json(self) -> bytes:
        """Return the content of progress.json."""
        content = dataclasses.asdict(self)
        content["history"] = [entry.to_json() for entry in self.history]
        content[_STORED_AS_CORRECT] = content.pop("correct")
        return json.dumps(content).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "TrainingProgress":
        """Read progress.json.

        Raises:
            TypeError, ValueError: it is not what `to_json` returned.
        """
        content = json.loads(text)
        content["history"] = [EpochRecord.model_validate(entry) for entry in content.get("history", [])]
        return cls(**{"correct" if key == _STORED_AS_CORRECT else key: value for key, value in content.items()})


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self, folder: StoragePath, model: Any, optimizer: Any, keep: int, into: StoragePath | None = None
    ) -> None:
        """Take what is to be saved, and how many of the latest checkpoints to keep.

        Args:
            folder: where they are.
            model: whose variables are saved.
            optimizer: whose slots are saved.
            keep: how many.
            into: where new ones go, if not there; the folder is then only read.
        """
        self._folder = folder
        self._into = into or folder
        self._keep = keep
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer)

    def restore_latest(self) -> TrainingProgress:
        """Restore the latest whole checkpoint, or start from the beginning if there is none; log those skipped."""
        may_remove = self._into == self._folder
        if may_remove:
            _remove_unfinished(self._folder)
        for folder in reversed(_saved(self._folder)):
            try:
                with folder.at_hand() as here:
                    progress = TrainingProgress.from_json((here / PROGRESS_FILE).read_bytes())
                    _read_all(here)
                    self._restore(here)
            except (tf.errors.OpError, OSError, ValueError, TypeError, IndexError) as error:
                removed = " It is removed." if may_remove else ""
                _log.warning("Skipped: the checkpoint %s is broken (%s).%s", folder, _reason(error), removed)
                if may_remove:
                    _remove(folder)
                continue
            return progress
        return TrainingProgress()

    def restore_best(self) -> None:
        """Go back to the best checkpoint."""
        with _saved(self._folder / _BEST)[-1].at_hand() as here:
            self._restore(here)

    def save(self, progress: TrainingProgress) -> None:
        """Save the state as the latest.

        Raises:
            TrainError: it cannot be written; the ones before it are as they were.
        """
        self._save(self._into, progress)
        _remove(*_saved(self._into)[: -self._keep])

    def save_best(self, progress: TrainingProgress) -> None:
        """Save the state as the best so far.

        Raises:
            TrainError: it cannot be written; the one before it is as it was.
        """
        best = self._into / _BEST
        _remove(*_saved(best, since=progress.step))  # of a run that goes on from before its best epoch
        self._save(best, progress)
        _remove(*_saved(best)[:-1])

    def _save(self, folder: StoragePath, progress: TrainingProgress) -> None:
        final = folder / str(CheckpointName(progress.step, len(progress.history)))
        try:
            if (final / PROGRESS_FILE).is_file():
                return
            with tempfile.TemporaryDirectory() as scratch:
                self._state.write(os.path.join(scratch, _STATE))
                for path in sorted(Path(scratch).iterdir()):
                    (final / path.name).write(path.read_bytes())
            (final / PROGRESS_FILE).write(progress.to_json())
        except (tf.errors.OpError, OSError) as error:
            _remove(final)
            raise TrainError(
                f"cannot write a checkpoint to {folder}: {_reason(error)}. Earlier ones are kept; mend it, and "
                "the same command goes on from the latest."
            ) from error

    def _restore(self, folder: Path) -> None:
        self._state.read(str(folder / _STATE)).assert_consumed()


def _saved(folder: StoragePath, since: int = 0) -> list[StoragePath]:
    """Return the whole checkpoints in a folder from a step on, the earliest first."""
    return [folder / str(name) for name in whole_checkpoints(folder) if name.step >= since]


def _remove_unfinished(folder: StoragePath) -> None:
    """Remove what a run that was killed in the middle of writing or removing has left."""
    files: dict[str, set[str]] = {}
    for path, _ in folder.files():
        name, _, file = path.rpartition("/")
        files.setdefault(name, set()).add(file)
    for name, found in files.items():
        if name and PROGRESS_FILE not in found:
            (folder / name).remove_folder()
    folder.remove_leftovers()


def _read_all(folder: Path) -> None:
    """Read every tensor of a checkpoint, which TensorFlow compares with its checksum.

    Raises:
        tf.errors.OpError, ValueError: A checksum differs, or a file is not a checkpoint's.
        IndexError: A file is cut short.
    """
    reader = tf.train.load_checkpoint(str(folder / _STATE))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _reason(error: Exception) -> str:
    if isinstance(error, tf.errors.OpError):
        # Between the name of the operation and the file, and that of the operation once more.
        return str(error.message).rpartition("; ")[2].partition(" [Op:")[0]
    return describe(error) if isinstance(error, OSError) else str(error)


def _remove(*folders: StoragePath) -> None:
    for folder in folders:
        (folder / PROGRESS_FILE).remove()
        folder.remove_folder()
