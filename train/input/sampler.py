"""The order in which rows are read: pure functions of (seed, epoch), without state.

The row groups of all shards are permuted and cut into windows. A window is loaded into memory and its rows are
permuted; batches are slices of that sequence. So the batch of any step of any epoch is computed without the ones
before it, and nothing depends on thread timing or on the number of readers or replicas.

A row has three indices, called by the same names here and in `train.input.window_cache`:

    position   index in the epoch: 0 is the first row of its first batch
    slot       index in the memory of a window, which holds the rows of its visits one after another
    group row  index in its row group, as stored

    epoch        position  0     1     2     3     4     5   | 6     7     8  ...
                           |  window_slots(epoch, window 0)  |  window_slots(epoch, window 1)
                           v                                 v     offsets[1] = 6
    window 0     slot      3     0     5     2     1     4
                 slot      0     1     2   | 3     4     5
                           |   visit A     |   visit B          windows[0] = [A, B]
                           v               v                    group_rows(epoch, group of A, repeat of A)
    row group    group row 0     1     3   | 2     4     6      all rows of a group, or those drawn for the epoch

`window_slots` maps positions to slots, `group_rows` maps the slots of one visit to group rows.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# A last batch with fewer rows than this is added to the one before it, so that every replica has rows in every
# step.
SMALLEST_TAIL = 32

Int64 = NDArray[np.int64]


class Draw(enum.IntEnum):
    """Purpose of random numbers: the first part of their key, so that no two purposes share numbers."""

    VISITS = 1
    ROWS = 2
    SEGMENTS = 3
    REPEATS = 4
    MIXUP = 5


@dataclasses.dataclass(frozen=True)
class EpochPlan:
    """The visits of one epoch, cut into windows.

    A visit reads some rows of one row group. A row group may have several visits, or none.

    Attributes:
        windows: Visits of each window, as indices into `groups` and `repeats`.
        offsets: int64 [windows + 1]; window w supplies the positions [offsets[w], offsets[w + 1]) of the epoch.
        groups: int64 [visits], row group of each visit.
        repeats: int64 [visits], number of earlier entries of `groups` with the same row group.
    """

    windows: list[Int64]
    offsets: Int64
    groups: Int64
    repeats: Int64


class Sampler(Protocol):
    """Order of rows in each epoch; its methods are pure functions of their arguments."""

    @property
    def rows(self) -> int:
        """Number of positions in each epoch."""

    def epoch_plan(self, epoch: int) -> EpochPlan:
        """Return the visits of an epoch, window by window."""

    def group_rows(self, epoch: int, group: int, repeat: int) -> Int64:
        """Return the group rows of a visit, int64 [rows], in the order of their slots."""

    def window_slots(self, epoch: int, window: int) -> Int64:
        """Return the slot of each position of a window, int64 [rows]."""


class ShuffleSampler:
    """Shuffled order for training, a function of (seed, epoch).

    Every row appears once per epoch, unless only some segments of each track are drawn, or the tracks of smaller
    classes are repeated until every class has as many rows as the largest.
    """

    def __init__(
        self,
        row_groups: Sequence[int],
        seed: int,
        window_rows: int,
        segments_per_track: int = 1,
        segments_per_epoch: int | None = None,
        labels: NDArray[np.int32] | None = None,
    ) -> None:
        """Describe the rows.

        Args:
            row_groups: Number of rows in each row group.
            seed: Random seed.
            window_rows: Approximate number of rows in a window.
            segments_per_track: Number of rows of each track; a row group holds whole tracks.
            segments_per_epoch: Number of rows drawn from each track in each epoch; None for all.
            labels: int32 [tracks], class of each track, to visit all classes equally often; None to visit each
                track once.
        """
        self._tracks = np.asarray(row_groups, np.int64) // segments_per_track
        self._first_track = np.concatenate([[0], np.cumsum(self._tracks)])
        self._seed = seed
        self._window_rows = window_rows
        self._segments = segments_per_track
        self._drawn = min(segments_per_epoch or segments_per_track, segments_per_track)
        self._labels = labels
        # Every batch needs the plan of its epoch; permuting a million row groups for each batch would be slow.
        self._cached = functools.lru_cache(maxsize=2)(self._permute)

    @property
    def rows(self) -> int:
        """Number of rows in each epoch."""
        if self._labels is None:
            return int(self._first_track[-1]) * self._drawn
        counts = np.bincount(self._labels)
        return int(counts.max() * np.count_nonzero(counts)) * self._drawn

    def epoch_plan(self, epoch: int) -> EpochPlan:
        """Permute the visits and cut them into windows."""
        return self._cached(epoch)[0]

    def group_rows(self, epoch: int, group: int, repeat: int) -> Int64:
        """Select the tracks of the row group with more than `repeat` visits, and draw their segments."""
        tracks = np.flatnonzero(
            self._track_visits(epoch)[self._first_track[group] : self._first_track[group + 1]] > repeat
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

    def _track_visits(self, epoch: int) -> Int64:
        """Return the number of visits of each track, int64 [tracks]."""
        return self._cached(epoch)[1]

    def _permute(self, epoch: int) -> tuple[EpochPlan, Int64]:
        """Return the plan of an epoch, and the number of visits of each track, int64 [tracks]."""
        times = self._draw_track_visits(epoch)
        visits_of_group = np.maximum.reduceat(times, self._first_track[:-1])
        groups = np.repeat(np.arange(len(self._tracks)), visits_of_group)
        repeats = np.arange(len(groups)) - np.repeat(np.cumsum(visits_of_group) - visits_of_group, visits_of_group)
        sizes = np.empty(len(groups), np.int64)
        for repeat in range(int(visits_of_group.max())):
            tracks = np.add.reduceat((times > repeat).astype(np.int64), self._first_track[:-1])
            sizes[repeats == repeat] = tracks[visits_of_group > repeat] * self._drawn
        visits = keyed_generator(Draw.VISITS, self._seed, epoch).permutation(len(groups))
        ends = np.cumsum(sizes[visits])
        # A visit belongs to the window that contains its middle row.
        middles = ends - sizes[visits] / 2
        wanted = max(1, round(self.rows / self._window_rows))
        window_of_visit = np.minimum(middles * wanted // self.rows, wanted - 1)
        cuts = np.flatnonzero(np.diff(window_of_visit)) + 1
        offsets = np.concatenate([[0], ends[cuts - 1], ends[-1:]])
        return EpochPlan(np.split(visits, cuts), offsets, groups, repeats), times

    def _draw_track_visits(self, epoch: int) -> Int64:
        """Return the number of visits of each track, int64 [tracks]; within a class they differ by at most one."""
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
    """Stored order for evaluation: each row group is one window, and some segments of each track are skipped."""

    def __init__(self, row_groups: Sequence[int], segments_per_track: int, kept: Sequence[int]) -> None:
        """Describe the rows.

        Args:
            row_groups: Number of rows in each row group.
            segments_per_track: Number of rows of each track; a row group holds whole tracks.
            kept: Indices of the segments of a track to read.
        """
        is_kept = np.isin(np.arange(segments_per_track), kept)
        self._kept = [np.flatnonzero(np.resize(is_kept, size)) for size in row_groups]
        groups = np.arange(len(row_groups))
        offsets = np.concatenate([[0], np.cumsum([len(kept) for kept in self._kept])]).astype(np.int64)
        self._plan = EpochPlan(list(groups[:, None]), offsets, groups, np.zeros_like(groups))

    @property
    def rows(self) -> int:
        """Number of rows to read."""
        return int(self._plan.offsets[-1])

    def epoch_plan(self, epoch: int) -> EpochPlan:
        """Return the same plan for every epoch."""
        return self._plan

    def group_rows(self, epoch: int, group: int, repeat: int) -> Int64:
        """Return the group rows of the kept segments."""
        return self._kept[group]

    def window_slots(self, epoch: int, window: int) -> Int64:
        """Return the slots in ascending order."""
        return np.arange(len(self._kept[window]))


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return the number of batches in an epoch of `rows` rows; see `batch_bounds`."""
    steps, tail = divmod(rows, batch_size)
    return max(steps + (tail >= min(SMALLEST_TAIL, batch_size)), 1)


def batch_bounds(step: int, rows: int, batch_size: int) -> tuple[int, int]:
    """Return the half-open interval of positions of a step of an epoch.

    All batches but the last have `batch_size` rows. The last batch has the remaining rows; a remainder of fewer
    than SMALLEST_TAIL rows is added to the last full batch instead.
    """
    last = step == steps_per_epoch(rows, batch_size) - 1
    return step * batch_size, rows if last else (step + 1) * batch_size


def replica_bounds(start: int, stop: int, replica: int, replicas: int) -> tuple[int, int]:
    """Return one replica's part of a batch [start, stop): contiguous, in order, sizes equal to within one."""
    rows = stop - start
    return start + rows * replica // replicas, start + rows * (replica + 1) // replicas


def keyed_generator(draw: Draw, *key: int) -> np.random.Generator:
    """Return a generator whose numbers depend only on the key."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((draw, *key))))
