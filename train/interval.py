"""An interval in training, in minutes, steps or epochs."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Interval:
    """Interval in training; exactly one of the three fields is set."""

    minutes: int | None = None
    steps: int | None = None
    epochs: int | None = None

    def is_due(self, seconds: float, steps: int, epoch_ended: bool, epochs: int) -> bool:
        """Return whether the interval has passed.

        Args:
            seconds: Seconds since the last time.
            steps: Number of steps finished since the start of training.
            epoch_ended: Whether an epoch has just ended.
            epochs: Number of epochs finished since the start of training.
        """
        if self.minutes is not None:
            return seconds >= 60 * self.minutes
        if self.steps is not None:
            return steps % self.steps == 0
        return epoch_ended and epochs % (self.epochs or 1) == 0
