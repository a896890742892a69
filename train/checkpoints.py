"""Checkpoints of a run: the latest few to go on from, and the best one to keep."""

from pathlib import Path
from typing import Any

import tensorflow as tf


class Checkpoints:
    """Everything that training needs to go on where it was: weights, optimizer slots and the step."""

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
        self._step.assign(step)
        self._latest.save(checkpoint_number=step)

    def save_best(self, step: int) -> None:
        """Save the state after some steps as the best so far."""
        self._step.assign(step)
        self._best.save(checkpoint_number=step)
