"""The errors of training, below the root of all of Earmark's, `featurize.errors.EarmarkError`."""

from featurize.errors import EarmarkError


class TrainError(EarmarkError):
    """Training, evaluation, a report or an export cannot start or continue."""


class NotFiniteError(TrainError):
    """A model computes probabilities that are not finite."""


class Stopped(Exception):  # noqa: N818 - not an error: it was requested
    """Training was asked to stop, and a checkpoint holds everything up to here.

    Attributes:
        signal: Number of the signal that asked for it.
        step: Number of finished steps.
    """

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.signal = signal
        self.step = step
