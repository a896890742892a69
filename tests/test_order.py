"""Samplers: every row once per epoch, well shuffled, reproducible; batch and replica bounds."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.input.sampler import (
    SMALLEST_TAIL,
    SequentialSampler,
    ShuffleSampler,
    batch_bounds,
    replica_bounds,
    steps_per_epoch,
)

row_groups = st.lists(st.integers(1, 200), min_size=1, max_size=40)


def epoch_rows(order, epoch, sizes):
    """Return the row at each position of an epoch, numbered over the whole dataset."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    plan = order.epoch_plan(epoch)
    rows = []
    for w, visits in enumerate(plan.windows):
        window_rows = np.concatenate(
            [first[plan.groups[v]] + order.group_rows(epoch, plan.groups[v], plan.repeats[v]) for v in visits]
        )
        window_rows = window_rows[order.window_slots(epoch, w)]
        assert len(window_rows) == plan.offsets[w + 1] - plan.offsets[w]
        rows.append(window_rows)
    return np.concatenate(rows)


@given(sizes=row_groups, seed=st.integers(0, 2**31 - 1), window=st.integers(1, 5000), epoch=st.integers(0, 1000))
def test_every_row_appears_once_per_epoch(sizes, seed, window, epoch):
    order = ShuffleSampler(sizes, seed, window)
    rows = epoch_rows(order, epoch, sizes)
    assert sorted(rows.tolist()) == list(range(sum(sizes)))
    assert epoch_rows(ShuffleSampler(sizes, seed, window), epoch, sizes).tolist() == rows.tolist()


@given(sizes=row_groups, window=st.integers(1, 5000))
def test_windows_have_about_the_configured_size(sizes, window):
    order = ShuffleSampler(sizes, 0, window)
    window_sizes = np.diff(order.epoch_plan(0).offsets)
    assert (window_sizes > 0).all()
    assert window_sizes.max() <= 1.5 * window + 2 * max(sizes)


def test_epochs_and_seeds_differ():
    sizes = [96] * 30
    orders = {
        tuple(epoch_rows(ShuffleSampler(sizes, seed, 500), epoch, sizes))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_the_position_of_a_row_does_not_depend_on_where_it_is_stored():
    """Over many epochs each row's mean position is in the middle, and rows stored side by side are separated."""
    sizes = [48] * 40
    n, epochs = sum(sizes), 300
    order = ShuffleSampler(sizes, 5, 480)
    positions = np.empty((epochs, n))
    for epoch in range(epochs):
        positions[epoch, epoch_rows(order, epoch, sizes)] = np.arange(n) / n
    spread = 1 / np.sqrt(12)
    assert np.abs(positions.mean(axis=0) - 0.5).max() < 5 * spread / np.sqrt(epochs)
    assert np.abs(positions.std(axis=0) - spread).max() < 0.25 * spread
    distance = np.abs(np.diff(positions, axis=1)).mean()
    assert distance > 0.2 * 480 / n


def test_classes_in_separate_shards_are_mixed_in_every_batch():
    """The share of a class in a batch varies as expected when row groups, and rows from them, are drawn."""
    group_rows, groups, window, batch = 96, 960, 4096, 256
    sizes = [group_rows] * groups
    label_of_row = np.repeat(np.arange(3), groups // 3 * group_rows)
    order = ShuffleSampler(sizes, 11, window)
    share = 1 / 3
    deviation = np.sqrt(share * (1 - share) * (group_rows / window + 1 / batch))
    batches = label_of_row[epoch_rows(order, 0, sizes)].reshape(-1, batch)
    shares = np.stack([(batches == label).mean(axis=1) for label in range(3)])
    assert np.abs(shares - share).max() < 5 * deviation
    assert shares.std() < 1.2 * deviation
    assert shares.min() > 0


tracks_of_groups = st.lists(st.integers(1, 8), min_size=1, max_size=20)


@given(tracks=tracks_of_groups, segments=st.integers(1, 12), seed=st.integers(0, 1000), data=st.data())
def test_an_epoch_draws_segments_per_epoch_of_each_track(tracks, segments, seed, data):
    drawn = data.draw(st.integers(1, 15))
    sizes = [count * segments for count in tracks]
    order = ShuffleSampler(sizes, seed, 100, segments, drawn)
    rows = epoch_rows(order, 3, sizes)
    assert len(rows) == len(set(rows)) == order.rows
    expected = np.full(sum(tracks), min(drawn, segments))
    np.testing.assert_array_equal(np.bincount(rows // segments, minlength=sum(tracks)), expected)


def test_over_the_epochs_every_segment_is_drawn_equally_often():
    sizes, epochs = [8 * 12] * 4, 400
    order = ShuffleSampler(sizes, 0, 4096, 12, 3)
    rows = np.concatenate([epoch_rows(order, epoch, sizes) for epoch in range(epochs)])
    counts = np.bincount(rows, minlength=sum(sizes))
    assert np.abs(counts / epochs - 3 / 12).max() < 5 * np.sqrt(0.25 * 0.75 / epochs)


@given(tracks=tracks_of_groups, classes=st.integers(1, 5), seed=st.integers(0, 1000), data=st.data())
def test_balanced_sampling_visits_classes_and_their_tracks_equally_often(tracks, classes, seed, data):
    segments, count = 3, sum(tracks)
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)), np.int32)
    sizes = [n * segments for n in tracks]
    order = ShuffleSampler(sizes, seed, 50, segments, labels=labels)
    rows = epoch_rows(order, 1, sizes)
    assert len(rows) == order.rows
    times = np.bincount(rows // segments, minlength=count) // segments
    per_class = np.bincount(labels, weights=times)
    assert set(per_class[np.unique(labels)]) == {np.bincount(labels).max()}
    for label in np.unique(labels):
        assert np.ptp(times[labels == label]) <= 1
    np.testing.assert_array_equal(np.bincount(rows, minlength=count * segments), np.repeat(times, segments))
    again = ShuffleSampler(sizes, seed, 50, segments, labels=labels)
    assert epoch_rows(again, 1, sizes).tolist() == rows.tolist()


def test_repeated_tracks_are_spread_over_the_epoch():
    """A class of one track and another of 103: the visits to the one track are spread over the epoch."""
    labels = np.zeros(104, np.int32)
    labels[50] = 1
    sizes = [8 * 4] * 13
    order = ShuffleSampler(sizes, 2, 40, 4, labels=labels)
    rows = epoch_rows(order, 0, sizes)
    positions = np.flatnonzero(rows // 4 == 50) / len(rows)
    assert len(positions) == 103 * 4
    np.testing.assert_allclose(np.histogram(positions, bins=4, range=(0, 1))[0] / len(positions), 0.25, atol=0.1)


@given(rows=st.integers(1, 5000), batch_size=st.integers(1, 600))
def test_batches_cover_an_epoch_and_have_a_minimum_size(rows, batch_size):
    steps = steps_per_epoch(rows, batch_size)
    bounds = [batch_bounds(step, rows, batch_size) for step in range(steps)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    assert all(stop - start == batch_size for start, stop in bounds[:-1])
    smallest = min(SMALLEST_TAIL, batch_size, rows)
    assert all(smallest <= stop - start < batch_size + SMALLEST_TAIL for start, stop in bounds)


@given(start=st.integers(0, 10**9), rows=st.integers(1, 1000), replicas=st.integers(1, 32))
def test_a_batch_is_divided_evenly_over_replicas(start, rows, replicas):
    parts = [replica_bounds(start, start + rows, r, replicas) for r in range(replicas)]
    assert parts[0][0] == start
    assert parts[-1][1] == start + rows
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    sizes = [stop - first for first, stop in parts]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= (1 if rows >= replicas else 0)


@given(tracks=st.lists(st.integers(1, 8), min_size=1, max_size=20), segments=st.integers(1, 12), data=st.data())
def test_stored_order_keeps_the_selected_segments_of_each_track(tracks, segments, data):
    kept = data.draw(st.sets(st.integers(0, segments - 1), min_size=1))
    sizes = [count * segments for count in tracks]
    order = SequentialSampler(sizes, segments, sorted(kept))
    rows = epoch_rows(order, 0, sizes)
    expected = [row for row in range(sum(sizes)) if row % segments in kept]
    assert rows.tolist() == expected
    assert order.rows == len(expected)
