"""The window cache returns the same rows as direct reads, in any order of reads and from several threads."""

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.default_features import SHAPE
from support.rows import write_shards

from featurize.dataset.reader import Shard, read_row_group
from featurize.dataset.row_group_reader import RowGroupReader
from train.input.lanes import Span
from train.input.sampler import ShuffleSampler
from train.input.stored_order import SequentialSampler
from train.input.window_cache import WindowCache, allocate

SEGMENTS = 4
TRACKS = (9, 20, 5)  # of each shard


@dataclasses.dataclass(frozen=True)
class Rows:
    """Shards and their rows, read directly row group by row group."""

    shards: list[Shard]
    mfcc: np.ndarray
    labels: np.ndarray
    tracks: list[str]

    @property
    def sizes(self):
        return [size for shard in self.shards for size in shard.row_groups]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    shards, tracks = write_shards(tmp_path_factory.mktemp("rows"), TRACKS, SEGMENTS)
    parts = [read_row_group(shard, index) for shard in shards for index in range(len(shard.row_groups))]
    mfcc, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Rows(shards, mfcc, labels, tracks)


def order_of(sampler, sizes, epoch):
    """Return the row at each position of the only lane in an epoch, numbered over the whole dataset."""
    first = np.concatenate([[0], np.cumsum(sizes)])
    plan = sampler.lane_plan(epoch, 0)
    return np.concatenate(
        [
            np.concatenate(
                [first[visit.group] + sampler.group_rows(epoch, visit) for visit in plan.window_visits(window)]
            )[sampler.window_slots(epoch, 0, window)]
            for window in range(plan.windows)
        ]
    )


def read(cache, epoch, start, stop):
    return cache.rows(epoch, [Span(0, start, stop)])


def assert_rows(rows, part, expected):
    mfcc, labels = part
    np.testing.assert_array_equal(mfcc, rows.mfcc[expected])
    np.testing.assert_array_equal(labels, rows.labels[expected])
    assert mfcc.dtype == np.float32
    assert labels.dtype == np.int32


@pytest.fixture
def shuffled(rows):
    sampler = ShuffleSampler(rows.sizes, seed=5, window_rows=40, batch_size=10, segments_per_track=SEGMENTS)
    assert sampler.lane_plan(0, 0).windows > 2
    return sampler


def test_rows_equal_direct_reads_in_the_order_of_the_sampler(rows, shuffled):
    cache = WindowCache(rows.shards, shuffled, lookback=20)
    for epoch in range(3):
        order = order_of(shuffled, rows.sizes, epoch)
        assert sorted(order) == list(range(len(rows.labels)))
        for start, stop in itertools.pairwise([*range(0, len(order), 10), len(order)]):
            assert_rows(rows, read(cache, epoch, start, stop), order[start:stop])


def test_rows_are_the_same_for_any_order_of_reads(rows, shuffled):
    cache = WindowCache(rows.shards, shuffled, lookback=0)
    orders = [order_of(shuffled, rows.sizes, epoch) for epoch in range(3)]
    total = len(rows.labels)
    reads = [(epoch, start, min(start + 33, total)) for epoch in range(3) for start in range(0, total, 33)]
    for epoch, start, stop in np.random.default_rng(2).permutation(reads).tolist():
        assert_rows(rows, read(cache, epoch, start, stop), orders[epoch][start:stop])
    assert_rows(rows, read(cache, 1, 0, total), orders[1])  # across all windows


def test_some_segments_of_each_track_in_stored_order(rows):
    sampler = SequentialSampler(rows.sizes, SEGMENTS, [0, 3], batch_size=8)
    cache = WindowCache(rows.shards, sampler, lookback=8)
    expected = np.flatnonzero(np.isin(np.arange(len(rows.labels)) % SEGMENTS, [0, 3]))
    assert_rows(rows, read(cache, 0, 0, sampler.lanes.rows), expected)
    assert cache.tracks(0, [Span(0, 3, 11)]) == [rows.tracks[row] for row in expected[3:11]]


def test_tracks_match_the_rows(rows, shuffled):
    cache = WindowCache(rows.shards, shuffled, lookback=20)
    order = order_of(shuffled, rows.sizes, 1)
    assert cache.tracks(1, [Span(0, 0, len(order))]) == [rows.tracks[row] for row in order]
    assert cache.tracks(1, [Span(0, 37, 45)]) == [rows.tracks[row] for row in order[37:45]]


def test_a_read_within_the_lookback_loads_no_window_again(rows, shuffled, monkeypatch):
    loads, real = [], RowGroupReader.read
    monkeypatch.setattr(
        RowGroupReader, "read", lambda reader, groups: loads.append(groups) or real(reader, groups)
    )
    border = shuffled.lane_plan(0, 0).offsets[1]
    order = order_of(shuffled, rows.sizes, 0)

    def loads_after(lookback):
        cache = WindowCache(rows.shards, shuffled, lookback)
        read(cache, 0, 0, border)
        read(cache, 0, border + 4, border + 8)
        loads.clear()
        assert_rows(rows, read(cache, 0, border - 4, border), order[border - 4 : border])
        return len(loads)

    assert loads_after(lookback=8) == 0
    assert loads_after(lookback=0) >= 1  # the window after the next has replaced it


def test_two_threads_read_the_same_rows_as_one(rows, shuffled):
    cache = WindowCache(rows.shards, shuffled, lookback=16)
    orders = [order_of(shuffled, rows.sizes, epoch) for epoch in range(6)]
    reads = [(epoch, start, start + 8) for epoch in range(6) for start in range(0, len(rows.labels), 8)]
    with ThreadPoolExecutor(2) as threads:
        parts = list(threads.map(lambda each: read(cache, *each), reads))
    for (epoch, start, stop), part in zip(reads, parts, strict=True):
        assert_rows(rows, part, orders[epoch][start:stop])


def through_tensorflow(array):
    """Return the element of a dataset whose only element is this array."""
    import tensorflow as tf

    element = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(lambda: array, [], tf.float32))
    (output,) = element.as_numpy_iterator()
    return output


@pytest.mark.parametrize("count", [7, 64])
def test_tensorflow_uses_allocated_memory_without_copying(count, logical_cpus):
    array = allocate((count, *SHAPE))
    assert array.ctypes.data % 64 == 0
    array[:] = 3
    address, output = array.ctypes.data, through_tensorflow(array)
    assert output.ctypes.data == address
    del array
    others = [allocate((count, *SHAPE)) for _ in range(4)]
    assert address not in [other.ctypes.data for other in others]  # TensorFlow's array still uses it
    assert (output == 3).all()


def test_unaligned_memory_would_be_copied(logical_cpus):
    """Shows that the previous test depends on the alignment."""
    array = allocate((7 * np.prod(SHAPE) + 1,))[1:].reshape(7, *SHAPE)
    assert through_tensorflow(array).ctypes.data != array.ctypes.data
