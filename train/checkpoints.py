"""Checkpoints: everything that training needs to go on as if it had never been interrupted.

    checkpoints/
      step-00000320-epochs-7/       state.index and state.data-00000-of-00001 (TensorFlow's), progress.json
      best/step-00000160-epochs-4/  the state after the best epoch, where a validation fold says which that is

A folder gets its name when all of it is on the disk, so a folder of that name is whole, unless the disk lies.
That is found out when it is read, and the one before is taken.
"""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from train.config import TrainError

_NAME = re.compile(r"step-(\d{8,})-epochs-(\d+)")
_STATE, _PROGRESS = "state", "progress.json"


@dataclasses.dataclass
class Progress:
    """How far training has come, beside the weights and the optimizer's slots.

    Attributes:
        step: steps done.
        history: the entry of each finished epoch.
        loss_sum: of the steps of the unfinished epoch.
        right: rows that were classified right in the unfinished epoch.
        seconds: spent in the unfinished epoch.
        waited: of these, seconds spent waiting for batches.
    """

    step: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    loss_sum: float = 0.0
    right: int = 0
    seconds: float = 0.0
    waited: float = 0.0


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, model: Any, optimizer: Any, keep: int) -> None:
        """Take what is to be saved, and how many of the latest checkpoints to keep."""
        self._folder = folder
        self._best = folder / "best"
        self._keep = keep
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer)

    def restore_latest(self, remark: Callable[[str], None]) -> Progress:
        """Go back to the latest whole checkpoint, or to the beginning where there is none.

        Args:
            remark: is told of checkpoints that had to be passed over.
        """
        _remove(*self._folder.glob(".*"), *self._best.glob(".*"))
        for folder in reversed(_saved(self._folder)):
            try:
                progress = Progress(**json.loads((folder / _PROGRESS).read_text(encoding="utf-8")))
                _read_all(folder)
            except (tf.errors.OpError, OSError, ValueError, TypeError) as error:
                remark(f"Passed over: {folder} is torn ({_reason(error)}). It is removed.")
                _remove(folder)
                continue
            self._restore(folder)
            return progress
        return Progress()

    def restore_best(self) -> None:
        """Go back to the best checkpoint."""
        self._restore(_saved(self._best)[-1])

    def save(self, progress: Progress) -> None:
        """Save the state as the latest.

        Raises:
            TrainError: it cannot be written; the ones before it are as they were.
        """
        self._save(self._folder, progress)
        _remove(*_saved(self._folder)[: -self._keep])

    def save_best(self, progress: Progress) -> None:
        """Save the state as the best so far.

        Raises:
            TrainError: it cannot be written; the one before it is as it was.
        """
        _remove(*_saved(self._best, since=progress.step))  # of a run that goes on from before its best epoch
        self._save(self._best, progress)
        _remove(*_saved(self._best)[:-1])

    def _save(self, folder: Path, progress: Progress) -> None:
        final = folder / f"step-{progress.step:08d}-epochs-{len(progress.history)}"
        if final.exists():
            return
        unfinished = folder / f".{final.name}"
        try:
            unfinished.mkdir(parents=True)
            self._state.write(str(unfinished / _STATE))
            (unfinished / _PROGRESS).write_text(json.dumps(dataclasses.asdict(progress)), encoding="utf-8")
            for path in (*unfinished.iterdir(), unfinished):
                _sync(path)
            os.rename(unfinished, final)
            _sync(folder)
        except (tf.errors.OpError, OSError) as error:
            _remove(unfinished)
            raise TrainError(
                f"cannot write a checkpoint to {folder}: {_reason(error)}. Earlier ones are kept; mend it, and "
                "the same command goes on from the latest."
            ) from error

    def _restore(self, folder: Path) -> None:
        self._state.read(str(folder / _STATE)).assert_consumed()


def _saved(folder: Path, since: int = 0) -> list[Path]:
    """Return the checkpoints in a folder from a step on, the earliest first."""
    found = {path: _NAME.fullmatch(path.name) for path in folder.glob("step-*")}
    places = {path: (int(match[1]), int(match[2])) for path, match in found.items() if match}
    return sorted((path for path, (step, _) in places.items() if step >= since), key=places.__getitem__)


def _read_all(folder: Path) -> None:
    """Read every tensor of a checkpoint; TensorFlow compares each with its sum and raises where they differ."""
    reader = tf.train.load_checkpoint(str(folder / _STATE))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _reason(error: Exception) -> str:
    if isinstance(error, tf.errors.OpError):
        # Between the name of the operation and the file, and that of the operation once more.
        return str(error.message).rpartition("; ")[2].partition(" [Op:")[0]
    return getattr(error, "strerror", None) or str(error)


def _remove(*folders: Path) -> None:
    for folder in folders:
        # Another name first: half removed, it must not look like a checkpoint.
        hidden = folder.with_name(f".{folder.name.removeprefix('.')}")
        shutil.rmtree(hidden, ignore_errors=True)
        if folder.exists():
            os.replace(folder, hidden)
            shutil.rmtree(hidden, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
