"""The order in which the rows of a dataset are visited: arithmetic on (seed, epoch), without any state.

The row groups of all shards are permuted; a window of them is held in memory and its rows are permuted; batches
are cut from that sequence. So the batch of any step of any epoch is computed without the ones before it, and
nothing depends on thread timing or on the number of readers or replicas.

A row has three indices, used by this name here and in `train.input.window_cache`:

    position   in the epoch: 0 is the first row that a batch of the epoch takes
    slot       in the memory of a window, which holds the rows of its visits one after another
    group row  in its row group, as stored

    epoch        position  0     1     2     3     4     5   | 6     7     8  ...
                           |  window_slots(epoch, window 0)  |  window_slots(epoch, window 1)
                           v                                 v     offsets[1] = 6
    window 0     slot      3     0     5     2     1     4
                 slot      0     1     2   | 3     4     5
                           |   visit A     |   visit B          windows[0] = [A, B]
                           v               v                    group_rows(epoch, group of A, repeat of A)
    row group    group row 0     1     3   | 2     4     6      all rows of a group, or those drawn for the epoch

`window_slots` goes from positions to slots, `group_rows` from the slots of one visit to group rows.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# A last batch smaller than this joins the one before it, so that every replica has rows in every step.
SMALLEST_TAIL = 32

Int64 = NDArray[np.int64]


class Draw(enum.IntEnum):
    """What random numbers are for: the first part of their key, so that no two uses share their numbers."""

    VISITS = 1
    ROWS = 2
    SEGMENTS = 3
    REPEATS = 4
    MIXUP = 5


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """The visits of one epoch, cut into windows.

    A visit reads some rows of one row group. There may be several visits to a row group, or none.

    Attributes:
        windows: Visits of each window, as indices into `groups` and `repeats`.
        offsets: int64 [windows + 1]; window w supplies the positions [offsets[w], offsets[w + 1]) of the epoch.
        groups: int64 [visits], the row group of each visit.
        repeats: int64 [visits], how many visits to the same row group `groups` lists before it.
    """

    windows: list[Int64]
    offsets: Int64
    groups: Int64
    repeats: Int64


class Sampler(Protocol):
    """An order of rows, epoch after epoch; a pure function of its arguments."""

    @property
    def rows(self) -> int:
        """The number of positions in each epoch."""

    def epoch_plan(self, epoch: int) -> EpochPlan:
        """Return the visits of an epoch, window by window."""

    def group_rows(self, epoch: int, group: int, repeat: int) -> Int64:
        """Return the group rows that a visit reads, int64 [rows], in the order of their slots."""

    def window_slots(self, epoch: int, window: int) -> Int64:
        """Return the slot of each position of a window, int64 [rows]."""


class ShuffleSampler:
    """The order of training, which (seed, epoch) determine.

    Every row comes once an epoch, unless only some segments of each track are drawn, or the tracks of smaller
    classes come again and again until every class has as many rows as the largest.
    """

    def __init__(
        self,
        row_groups: Sequence[int],
        seed: int,
        window_rows: int,
        segments_per_track: int = 1,
        drawn: int | None = None,
        labels: NDArray[np.int32] | None = None,
    ) -> None:
        """Describe the rows.

        Args:
            row_groups: the rows of each row group.
            seed: of the order.
            window_rows: about how many rows a window may hold.
            segments_per_track: rows of each track; a row group holds whole tracks.
            drawn: how many of them an epoch takes, others each time; None for all.
            labels: the class of each track, to have all classes visited equally often; None for each track once.
        """
        self._tracks = np.asarray(row_groups, np.int64) // segments_per_track
        self._first_track = np.concatenate([[0], np.cumsum(self._tracks)])
        self._seed = seed
        self._window_rows = window_rows
        self._segments = segments_per_track
        self._drawn = min(drawn or segments_per_track, segments_per_track)
        self._labels = labels
        # Every batch needs the plan of its epoch; permuting a million row groups for each would take longer.
        self._cached = functools.lru_cache(maxsize=2)(self._permute)

    @property
    def rows(self) -> int:
        """The number of rows in each epoch."""
        if self._labels is None:
            return int(self._first_track[-1]) * self._drawn
        counts = np.bincount(self._labels)
        return int(counts.max() * np.count_nonzero(counts)) * self._drawn

    def epoch_plan(self, epoch: int) -> EpochPlan:
        """Permute the visits and cut them into windows."""
        return self._cached(epoch)[0]

    def group_rows(self, epoch: int, group: int, repeat: int) -> Int64:
        """Take those tracks of the row group that come more often than `repeat` times, and draw their segments."""
        tracks = np.flatnonzero(
            self._times(epoch)[self._first_track[group] : self._first_track[group + 1]] > repeat
        )
        segments = np.tile(np.arange(self._segments), (len(tracks), 1))
        if self._drawn < self._segments:
            generator = keyed_generator(Draw.SEGMENTS, self._seed, epoch, group, repeat)
            segments = np.sort(generator.permuted(segments, axis=1)[:, : self._drawn])
        rows: Int64 = (tracks[:, None] * self._segments + segments).reshape(-1)
        return rows

    def window_slots(self, epoch: int, window: int) -> Int64:
        """Permute the slots of a window."""
        offsets = self.epoch_plan(epoch).offsets
        return keyed_generator(Draw.ROWS, self._seed, epoch, window).permutation(
            int(offsets[window + 1] - offsets[window])
        )

    def _times(self, epoch: int) -> Int64:
        return self._cached(epoch)[1]

    def _permute(self, epoch: int) -> tuple[EpochPlan, Int64]:
        """Return the plan of an epoch, and how often each track comes in it."""
        times = self._draw_times(epoch)
        visits_of_group = np.maximum.reduceat(times, self._first_track[:-1])
        groups = np.repeat(np.arange(len(self._tracks)), visits_of_group)
        repeats = np.arange(len(groups)) - np.repeat(np.cumsum(visits_of_group) - visits_of_group, visits_of_group)
        sizes = np.empty(len(groups), np.int64)
        for repeat in range(int(visits_of_group.max())):
            tracks = np.add.reduceat((times > repeat).astype(np.int64), self._first_track[:-1])
            sizes[repeats == repeat] = tracks[visits_of_group > repeat] * self._drawn
        visits = keyed_generator(Draw.VISITS, self._seed, epoch).permutation(len(groups))
        ends = np.cumsum(sizes[visits])
        # A visit belongs to the window that its middle row falls into; the last window takes what remains.
        middles = ends - sizes[visits] / 2
        wanted = max(1, round(self.rows / self._window_rows))
        window_of_visit = np.minimum(middles * wanted // self.rows, wanted - 1)
        cuts = np.flatnonzero(np.diff(window_of_visit)) + 1
        offsets = np.concatenate([[0], ends[cuts - 1], ends[-1:]])
        return EpochPlan(np.split(visits, cuts), offsets, groups, repeats), times

    def _draw_times(self, epoch: int) -> Int64:
        """Return how often each track comes, int64 [tracks]: alike within a class, to within one."""
        if self._labels is None:
            return np.ones(int(self._first_track[-1]), np.int64)
        counts = np.bincount(self._labels)
        times: Int64 = (counts.max() // np.maximum(counts, 1))[self._labels]
        for label in np.flatnonzero(counts):
            missing = counts.max() % counts[label]
            generator = keyed_generator(Draw.REPEATS, self._seed, epoch, int(label))
            chosen = generator.permutation(counts[label])[:missing]
            times[np.flatnonzero(self._labels == label)[chosen]] += 1
        return times


class SequentialSampler:
    """The order of evaluation: rows as they are stored, a row group a window, some segments left out."""

    def __init__(self, row_groups: Sequence[int], segments_per_track: int, kept: Sequence[int]) -> None:
        """Take the rows of each row group, the rows of a track, and which segments of a track to visit."""
        is_kept = np.isin(np.arange(segments_per_track), kept)
        self._kept = [np.flatnonzero(np.resize(is_kept, size)) for size in row_groups]
        groups = np.arange(len(row_groups))
        offsets = np.concatenate([[0], np.cumsum([len(kept) for kept in self._kept])]).astype(np.int64)
        self._plan = EpochPlan(list(groups[:, None]), offsets, groups, np.zeros_like(groups))

    @property
    def rows(self) -> int:
        """The number of rows visited."""
        return int(self._plan.offsets[-1])

    def epoch_plan(self, epoch: int) -> EpochPlan:
        """Return the same plan for every epoch."""
        return self._plan

    def group_rows(self, epoch: int, group: int, repeat: int) -> Int64:
        """Return the rows of the segments that are kept."""
        return self._kept[group]

    def window_slots(self, epoch: int, window: int) -> Int64:
        """Return the slots in ascending order: the rows as they are stored."""
        return np.arange(len(self._kept[window]))


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many batches an epoch of some rows has; see `batch_bounds`."""
    steps, tail = divmod(rows, batch_size)
    return max(steps + (tail >= min(SMALLEST_TAIL, batch_size)), 1)


def batch_bounds(step: int, rows: int, batch_size: int) -> tuple[int, int]:
    """Return the half-open interval of positions that a step of an epoch takes.

    All batches have `batch_size` rows but the last. That takes what remains; a remainder of fewer than
    SMALLEST_TAIL rows is added to the last whole batch instead of making a batch of its own.
    """
    last = step == steps_per_epoch(rows, batch_size) - 1
    return step * batch_size, rows if last else (step + 1) * batch_size


def replica_bounds(start: int, stop: int, replica: int, replicas: int) -> tuple[int, int]:
    """Return the part of a batch [start, stop) that one replica takes: whole, in order, sizes alike."""
    rows = stop - start
    return start + rows * replica // replicas, start + rows * (replica + 1) // replicas


def keyed_generator(draw: Draw, *key: int) -> np.random.Generator:
    """Return the random numbers that belong to a key: the same for the same, whatever was drawn before."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((draw, *key))))
