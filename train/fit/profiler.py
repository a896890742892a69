"""A profile of some training steps, for TensorBoard's profile plugin."""

from pathlib import Path

import tensorflow as tf


class StepProfiler:
    """Starts and stops TensorFlow's profiler around the configured steps."""

    def __init__(self, steps: tuple[int, int] | None, folder: Path) -> None:
        """Prepare to profile.

        Args:
            steps: First and last step to profile; the first step of training is 1. None for no profile.
            folder: Folder of a run of TensorBoard; the profile is written to `plugins/profile` in it.
        """
        self._before, self._last = (steps[0] - 1, steps[1]) if steps else (0, 0)
        self._folder = folder
        self._running = False

    def steps_to_border(self, step: int) -> int | None:
        """Return after how many steps the profile starts or ends; None if it is over.

        Args:
            step: Number of finished steps.
        """
        return next((border - step for border in (self._before, self._last) if border > step), None)

    def start_or_stop(self, step: int) -> None:
        """Start the profiler if the step after `step` finished ones is to be profiled; else stop it."""
        wanted = self._before <= step < self._last
        if wanted and not self._running:
            tf.profiler.experimental.start(str(self._folder))
            self._running = True
        elif self._running and not wanted:
            self.close()

    def close(self) -> None:
        """Stop the profiler if it is running, which writes what it has."""
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()
