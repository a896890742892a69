"""Samplers: every row once per epoch, well shuffled, reproducible; batches, lanes and replicas."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.input.lanes import (
    SMALLEST_TAIL,
    Lanes,
    batch_bounds,
    lane_count,
    replica_bounds,
    steps_per_epoch,
)
from train.input.sampler import ShuffleSampler
from train.input.stored_order import SequentialSampler

row_groups = st.lists(st.integers(1, 200), min_size=1, max_size=40)
many_row_groups = st.lists(st.integers(1, 12), min_size=1, max_size=300)


def lane_rows(order, epoch, lane, sizes):
    """Return the row at each position of a lane, numbered over the whole dataset."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    plan = order.lane_plan(epoch, lane)
    windows = []
    for window in range(plan.windows):
        visits = plan.window_visits(window)
        slots = np.concatenate([first[visit.group] + order.group_rows(epoch, visit) for visit in visits])
        assert len(slots) == sum(visit.rows for visit in visits) == plan.window_rows(window)
        windows.append(slots[order.window_slots(epoch, lane, window)])
    return np.concatenate(windows)


def epoch_batches(order, epoch, sizes):
    """Return the rows of each batch of an epoch, numbered over the whole dataset."""
    of_lane = [lane_rows(order, epoch, lane, sizes) for lane in range(order.lanes.count)]
    return [
        np.concatenate([of_lane[lane][start:stop] for lane, start, stop in spans_of(order.lanes, step)])
        for step in range(order.lanes.steps)
    ]


def spans_of(lanes, step):
    return list(lanes.spans(step, 0, lanes.batch_rows(step)))


def epoch_rows(order, epoch, sizes):
    """Return the rows of an epoch in the order of its batches, numbered over the whole dataset."""
    return np.concatenate(epoch_batches(order, epoch, sizes))


seeds = st.integers(0, 2**31 - 1)


@given(sizes=many_row_groups, seed=seeds, window=st.integers(1, 5000), batch=st.integers(1, 300), data=st.data())
def test_every_row_appears_once_per_epoch(sizes, seed, window, batch, data):
    epoch = data.draw(st.integers(0, 1000))
    order = ShuffleSampler(sizes, seed, window, batch)
    rows = epoch_rows(order, epoch, sizes)
    assert sorted(rows.tolist()) == list(range(sum(sizes)))
    assert epoch_rows(ShuffleSampler(sizes, seed, window, batch), epoch, sizes).tolist() == rows.tolist()


@given(sizes=many_row_groups, batch=st.integers(1, 300), epoch=st.integers(1, 1000))
def test_a_lane_has_the_same_rows_in_every_epoch(sizes, batch, epoch):
    order = ShuffleSampler(sizes, 3, 50, batch)
    assert order.lanes.count == lane_count(batch, len(sizes))
    for lane in range(order.lanes.count):
        rows = lane_rows(order, epoch, lane, sizes)
        assert set(rows) == set(lane_rows(order, 0, lane, sizes))
        # Row groups are divided between neighboring lanes only.
        assert len(set(np.searchsorted(np.cumsum(sizes), rows, "right"))) <= len(order.lane_plan(0, lane).visits)


@given(
    batches=st.floats(0.1, 5),
    batch_size=st.integers(1, 600),
    exponent=st.integers(0, 6),
    replicas=st.integers(1, 70),
)
def test_lanes_divide_every_batch_and_the_epoch(batches, batch_size, exponent, replicas):
    rows, count = max(int(batches * batch_size), 1), 2**exponent
    lanes = Lanes(rows, batch_size, count)
    positions = [0] * count
    for step in range(lanes.steps):
        spans = spans_of(lanes, step)
        assert sum(stop - start for _, start, stop in spans) == lanes.batch_rows(step)
        for lane, start, stop in spans:
            assert start == positions[lane]
            assert 0 < stop - start <= lanes.most_rows
            positions[lane] = stop
        parts = []
        for replica in range(replicas):
            parts += lanes.spans(step, *replica_bounds(0, lanes.batch_rows(step), replica, replicas))
        assert [(s.lane, p) for s in parts for p in range(s.start, s.stop)] == [
            (s.lane, p) for s in spans for p in range(s.start, s.stop)
        ]
    assert positions == np.diff(lanes.borders).tolist()
    assert lanes.borders[-1] == rows


@given(batch_size=st.integers(1, 1000), groups=st.integers(0, 5000))
def test_the_number_of_lanes_is_a_power_of_two_within_its_limits(batch_size, groups):
    count = lane_count(batch_size, groups)
    most = max(1, min(64, batch_size, groups // 16))
    assert count in {1, 2, 4, 8, 16, 32, 64}
    assert count <= most < 2 * count or count == 64


@given(sizes=row_groups, window=st.integers(1, 5000), batch=st.integers(1, 300))
def test_windows_have_about_the_configured_size(sizes, window, batch):
    order = ShuffleSampler(sizes, 0, window, batch)
    for lane in range(order.lanes.count):
        plan = order.lane_plan(0, lane)
        window_sizes = [plan.window_rows(index) for index in range(plan.windows)]
        assert min(window_sizes) > 0
        assert max(window_sizes) <= max(window // order.lanes.count, 1) + max(sizes)


def test_windows_of_the_lanes_end_at_different_steps():
    order = ShuffleSampler([96] * 4096, 0, 32768, 256)
    assert order.lanes.count == 64
    borders = [order.lane_plan(0, lane).offsets[2] for lane in range(64)]
    in_quarters, _ = np.histogram(borders, bins=4, range=(464, 1072))
    assert in_quarters.sum() == 64
    assert in_quarters.max() <= 28


def test_a_lane_of_one_window_has_the_same_slots_in_every_epoch():
    """So a dataset that is smaller than the window is read once, and permuted anew in each epoch."""
    sizes = [12] * 64
    order = ShuffleSampler(sizes, 0, 4096, 64, segments_per_track=12)
    assert order.lanes.count == 4
    for lane in range(4):
        assert order.content_epoch(7, lane) == 0
        assert order.lane_plan(7, lane) is order.lane_plan(0, lane)
    assert epoch_rows(order, 0, sizes).tolist() != epoch_rows(order, 7, sizes).tolist()
    assert ShuffleSampler(sizes, 0, 4096, 64, 12, segments_per_epoch=3).content_epoch(7, 0) == 7
    assert ShuffleSampler(sizes, 0, 100, 64, 12).content_epoch(7, 0) == 7


def test_epochs_and_seeds_differ():
    sizes = [96] * 30
    orders = {
        tuple(epoch_rows(ShuffleSampler(sizes, seed, 500, 64), epoch, sizes))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


@pytest.mark.parametrize("batch", [1, 64], ids=["one lane", "two lanes"])
def test_the_position_of_a_row_does_not_depend_on_where_it_is_stored(batch):
    """Over many epochs each row's mean position is in the middle, and rows stored side by side are separated."""
    sizes = [48] * 40
    n, epochs = sum(sizes), 300
    order = ShuffleSampler(sizes, 5, 480, batch)
    assert order.lanes.count == (2 if batch > 1 else 1)
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
    order = ShuffleSampler(sizes, 11, window, batch)
    share = 1 / 3
    deviation = np.sqrt(share * (1 - share) * (group_rows / window + 1 / batch))
    batches = label_of_row[epoch_rows(order, 0, sizes)].reshape(-1, batch)
    shares = np.stack([(batches == label).mean(axis=1) for label in range(3)])
    assert np.abs(shares - share).max() < 5 * deviation
    assert shares.std() < 1.2 * deviation
    assert shares.min() > 0


def shuffle_quality(batches, labels, tracks):
    """Return the mean class chi-square per degree of freedom, and the pairs of segments of one track per batch."""
    shares = np.bincount(labels) / len(labels)
    counts = np.stack([np.bincount(labels[rows], minlength=len(shares)) for rows in batches])
    expected = shares * counts.sum(axis=1, keepdims=True)
    chi_square = ((counts - expected) ** 2 / expected).sum(axis=1).mean() / (len(shares) - 1)
    pairs = 0
    for rows in batches:
        _, of_track = np.unique(tracks[rows], return_counts=True)
        pairs += (of_track * (of_track - 1) // 2).sum()
    return chi_square, pairs / len(batches)


def test_the_default_window_shuffles_about_as_well_as_a_full_shuffle():
    """196,608 segments of 16,384 tracks in batches of 256, compared with a full shuffle and the former window."""
    from train.config import TrainConfig

    segments, groups, batch = 12, 2048, 256
    sizes = [8 * segments] * groups
    random = np.random.default_rng(0)
    labels = np.repeat(random.choice(10, 8 * groups, p=np.arange(1, 11) / 55), segments)
    tracks = np.repeat(np.arange(8 * groups), segments)
    window = TrainConfig().shuffle_window

    def batches_of(window):
        order = ShuffleSampler(sizes, 1, window, batch, segments)
        assert order.lanes.count == 64
        return [batch for epoch in range(2) for batch in epoch_batches(order, epoch, sizes)]

    full = [rows for _ in range(2) for rows in random.permutation(len(labels)).reshape(-1, batch)]
    chi_square, pairs = shuffle_quality(batches_of(window), labels, tracks)
    full_chi_square, full_pairs = shuffle_quality(full, labels, tracks)
    print(f"chi-square {chi_square:.3f}, full shuffle {full_chi_square:.3f}; pairs {pairs:.2f}, {full_pairs:.2f}")
    assert abs(full_chi_square - 1) < 0.05
    assert chi_square < 1.1
    assert pairs < 15  # of 32,640; a window of 4,096 without lanes has 88
    # Neighboring batches are as unlike as distant ones.
    shares = np.stack([np.bincount(labels[rows], minlength=10) for rows in batches_of(window)]) / batch
    centered = shares - shares.mean(axis=0)
    for lag in (1, 2, 8):
        correlation = (centered[lag:] * centered[:-lag]).mean() / (centered**2).mean()
        assert abs(correlation) < 0.1


tracks_of_groups = st.lists(st.integers(1, 8), min_size=1, max_size=60)


@given(tracks=tracks_of_groups, segments=st.integers(1, 12), seed=st.integers(0, 1000), data=st.data())
def test_an_epoch_draws_segments_per_epoch_of_each_track(tracks, segments, seed, data):
    drawn = data.draw(st.integers(1, 15))
    sizes = [count * segments for count in tracks]
    order = ShuffleSampler(sizes, seed, 100, data.draw(st.integers(1, 100)), segments, drawn)
    rows = epoch_rows(order, 3, sizes)
    assert len(rows) == len(set(rows)) == order.lanes.rows
    expected = np.full(sum(tracks), min(drawn, segments))
    np.testing.assert_array_equal(np.bincount(rows // segments, minlength=sum(tracks)), expected)


def test_over_the_epochs_every_segment_is_drawn_equally_often():
    sizes, epochs = [8 * 12] * 4, 400
    order = ShuffleSampler(sizes, 0, 4096, 64, 12, 3)
    rows = np.concatenate([epoch_rows(order, epoch, sizes) for epoch in range(epochs)])
    counts = np.bincount(rows, minlength=sum(sizes))
    assert np.abs(counts / epochs - 3 / 12).max() < 5 * np.sqrt(0.25 * 0.75 / epochs)


@given(tracks=tracks_of_groups, classes=st.integers(1, 5), seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=60)
def test_balanced_sampling_visits_classes_and_their_tracks_equally_often(tracks, classes, seed, data):
    segments, count = 3, sum(tracks)
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)), np.int32)
    sizes = [n * segments for n in tracks]
    batch = data.draw(st.integers(1, 100))
    order = ShuffleSampler(sizes, seed, 50, batch, segments, labels=labels)
    rows = epoch_rows(order, 1, sizes)
    assert len(rows) == order.lanes.rows
    times = np.bincount(rows // segments, minlength=count) // segments
    per_class = np.bincount(labels, weights=times)
    assert set(per_class[np.unique(labels)]) == {np.bincount(labels).max()}
    for label in np.unique(labels):
        assert np.ptp(times[labels == label]) <= 1
    np.testing.assert_array_equal(np.bincount(rows, minlength=count * segments), np.repeat(times, segments))
    again = ShuffleSampler(sizes, seed, 50, batch, segments, labels=labels)
    assert epoch_rows(again, 1, sizes).tolist() == rows.tolist()


def test_balanced_sampling_repeats_all_tracks_of_a_class_equally_often_over_the_epochs():
    """104 tracks and 72 of another class: each epoch repeats 32 of these, other ones each time."""
    labels = np.arange(176, dtype=np.int32) % 22 >= 13
    sizes = [8 * 2] * 22
    order = ShuffleSampler(sizes, 2, 40, 64, 2, labels=labels.astype(np.int32))
    times = sum(np.bincount(epoch_rows(order, epoch, sizes) // 2, minlength=176) / 2 for epoch in range(200)) / 200
    np.testing.assert_array_equal(times[~labels], 1)
    assert np.abs(times[labels] - 104 / 72).max() < 5 * np.sqrt(0.25 / 200)


def test_repeated_tracks_are_spread_over_the_epoch():
    """A class of one track and another of 103: the visits to the one track are spread over the epoch."""
    labels = np.zeros(104, np.int32)
    labels[50] = 1
    sizes = [8 * 4] * 13
    order = ShuffleSampler(sizes, 2, 40, 64, 4, labels=labels)
    rows = epoch_rows(order, 0, sizes)
    positions = np.flatnonzero(rows // 4 == 50) / len(rows)
    assert len(positions) == 103 * 4
    np.testing.assert_allclose(np.histogram(positions, bins=4, range=(0, 1))[0] / len(positions), 0.25, atol=0.1)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("kind", ["all", "drawn", "balanced"])
def test_a_worker_reads_its_share_of_the_dataset(workers, kind):
    """Row groups that the worker with the most work reads in an epoch, compared with those of all visits."""
    sizes = [24] * 6400
    labels = np.random.default_rng(0).choice(3, 6400 * 2, p=[0.5, 0.3, 0.2]).astype(np.int32)
    order = ShuffleSampler(
        sizes, 0, 8192, 256, 12, 3 if kind == "drawn" else None, labels if kind == "balanced" else None
    )
    lanes = order.lanes
    visits = [len(order.lane_plan(0, lane).visits) for lane in range(64)]
    all_visits = len(order._epoch_visits(0)[0])
    for worker in range(workers):
        parts = {
            span.lane
            for step in range(lanes.steps)
            for span in lanes.spans(step, *replica_bounds(0, lanes.batch_rows(step), worker, workers))
        }
        assert sum(visits[lane] for lane in parts) <= 1.05 / workers * all_visits


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
    order = SequentialSampler(sizes, segments, sorted(kept), batch_size=7)
    rows = epoch_rows(order, 0, sizes)
    expected = [row for row in range(sum(sizes)) if row % segments in kept]
    assert rows.tolist() == expected
    assert order.lanes.rows == len(expected)
