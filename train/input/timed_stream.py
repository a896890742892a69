"""Batches with the times at which they were ready, from which the time spent waiting for them is computed.

Several steps run in one call of a TensorFlow function, which draws their batches itself. TensorFlow has no clock
that works inside it: `tf.timestamp` is refused where operations are deterministic, and calling Python twice a step
would take half as long again as everything else between two steps. The input pipeline runs in Python anyway and
can note the time.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

from train.input.batches import ReplicaBatch, SegmentStream


class TimedStream(SegmentStream):
    """Batches of segments, each with the time at which it was ready."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Prepare to read batches; see `SegmentStream`."""
        super().__init__(*arguments, **named)
        self._ready_at: dict[int, float] = {}  # of the batches that were read and are not trained on yet

    def replica_batch(self, step: int, replica: int, replicas: int) -> ReplicaBatch:
        """Return one replica's part of the batch of a step, as `SegmentStream` does, and note the time."""
        part = super().replica_batch(step, replica, replicas)
        self._ready_at[step] = time.perf_counter()
        return part

    def take_times(self, start: int, stop: int) -> list[float]:
        """Return when the batches of the steps [start, stop) were ready, and forget these times.

        Returns:
            Values of `time.perf_counter`: for each step when the last of its parts was ready, -infinity for a step
            whose batch was not read.
        """
        return [self._ready_at.pop(step, -math.inf) for step in range(start, stop)]


def seconds_waited(start: float, end: float, ready: Sequence[float]) -> float:
    """Return how long the steps of one call waited for their batches, if each of them computed equally long.

    Step j begins when its batch is ready and step j - 1 has ended: end[j] = max(end[j - 1], ready[j]) + s. The
    call ends at `end` for a single s, the smallest of (end - ready[j]) / (steps - j). The rest of the time is
    waiting.

    Args:
        start: When the call began.
        end: When the last of its steps ended.
        ready: When the batch of each step was ready.
    """
    steps = len(ready)
    computing = min((end - max(start, at)) / (steps - index) for index, at in enumerate(ready))
    return min(max(end - start - steps * computing, 0.0), end - start)
