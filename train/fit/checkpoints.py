"""Checkpoints: everything that training needs to resume as if it had never been interrupted.

    checkpoints/
      step-00000320-epochs-7/       state.index and state.data-00000-of-00001 (TensorFlow's), progress.json
      best/step-00000160-epochs-4/  the state after the best epoch, if there is a validation fold

The best checkpoint of which the latest one knows is kept until a later one is written: a run that is killed in
between resumes before its new best epoch, and may find another one, with changed settings or on other devices.

A snapshot is taken while training waits; a background thread writes it. progress.json is written last and removed
first, so a folder that has one is complete, on a disk and in a bucket.
Every tensor is read and its checksum verified before a checkpoint is restored; if the disk has damaged it, the
previous checkpoint is used.
"""

import contextlib
import dataclasses
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from featurize.storage import StoragePath, describe
from train.checkpoint_name import PROGRESS_FILE, CheckpointName, complete_checkpoints
from train.errors import TrainError
from train.fit.background_writer import BackgroundWriter
from train.fit.train_state import TrainState

_STATE, _BEST = "state", "best"
# Raised when a checkpoint is read that a disk has damaged; AssertionError by `assert_consumed`.
_BROKEN = (tf.errors.OpError, OSError, ValueError, TypeError, IndexError, KeyError, RuntimeError, AssertionError)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Snapshot:
    """A checkpoint in memory.

    Attributes:
        name: Its name.
        files: Content of its files by name; the last one marks it as complete.
    """

    name: CheckpointName
    files: dict[str, bytes]

    def write(self, folder: StoragePath) -> None:
        """Write the files into a folder for checkpoints; raise a TrainError if that is not possible."""
        final = folder / str(self.name)
        try:
            if not (final / PROGRESS_FILE).is_file():
                for name, content in self.files.items():
                    (final / name).write(content)
        except OSError as error:
            with contextlib.suppress(OSError):
                _remove(final)
            raise _not_written(folder, error) from error


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self,
        folder: StoragePath,
        model: Any,
        optimizer: Any,
        keep: int,
        writer: BackgroundWriter,
        write_to: StoragePath | None = None,
        average: Any = None,
    ) -> None:
        """Describe the checkpoints; nothing is read or written yet.

        Args:
            folder: Folder of the checkpoints.
            model: Model whose variables are saved.
            optimizer: Optimizer whose slots are saved.
            keep: Number of latest checkpoints to keep.
            writer: Writes and removes the files.
            write_to: Folder for new checkpoints, if it is another one; `folder` is then only read.
            average: Model that has the average of the weights; None without one.
        """
        self._folder = folder
        self._write_to = write_to or folder
        self._keep = keep
        self._writer = writer
        averages = {"average": average} if average else {}
        self._variables = tf.train.Checkpoint(model=model, optimizer=optimizer, **averages)

    def restore_latest(self) -> TrainState:
        """Restore the latest intact checkpoint, and log the broken ones that it skips.

        Returns:
            Its training state; a new one if no checkpoint can be restored.
        """
        may_remove = self._write_to == self._folder
        if may_remove:
            _remove_unfinished(self._folder)
        state = self._restore_intact(may_remove)
        if may_remove:
            best = self._folder / _BEST
            here = CheckpointName(state.step, len(state.history))
            _remove(*(best / str(name) for name in complete_checkpoints(best) if name > here))
        return state

    def _restore_intact(self, may_remove: bool) -> TrainState:
        """Restore the latest intact checkpoint; see `restore_latest`."""
        for folder in reversed(_saved(self._folder)):
            try:
                state = self._verify_and_restore(folder)
            except _BROKEN as error:
                removed = " It is removed." if may_remove else ""
                _log.warning("Skipped: the checkpoint %s is broken (%s).%s", folder, _reason(error), removed)
                if may_remove:
                    _remove(folder)
                continue
            return state
        return TrainState()

    def restore_best(self, name: CheckpointName) -> None:
        """Restore the best checkpoint, after the writer has finished.

        Args:
            name: Its name. One of the latest checkpoints may have it, too.

        Raises:
            TrainError: There is none of this name, or it is broken.
        """
        self._writer.finish()
        best = self._folder / _BEST / str(name)
        problem = "it is missing"
        for folder in (best, self._folder / str(name)):
            if not (folder / PROGRESS_FILE).is_file():
                continue
            try:
                self._verify_and_restore(folder)
            except _BROKEN as error:
                problem = _reason(error)
            else:
                return
        raise TrainError(
            f"the checkpoint of the best epoch, {best}, is broken: {problem}. Later ones do not replace it. To "
            f"train again from the start, remove {self._folder} and run the same command."
        )

    def _verify_and_restore(self, folder: StoragePath) -> TrainState:
        """Restore a checkpoint after reading all of it; raise one of _BROKEN if it is broken."""
        with folder.at_hand() as path:
            state = TrainState.from_json((path / PROGRESS_FILE).read_bytes())
            _verify_checksums(path)
            self._restore(path)
        return state

    def save(self, state: TrainState) -> None:
        """Take a snapshot of the current state, to be written as the latest checkpoint; remove the oldest ones.

        Raises:
            TrainError: There is no room for the snapshot, or an earlier checkpoint could not be written; those
                before it are unchanged.
        """
        folder, snapshot = self._write_to, self._snapshot(state)

        def write() -> None:
            snapshot.write(folder)
            _remove_if_possible([*_saved(folder)[: -self._keep], *_superseded(folder)])

        self._writer.submit(write)

    def save_best(self, state: TrainState) -> None:
        """Take a snapshot of the current state, to be written as the best checkpoint.

        The previous one is removed as soon as no checkpoint from before this one is the latest.

        Raises:
            TrainError: As `save`; the previous best is unchanged.
        """
        folder, snapshot = self._write_to, self._snapshot(state)

        def write() -> None:
            snapshot.write(folder / _BEST)
            _remove_if_possible(_superseded(folder))

        self._writer.submit(write)

    def _snapshot(self, state: TrainState) -> "_Snapshot":
        """Return the current state; raise a TrainError if the folder for temporary files has no room for it."""
        with _written(self._variables) as paths:
            files = {path.name: path.read_bytes() for path in paths}
        files[PROGRESS_FILE] = state.to_json()
        return _Snapshot(CheckpointName(state.step, len(state.history)), files)

    def _restore(self, folder: Path) -> None:
        self._variables.read(str(folder / _STATE)).assert_consumed()


@contextmanager
def _written(variables: tf.train.Checkpoint) -> Iterator[list[Path]]:
    """Let TensorFlow write variables to a temporary folder, which is removed on exit; yield the files.

    Raises:
        TrainError: They cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(tempfile.TemporaryDirectory())
            variables.write(os.path.join(scratch, _STATE))
        except (tf.errors.OpError, OSError) as error:
            raise TrainError(
                f"cannot write a checkpoint to the folder for temporary files, {tempfile.tempdir or 'TMPDIR'}: "
                f"{_reason(error)}. Earlier checkpoints are kept. Free some space there, or choose another folder "
                "(export TMPDIR=FOLDER), and run the same command again: it continues from the latest one."
            ) from error
        yield sorted(Path(scratch).iterdir())


def _saved(folder: StoragePath) -> list[StoragePath]:
    """Return the complete checkpoints in a folder, earliest first."""
    return [folder / str(name) for name in complete_checkpoints(folder)]


def _superseded(folder: StoragePath) -> list[StoragePath]:
    """Return the best checkpoints except the last one, and the one that was the best at the latest checkpoint."""
    best = complete_checkpoints(folder / _BEST)
    latest = complete_checkpoints(folder)[-1:]
    needed = {*best[-1:], *[name for name in best if latest and name <= latest[0]][-1:]}
    return [folder / _BEST / str(name) for name in best if name not in needed]


def _remove_unfinished(folder: StoragePath) -> None:
    """Remove incomplete checkpoints, left by a run that was killed while it wrote or removed them.

    Only the files of a checkpoint are removed, and the folder if nothing else is in it.
    """
    files: dict[str, set[str]] = {}
    for path, _ in folder.files():
        name, _, file = path.rpartition("/")
        files.setdefault(name, set()).add(file)
    folder.remove_leftovers()
    for name, file_names in files.items():
        is_checkpoint = CheckpointName.parse(name.removeprefix(f"{_BEST}/")) is not None
        if is_checkpoint and PROGRESS_FILE not in file_names:
            _remove_files(folder / name, file_names)


def _verify_checksums(folder: Path) -> None:
    """Read every tensor of a checkpoint, so that TensorFlow verifies its checksum.

    Raises:
        tf.errors.OpError, ValueError: A checksum differs, or a file does not belong to a checkpoint.
        IndexError: A file is truncated.
    """
    reader = tf.train.load_checkpoint(str(folder / _STATE))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _reason(error: Exception) -> str:
    """Return the message of an error without the names of TensorFlow's operations."""
    if isinstance(error, tf.errors.OpError):
        return str(error.message).rpartition("; ")[2].partition(" [Op:")[0]
    return describe(error) if isinstance(error, OSError) else str(error)


def _not_written(place: StoragePath, error: Exception) -> TrainError:
    return TrainError(
        f"cannot write a checkpoint to {place}: {_reason(error)}. Earlier checkpoints are kept. Fix "
        "the problem and run the same command again: it continues from the latest one."
    )


def _remove_if_possible(folders: list[StoragePath]) -> None:
    """Remove checkpoints that are no longer needed; one that cannot be removed is no reason to end training."""
    try:
        _remove(*folders)
    except OSError as error:
        _log.warning("Cannot remove an old checkpoint: %s. Training continues.", describe(error))


def _remove(*folders: StoragePath) -> None:
    """Remove checkpoints, progress.json first."""
    for folder in folders:
        (folder / PROGRESS_FILE).remove()
        _remove_files(folder, folder.names())


def _remove_files(folder: StoragePath, names: Iterable[str]) -> None:
    """Remove the files of a checkpoint, and its folder if it is empty then."""
    for name in names:
        if name.startswith(f"{_STATE}."):
            (folder / name).remove()
    folder.remove_empty_folder()
