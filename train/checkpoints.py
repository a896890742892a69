"""Checkpoints of a run: the latest few to go on from, and the best one to keep."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from train.config import TrainError


class Checkpoints:
    """Everything that training needs to go on where it was: weights, optimizer slots and the step.

    Raises a TrainError where a checkpoint cannot be written.
    """

    def __init__(self, folder: Path, model: Any, optimizer: Any, keep: int) -> None:
        """Take what is to be saved; must be called under the strategy's scope."""
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer, step=self._step)
        self._latest = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=keep)
        self._best = tf.train.CheckpointManager(checkpoint, str(folder / "best"), max_to_keep=1)

    def restore_latest(self) -> int:
        """Go back to the latest checkpoint and return its step; 0 where there is none."""
        self._latest.restore_or_initialize()
        return int(self._step.numpy())

    def restore_best(self) -> None:
        """Go back to the best checkpoint."""
        self._best.restore_or_initialize()

    def save(self, step: int) -> None:
        """Save the state after some steps as the latest."""
        self._save(self._latest, step)

    def save_best(self, step: int) -> None:
        """Save the state after some steps as the best so far."""
        self._save(self._best, step)

    def _save(self, manager: tf.train.CheckpointManager, step: int) -> None:
        self._step.assign(step)
        try:
            manager.save(checkpoint_number=step)
        except tf.errors.OpError as error:
            reason = error.message.rpartition("; ")[2]  # behind the name of the operation and the file
            raise TrainError(
                f"cannot write a checkpoint to {manager.directory}: {reason}. Earlier ones are kept; mend "
                "it, and the same command goes on from the latest."
            ) from error
