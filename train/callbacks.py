"""Training callbacks. Free of TensorFlow, so that processes that only relay progress need not import it."""

import dataclasses
from collections.abc import Callable

from train.records import EpochRecord


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """Functions that receive the progress of training, and may request a stop.

    Attributes:
        step: Called with (finished steps, all steps) after each call of TensorFlow, of one or more steps.
        epoch: Called with the record of each finished epoch, and the number of epochs.
        stop: Called between such calls; returns the number of a signal to ask for a checkpoint and the end, else
            None.
        measured: Called with (finished steps, loss of the latest step in nats, share of the time that the latest
            steps waited for their batches) after each call of TensorFlow.
    """

    step: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[EpochRecord, int], None] = lambda record, epochs: None
    stop: Callable[[], int | None] = lambda: None
    measured: Callable[[int, float, float], None] = lambda done, loss, wait: None
