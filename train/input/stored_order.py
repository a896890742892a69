"""Evaluation reads the rows of a fold in stored order, in batches that do not depend on the number of workers.

A fold is divided into lanes, each of whole row groups and so of whole tracks, and each lane into batches. A worker
evaluates some consecutive lanes and reads nothing else. A batch has the same rows for any number of workers, and
is computed as a whole by one replica, so its logits have the same bits; sums are formed by lane and added in the
order of the lanes, so the figures of a fold have the same bits too.
"""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset.reader import Shard
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.errors import EarmarkError
from train.errors import TrainError
from train.input.batches import BATCHES_AT_ONCE, ReplicaBatch, pipeline, replica_batch_spec
from train.input.lanes import MOST_LANES, Lanes, Span
from train.input.sampler import LanePlan, Visit
from train.input.window_cache import LabeledSegments, WindowCache

# Row groups that are read at once, 3.3 MB each with default settings. Up to three windows are in memory. From a
# bucket they are larger, so that its latency is hidden.
_WINDOW_GROUPS, _WINDOW_GROUPS_REMOTE = 16, 64

Int64 = NDArray[np.int64]


class LaneBatch(NamedTuple):
    """The rows [start, stop) of a fold, which belong to one lane."""

    lane: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class LaneBatches:
    """Division of the rows of a fold.

    Attributes:
        borders: Lane l has the rows [borders[l], borders[l + 1]).
        batch_size: Number of rows of a batch; the last one of a lane may have fewer.
    """

    borders: tuple[int, ...]
    batch_size: int

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self.borders) - 1

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, index: int) -> LaneBatch:
        lane = bisect.bisect_right(self._firsts, index) - 1
        start = self.borders[lane] + (index - self._firsts[lane]) * self.batch_size
        return LaneBatch(lane, start, min(start + self.batch_size, self.borders[lane + 1]))

    def share(self, worker: int, workers: int) -> range:
        """Return the indices of the batches that a worker evaluates: those of some consecutive lanes."""
        first, last = self.lanes * worker // workers, self.lanes * (worker + 1) // workers
        return range(self._firsts[first], self._firsts[last])

    def rows_of(self, worker: int, workers: int) -> tuple[int, int]:
        """Return the first row that a worker evaluates, and the one after its last."""
        return self.borders[self.lanes * worker // workers], self.borders[self.lanes * (worker + 1) // workers]

    @functools.cached_property
    def _firsts(self) -> list[int]:
        """Index of the first batch of each lane, and the number of all batches."""
        counts = [-(-(stop - start) // self.batch_size) for start, stop in itertools.pairwise(self.borders)]
        return list(itertools.accumulate(counts, initial=0))


def divide(row_groups: Sequence[int], batch_size: int) -> LaneBatches:
    """Divide the rows of a fold into lanes and batches.

    There are as many lanes as row groups and full batches allow, a power of two up to MOST_LANES.

    Args:
        row_groups: Number of rows of each row group.
        batch_size: Number of rows of a batch.
    """
    ends = np.cumsum([0, *row_groups])
    rows = int(ends[-1])
    lanes = 1 << max(min(MOST_LANES, len(row_groups), rows // batch_size).bit_length() - 1, 0)
    inner = [int(ends[np.searchsorted(ends, rows * lane // lanes)]) for lane in range(1, lanes)]
    return LaneBatches((0, *inner, rows), batch_size)


class SequentialSampler:
    """Stored order for the window cache: some segments of each track are skipped.

    To the cache, all lanes are one, because a worker reads its lanes one after another.
    """

    def __init__(
        self,
        row_groups: Sequence[int],
        segments_per_track: int,
        kept: Sequence[int],
        batch_size: int,
        window_groups: int = _WINDOW_GROUPS,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        """Describe the rows.

        Args:
            row_groups: Number of rows in each row group.
            segments_per_track: Number of rows of each track; a row group holds whole tracks.
            kept: Indices of the segments of a track to read.
            batch_size: Number of rows of a batch.
            window_groups: Number of row groups in a window.
            worker: Index of the worker that reads: a window begins and one ends with its lanes.
            workers: Number of workers.
        """
        self._segments = segments_per_track
        self._kept = np.sort(np.asarray(kept, np.int64))
        sizes = np.asarray(row_groups, np.int64) // segments_per_track * len(kept)
        self.batches = divide(sizes.tolist(), batch_size)
        ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        groups = np.arange(len(sizes))
        visits = np.stack([groups, np.zeros_like(groups), np.zeros_like(groups), sizes], axis=1)
        # The plan ends with the rows of the worker, so that no window behind them is read ahead.
        first, last = np.searchsorted(ends, self.batches.rows_of(worker, workers)).tolist()
        cuts = [*range(0, first, window_groups), *range(first, last, window_groups), last]
        self._plan = LanePlan(visits, cuts, ends[cuts].tolist())
        self.lanes = Lanes(int(ends[-1]), batch_size, 1)

    def content_epoch(self, epoch: int, lane: int) -> int:
        """Return 0: all epochs are the same."""
        return 0

    def lane_plan(self, epoch: int, lane: int) -> LanePlan:
        """Return the same plan for every epoch."""
        return self._plan

    def group_rows(self, epoch: int, visit: Visit) -> Int64:
        """Return the group rows of the kept segments."""
        tracks = np.arange(visit.rows // len(self._kept))
        rows: Int64 = (tracks[:, None] * self._segments + self._kept).reshape(-1)
        return rows

    def window_slots(self, epoch: int, lane: int, window: int) -> Int64:
        """Return the slots in ascending order."""
        return np.arange(self._plan.window_rows(window))

    def partner_slots(self, epoch: int, lane: int, window: int) -> Int64:
        """Return the slots in ascending order: evaluation mixes nothing."""
        return self.window_slots(epoch, lane, window)


class EvaluationStream:
    """The evaluated segments of a fold: at most two windows of them are in memory."""

    def __init__(
        self,
        shards: Sequence[Shard],
        segments_per_track: int,
        kept: Sequence[int],
        batch_size: int,
        reader: RowGroupReader | None = None,
    ) -> None:
        """Prepare to read batches; nothing is read yet.

        Args:
            shards: Shards of the fold.
            segments_per_track: Number of rows of each track.
            kept: Indices of the segments of a track to read.
            batch_size: Number of rows of a batch.
            reader: Reader of the shards; None for a new one.

        Raises:
            TrainError: The fold has no rows.
        """
        sizes = [rows for shard in shards for rows in shard.row_groups]
        self._shards = shards
        self._reader = reader or RowGroupReader()
        window_groups = _WINDOW_GROUPS_REMOTE if shards and shards[0].path.scheme else _WINDOW_GROUPS
        self._sampler_of = functools.partial(
            SequentialSampler, sizes, segments_per_track, kept, batch_size, window_groups
        )
        self.batches = self._sampler_of().batches
        if not self.rows:
            raise TrainError("there are no segments to read in this fold")
        # Kept from one evaluation to the next, because the cache has the metadata of the shards.
        self._cache_of = functools.lru_cache(maxsize=1)(self._make_cache)
        self._cache = self._cache_of(0, 1)
        self._failures: list[EarmarkError] = []

    @property
    def rows(self) -> int:
        """Number of segments."""
        return self.batches.borders[-1]

    @property
    def spec(self) -> ReplicaBatch:
        """The `tf.TensorSpec` of each field of the elements of `dataset`."""
        return replica_batch_spec(self._shards[0].format.shape)

    def read(self, start: int, stop: int) -> LabeledSegments:
        """Return the rows [start, stop): float32 [rows, features, frames]; and int32 [rows], class indices."""
        return self._cache.rows(0, [Span(0, start, stop)])

    def release(self) -> None:
        """Free the memory of the segments that were read ahead."""
        self._cache.clear()

    def explain(self, error: tf.errors.OpError) -> Exception:
        """Return the error that a pipeline of `dataset` ended with; TensorFlow turns our own ones into text."""
        return self._failures[0] if self._failures else error

    def dataset(self, start: int, stop: int, replicas: int, local_replicas: Sequence[int]) -> tf.data.Dataset:
        """Return the batches of one worker, in order: its replicas take them in turn.

        Args:
            start: First step of the worker.
            stop: Step after the last.
            replicas: Number of all replicas.
            local_replicas: Indices of the replicas of the worker, which has as many as every other.

        Returns:
            Elements are `ReplicaBatch`, each a whole batch; `step` is its index in `batches`.
        """
        count = len(local_replicas)
        worker, workers = local_replicas[0] // count, replicas // count
        self._cache = self._cache_of(worker, workers)
        share = self.batches.share(worker, workers)
        indices = share[start * count : stop * count]
        return pipeline(self._replica_batch, self.spec, indices.start, indices.stop, count, self._failures)

    def _make_cache(self, worker: int, workers: int) -> WindowCache:
        sampler = self._sampler_of(worker, workers)
        lookback = BATCHES_AT_ONCE * self.batches.batch_size
        return WindowCache(self._shards, sampler, lookback, self._reader)

    def _replica_batch(self, index: int) -> ReplicaBatch:
        batch = self.batches[index]
        mfcc, labels = self.read(batch.start, batch.stop)
        rows = len(labels)
        ones = np.ones(rows, np.float32)
        return ReplicaBatch(mfcc, labels, labels, ones, *np.array([index, 0, rows], np.int64))
