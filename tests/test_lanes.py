"""Workers read their share of the dataset, and all numbers of workers get the same batches."""

import collections
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.default_features import SHAPE

from featurize.audio.mfcc import segment_starts
from featurize.config import FeaturizeConfig
from featurize.dataset.reader import Shard
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.dataset.schema import shard_name
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath
from train.config import TrainConfig

pytestmark = pytest.mark.usefixtures("logical_cpus")

SHARDS, TRACKS = 4, 512  # one segment for each track: 64 row groups in each shard
ROWS = SHARDS * TRACKS


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards of 256 row groups together; the first value of each row is its number."""
    folder = StoragePath.of(tmp_path_factory.mktemp("rows"))
    settings = feature_settings(FeaturizeConfig(segments_per_track=1))
    starts = segment_starts(6 * 22050, settings) / 22050
    found = []
    for index in range(SHARDS):
        name = shard_name(0, index, "0" * 16)
        writer = ShardWriter(ShardPlan(name, folder, [], settings))
        for row in range(index * TRACKS, (index + 1) * TRACKS):
            mfcc = np.zeros((1, *SHAPE), np.float32)
            mfcc[0, 0, 0] = row
            writer.add(Track(str(row), "", row % 3, 0), mfcc, starts)
        writer.finish(folder)
        size, groups = (folder / "shards" / name).local.stat().st_size, (8,) * (TRACKS // 8)
        found.append(Shard(name, folder / "shards" / name, 0, groups, size=size, format=settings.format))
    return found


def stream_of(shards, kind="all", batch_size=24, window=512):
    from train.input.batches import SegmentStream
    from train.input.mixup import mixup_shares
    from train.input.sampler import ShuffleSampler

    labels = (np.arange(ROWS) % 3 == 0).astype(np.int32) if kind == "balanced" else None
    sizes = [rows for shard in shards for rows in shard.row_groups]
    sampler = ShuffleSampler(sizes, 4, window, batch_size, labels=labels)
    return SegmentStream(shards, sampler, mixup_shares(0.3, 4) if kind == "mixup" else None)


def of_workers(shards, workers, start, stop, replicas_each=1, **settings):
    """Return the whole batches of some steps, read by workers that share nothing."""
    total = workers * replicas_each
    parts = collections.defaultdict(list)
    for worker in range(workers):
        stream = stream_of(shards, **settings)
        local = range(worker * replicas_each, (worker + 1) * replicas_each)
        for part in stream.dataset(start, stop, total, local).as_numpy_iterator():
            parts[int(part.step)].append(part)
    assert sorted(parts) == list(range(start, stop))
    for step in parts.values():
        rows = np.cumsum([0] + [len(part.labels) for part in step])
        assert [int(part.first) for part in step] == rows[:-1].tolist()
        assert {int(part.batch_rows) for part in step} == {rows[-1]}
    return {
        step: [np.concatenate(field) for field in list(zip(*found, strict=True))[:4]]
        for step, found in parts.items()
    }


@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("all", "balanced")), "mixup"]
)
def test_all_numbers_of_workers_and_replicas_read_the_same_batches(kind, shards):
    """Two epochs of ragged batches; other numbers of workers resume in the middle."""
    settings = {"kind": kind, "batch_size": 24 if kind == "all" else 72}
    steps = 2 * stream_of(shards, **settings).steps_per_epoch
    expected = of_workers(shards, 1, 0, steps, **settings)
    if kind == "all":
        for epoch in range(2):
            rows = np.concatenate(
                [expected[step][0][:, 0, 0] for step in range(epoch * steps // 2, (epoch + 1) * steps // 2)]
            )
            assert sorted(rows) == list(range(ROWS))
    for workers, replicas, start in ((2, 1, 0), (3, 2, steps // 3), (8, 1, steps // 2 - 3), (24, 1, steps - 5)):
        found = of_workers(shards, workers, start, steps, replicas, **settings)
        for step, fields in found.items():
            for ours, theirs in zip(fields, expected[step], strict=True):
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_a_worker_asks_for_its_share_of_the_bytes(workers, shards, monkeypatch):
    asked, real = [], RowGroupReader.read
    monkeypatch.setattr(
        RowGroupReader, "read", lambda reader, groups: asked.extend(groups) or real(reader, groups)
    )
    most = 0
    for worker in range(workers):
        stream = stream_of(shards, batch_size=8)
        for step in range(stream.steps_per_epoch):
            stream.replica_batch(step, worker, workers)
        stream._cache._loader.shutdown()
        # The first windows of the next epoch have been loaded as well.
        sampler, windows = stream._cache._sampler, stream._cache._windows
        ahead = sum(
            len(sampler.lane_plan(epoch, lane).window_visits(window))
            for lane, of_lane in windows.items()
            for epoch, window in of_lane
            if epoch == 1
        )
        most = max(most, len(asked) - ahead)
        asked.clear()
    assert most / 256 <= 1.05 / workers


def test_windows_stay_within_the_stated_memory(shards):
    """Half of the lanes have two windows, and a window may have a row group more."""
    stream = stream_of(shards, batch_size=64, window=512)
    sampler, windows = stream._cache._sampler, stream._cache._windows
    assert sampler.lanes.count == 16
    most = 0
    for step in range(2 * stream.steps_per_epoch):
        stream.replica_batch(step, 0, 1)
        held = sum(
            sampler.lane_plan(epoch, lane).window_rows(window)
            for lane, of_lane in windows.items()
            for epoch, window in of_lane
        )
        most = max(most, held)
    print(f"at most {most} rows in memory")
    assert most <= 1.5 * 512 + 16 * 8


def test_a_dataset_within_the_window_is_read_once(shards, monkeypatch):
    stream = stream_of(shards, window=TrainConfig().shuffle_window)
    asked, real = [], stream._cache._reader.read
    monkeypatch.setattr(stream._cache._reader, "read", lambda groups: asked.extend(groups) or real(groups))
    for step in range(3 * stream.steps_per_epoch):
        stream.replica_batch(step, 0, 1)
    assert len(asked) <= 256 + 16
    assert {index for _, index in asked} == set(range(64))


def test_several_threads_read_the_same_batches_as_one(shards):
    stream, other = stream_of(shards, window=128), stream_of(shards, window=128)
    steps = range(stream.steps_per_epoch)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda step: stream.replica_batch(step, 0, 1), steps))
    for step, part in zip(steps, found, strict=True):
        np.testing.assert_array_equal(part.mfcc[:, 0, 0], other.batch(step)[0][:, 0, 0])


def test_released_windows_are_read_again(shards):
    stream = stream_of(shards)
    before = stream.batch(3)
    stream.release()
    assert not stream._cache._windows
    np.testing.assert_array_equal(stream.batch(3)[0], before[0])
