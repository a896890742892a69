"""The order of training is arithmetic: everything once, well mixed, and the same from wherever one starts."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.order import (
    SMALLEST_TAIL,
    ShuffledOrder,
    StoredOrder,
    batch_bounds,
    replica_bounds,
    steps_per_epoch,
)

row_groups = st.lists(st.integers(1, 200), min_size=1, max_size=40)


def visited(order, epoch, sizes):
    """The global row numbers of a pass, in the order in which they are taken."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    one_pass = order.of_epoch(epoch)
    rows = []
    for w, groups in enumerate(one_pass.windows):
        held = np.concatenate([np.arange(first[g], first[g + 1]) for g in groups])
        picked = held[order.within(epoch, w)]
        assert len(picked) == one_pass.offsets[w + 1] - one_pass.offsets[w]
        rows.append(picked)
    return np.concatenate(rows)


@given(sizes=row_groups, seed=st.integers(0, 2**31 - 1), window=st.integers(1, 5000), epoch=st.integers(0, 1000))
def test_every_row_comes_once_an_epoch(sizes, seed, window, epoch):
    order = ShuffledOrder(sizes, seed, window)
    rows = visited(order, epoch, sizes)
    assert sorted(rows.tolist()) == list(range(sum(sizes)))
    assert visited(ShuffledOrder(sizes, seed, window), epoch, sizes).tolist() == rows.tolist()


@given(sizes=row_groups, window=st.integers(1, 5000))
def test_windows_are_about_as_large_as_asked(sizes, window):
    order = ShuffledOrder(sizes, 0, window)
    held = np.diff(order.of_epoch(0).offsets)
    assert (held > 0).all()
    assert held.max() <= 1.5 * window + 2 * max(sizes)


def test_epochs_and_seeds_differ():
    sizes = [96] * 30
    orders = {
        tuple(visited(ShuffledOrder(sizes, seed, 500), epoch, sizes)) for seed in range(3) for epoch in range(3)
    }
    assert len(orders) == 9


def test_a_row_may_come_anywhere_whatever_its_place_on_disk():
    """Over many epochs each row's mean position is in the middle, and rows stored side by side part."""
    sizes = [48] * 40
    n, epochs = sum(sizes), 300
    order = ShuffledOrder(sizes, 5, 480)
    positions = np.empty((epochs, n))
    for epoch in range(epochs):
        positions[epoch, visited(order, epoch, sizes)] = np.arange(n) / n
    spread = 1 / np.sqrt(12)
    assert np.abs(positions.mean(axis=0) - 0.5).max() < 5 * spread / np.sqrt(epochs)
    assert np.abs(positions.std(axis=0) - spread).max() < 0.25 * spread
    beside = np.abs(np.diff(positions, axis=1)).mean()
    assert beside > 0.2 * 480 / n


@given(rows=st.integers(1, 5000), batch_size=st.integers(1, 600))
def test_batches_cover_an_epoch_and_none_is_tiny(rows, batch_size):
    steps = steps_per_epoch(rows, batch_size)
    bounds = [batch_bounds(step, rows, batch_size) for step in range(steps)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    assert all(stop - start == batch_size for start, stop in bounds[:-1])
    smallest = min(SMALLEST_TAIL, batch_size, rows)
    assert all(smallest <= stop - start < batch_size + SMALLEST_TAIL for start, stop in bounds)


@given(start=st.integers(0, 10**9), rows=st.integers(1, 1000), replicas=st.integers(1, 32))
def test_replicas_share_a_batch_evenly_and_none_is_left_out(start, rows, replicas):
    parts = [replica_bounds(start, start + rows, r, replicas) for r in range(replicas)]
    assert parts[0][0] == start
    assert parts[-1][1] == start + rows
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    sizes = [stop - first for first, stop in parts]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= (1 if rows >= replicas else 0)


@given(tracks=st.lists(st.integers(1, 8), min_size=1, max_size=20), segments=st.integers(1, 12), data=st.data())
def test_stored_order_keeps_the_wanted_segments_of_each_track(tracks, segments, data):
    kept = data.draw(st.sets(st.integers(0, segments - 1), min_size=1))
    sizes = [count * segments for count in tracks]
    order = StoredOrder(sizes, segments, sorted(kept))
    rows = visited(order, 0, sizes)
    expected = [row for row in range(sum(sizes)) if row % segments in kept]
    assert rows.tolist() == expected
    assert order.rows == len(expected)
