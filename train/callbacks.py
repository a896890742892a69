"""Who is told how training goes, and may ask for its end. Without TensorFlow, for those who only listen."""

import dataclasses
from collections.abc import Callable

from train.records import EpochRecord


class Stopped(Exception):  # noqa: N818 - no error: it was asked for
    """Training was asked to stop, and a checkpoint holds everything up to here."""

    def __init__(self, reason: int, step: int) -> None:
        """Take the number of the signal, and the steps that are done."""
        super().__init__(f"stopped after step {step}")
        self.signal = reason
        self.step = step


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """Who is told what happens, and may ask for an end.

    Attributes:
        remark: called with each sentence that the user may want to read.
        step: called with (steps done, steps in all) after each step.
        epoch: called with the entry of `history.json` after each epoch, and with the number of epochs.
        stop: called between steps; a signal's number asks for a checkpoint and the end.
    """

    remark: Callable[[str], None] = lambda text: None
    step: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[EpochRecord, int], None] = lambda entry, epochs: None
    stop: Callable[[], int | None] = lambda: None
