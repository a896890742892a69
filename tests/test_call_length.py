"""Calls of several steps: their lengths, and the time that their steps wait for batches."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.config import TrainConfig


def lengths(seconds_per_step, steps, epoch, **changes):
    """Return the lengths of the calls of some epochs whose steps take as long as given."""
    from train.fit.call_length import CallLength

    chosen, step = CallLength(TrainConfig(**changes)), 0
    found = []
    while step < steps:
        found.append(chosen.steps(step, (step // epoch + 1) * epoch))
        chosen.measure(found[-1], found[-1] * seconds_per_step)
        step += found[-1]
    return found


def test_calls_grow_to_half_a_second_and_end_at_points_checkpoints_and_epochs():
    assert lengths(0.001, 150, 10**6) == [1, 1, 4, 16, 28, 50, 50]
    assert lengths(0.001, 120, 60, steps_per_call=32) == [1, 1, 4, 16, 28, 10, 32, 8, 20]
    assert lengths(0.001, 40, 10**6, checkpoint_every="7 steps") == [1, 1, 4, 1, 7, 7, 7, 7, 7]
    assert lengths(0.1, 20, 10**6) == [1, 1, 4, 5, 5, 5]
    assert lengths(2.0, 4, 10**6) == lengths(0.001, 4, 10**6, steps_per_call=1) == [1, 1, 1, 1]


@pytest.mark.parametrize("value", [0, 1001, "all", 1.5])
def test_other_lengths_are_refused(value):
    with pytest.raises(ValueError, match="steps_per_call"):
        TrainConfig(steps_per_call=value)


@given(
    computing=st.floats(1e-3, 1),
    ready=st.lists(st.floats(-5, 30), min_size=1, max_size=32),
)
def test_the_wait_of_the_steps_of_a_call_is_computed_from_its_end(computing, ready):
    from train.input.timed_stream import seconds_waited

    start = end = 2.0
    waited = 0.0
    for at in ready:
        waited += max(at - end, 0)
        end = max(at, end) + computing
    assert seconds_waited(start, end, ready) == pytest.approx(waited, abs=1e-9)
    assert seconds_waited(start, end, [-math.inf] * len(ready)) == pytest.approx(0, abs=1e-9)


def test_a_slow_reader_is_seen_as_waiting(features, logical_cpus, monkeypatch, tmp_path):
    from support.training import trained

    from train.input.batches import SegmentStream

    real = SegmentStream.replica_batch

    def slow(stream, *arguments):
        time.sleep(0.2 if arguments[0] < 10 else 0)
        return real(stream, *arguments)

    monkeypatch.setattr(SegmentStream, "replica_batch", slow)
    _, epochs = trained(features, tmp_path, model="modulation", steps_per_call=4, epochs=2)
    assert epochs[0].wait_fraction * epochs[0].seconds > 0.3
    assert epochs[1].wait_fraction < epochs[0].wait_fraction
