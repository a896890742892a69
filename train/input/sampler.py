"""The order in which rows are read: pure functions of (seed, epoch), without state.

The visits to the row groups of all shards are permuted once, by the seed. Their rows, one visit after another,
are cut into lanes (`train.input.lanes`): a lane is the same part of the dataset in every epoch. In each epoch the
visits of each lane are permuted and cut into windows; a window is loaded into memory and its rows are permuted.
Each lane supplies some rows of every batch. So the batch of any step of any epoch is computed without the ones
before it, and nothing depends on thread timing or on the number of readers, workers or replicas.

A row has three indices, called by the same names here and in `train.input.window_cache`:

    position   index in the lane: 0 is the lane's first row of the first batch of an epoch
    slot       index in the memory of a window, which holds the rows of its visits one after another
    group row  index in its row group, as stored

    lane 7       position  0     1     2     3     4     5   | 6     7     8  ...
                           |  window_slots(epoch, 7, 0)      |  window_slots(epoch, 7, 1)
                           v                                 v     offsets[1] = 6
    window 0     slot      3     0     5     2     1     4
                 slot      0     1     2   | 3     4     5
                           |   visit A     |   visit B          windows[0] = [A, B]
                           v               v                    group_rows(epoch, A)
    row group    group row 0     1     3   | 2     4     6      all rows of a group, or those drawn for the epoch

`window_slots` maps positions to slots, `group_rows` maps the slots of one visit to group rows. A visit at the
border of two lanes is divided: one lane has its first rows, the next lane has the others.
"""

import dataclasses
import enum
import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from train.input.lanes import Lanes, lane_count

Int64 = NDArray[np.int64]


class Draw(enum.IntEnum):
    """Purpose of random numbers: the first part of their key, so that no two purposes share numbers."""

    VISITS = 1
    ROWS = 2
    SEGMENTS = 3
    REPEATS = 4
    MIXUP = 5
    LANE_VISITS = 6
    PARTNERS = 7


class Visit(NamedTuple):
    """A visit of a lane to a row group, which reads some of its rows.

    Attributes:
        group: Index of the row group.
        repeat: Number of the visit among those to the row group in the epoch, in all lanes; the first is 0.
        first: Index of the first row of the visit that belongs to the lane.
        last: Index after the last.
    """

    group: int
    repeat: int
    first: int
    last: int

    @property
    def rows(self) -> int:
        """Number of rows that belong to the lane."""
        return self.last - self.first


@dataclasses.dataclass(frozen=True)
class LanePlan:
    """The visits of a lane in one epoch, cut into windows.

    A row group may have several visits, or none.

    Attributes:
        visits: int64 [visits, 4], the fields of each `Visit`.
        cuts: Window w consists of the visits [cuts[w], cuts[w + 1]).
        offsets: Window w supplies the positions [offsets[w], offsets[w + 1]) of the lane.
    """

    visits: Int64
    cuts: list[int]
    offsets: list[int]

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.offsets) - 1

    def window_visits(self, window: int) -> list[Visit]:
        """Return the visits of a window, in the order of their slots."""
        return [Visit(*row) for row in self.visits[self.cuts[window] : self.cuts[window + 1]].tolist()]

    def window_rows(self, window: int) -> int:
        """Return the number of rows of a window."""
        return self.offsets[window + 1] - self.offsets[window]


class Sampler(Protocol):
    """Order of rows in each epoch; its methods are pure functions of their arguments."""

    @property
    def lanes(self) -> Lanes:
        """Division of each epoch into batches and lanes."""

    def content_epoch(self, epoch: int, lane: int) -> int:
        """Return the first epoch in which each window of a lane has the same slots as in `epoch`."""

    def lane_plan(self, epoch: int, lane: int) -> LanePlan:
        """Return the visits of a lane in an epoch, window by window."""

    def group_rows(self, epoch: int, visit: Visit) -> Int64:
        """Return the group rows of a visit, int64 [rows], in the order of their slots."""

    def window_slots(self, epoch: int, lane: int, window: int) -> Int64:
        """Return the slot of each position of a window, int64 [rows]."""

    def partner_slots(self, epoch: int, lane: int, window: int) -> Int64:
        """Return the slot of the row that mixup blends into each position of a window."""


class ShuffleSampler:
    """Shuffled order for training, a function of (seed, epoch).

    Every row appears once per epoch, unless only some segments of each track are drawn, or the tracks of smaller
    classes are repeated until every class has as many rows as the largest.

    The lanes have the same number of rows in every epoch. Which segments are drawn changes with the epoch, and so
    do the tracks that are repeated once more than others of their class: were they drawn once for all epochs, some
    tracks would weigh twice as much as others in the whole training. Visits with and without such a track differ
    in size, so with repeated tracks the visits at the borders of a lane change slightly from epoch to epoch.
    """

    def __init__(
        self,
        row_groups: Sequence[int],
        seed: int,
        window_rows: int,
        batch_size: int,
        segments_per_track: int = 1,
        segments_per_epoch: int | None = None,
        labels: NDArray[np.int32] | None = None,
    ) -> None:
        """Describe the rows.

        Args:
            row_groups: Number of rows in each row group.
            seed: Random seed.
            window_rows: Approximate number of rows in the windows of all lanes together.
            batch_size: Number of rows of a batch.
            segments_per_track: Number of rows of each track; a row group holds whole tracks.
            segments_per_epoch: Number of rows drawn from each track in each epoch; None for all.
            labels: int32 [tracks], class of each track, to visit all classes equally often; None to visit each
                track once.
        """
        self._tracks = np.asarray(row_groups, np.int64) // segments_per_track
        self._first_track = np.concatenate([[0], np.cumsum(self._tracks)])
        self._seed = seed
        self._segments = segments_per_track
        self._drawn = min(segments_per_epoch or segments_per_track, segments_per_track)
        self._labels = labels
        self.lanes = Lanes(self._count_rows(), batch_size, lane_count(batch_size, len(row_groups)))
        self._window_rows = max(window_rows // self.lanes.count, 1)
        # Permuting a million row groups for each batch would be slow. Two epochs, and two windows of each lane,
        # are in use at the same time.
        self._cached_visits = functools.lru_cache(maxsize=2)(self._permute_visits)
        self._cached_plan = functools.lru_cache(maxsize=2 * self.lanes.count)(self._plan_lane)
        self._cached_slots = functools.lru_cache(maxsize=4 * self.lanes.count)(self._permute_slots)

    def content_epoch(self, epoch: int, lane: int) -> int:
        """Return 0 if the lane is one window of always the same rows, which need not be read again."""
        same_rows = self._labels is None and self._drawn == self._segments
        return 0 if same_rows and self._is_one_window(lane) else epoch

    def lane_plan(self, epoch: int, lane: int) -> LanePlan:
        """Permute the visits of a lane and cut them into windows."""
        return self._cached_plan(self.content_epoch(epoch, lane), lane)

    def group_rows(self, epoch: int, visit: Visit) -> Int64:
        """Select the tracks of the row group with more than `repeat` visits, and draw their segments."""
        group, repeat, first, last = visit
        tracks = np.flatnonzero(
            self._track_visits(epoch)[self._first_track[group] : self._first_track[group + 1]] > repeat
        )
        segments = np.tile(np.arange(self._segments), (len(tracks), 1))
        if self._drawn < self._segments:
            generator = keyed_generator(Draw.SEGMENTS, self._seed, epoch, group, repeat)
            segments = np.sort(generator.permuted(segments, axis=1)[:, : self._drawn])
        rows: Int64 = (tracks[:, None] * self._segments + segments).reshape(-1)
        return rows[first:last]

    def window_slots(self, epoch: int, lane: int, window: int) -> Int64:
        """Permute the slots of a window."""
        return self._cached_slots(Draw.ROWS, epoch, lane, window)

    def partner_slots(self, epoch: int, lane: int, window: int) -> Int64:
        """Permute the slots of a window a second time."""
        return self._cached_slots(Draw.PARTNERS, epoch, lane, window)

    def _permute_slots(self, draw: Draw, epoch: int, lane: int, window: int) -> Int64:
        rows = self.lane_plan(epoch, lane).window_rows(window)
        return keyed_generator(draw, self._seed, epoch, lane, window).permutation(rows)

    def _plan_lane(self, epoch: int, lane: int) -> LanePlan:
        visits = self._lane_visits(epoch, lane)
        rows = self.lanes.borders[lane + 1] - self.lanes.borders[lane]
        if self._is_one_window(lane):
            return LanePlan(visits, [0, len(visits)], [0, rows])  # permuting the slots is enough
        visits = visits[keyed_generator(Draw.LANE_VISITS, self._seed, epoch, lane).permutation(len(visits))]
        sizes = visits[:, 3] - visits[:, 2]
        ends = np.cumsum(sizes)
        # A visit belongs to the window that contains its middle row. The first window of each lane has another
        # length, so that the lanes do not all need their next windows at the same time.
        first = self._window_rows * (lane + 0.5) / self.lanes.count
        window_of_visit = np.maximum((ends - sizes / 2 - first) // self._window_rows + 1, 0)
        cuts = np.flatnonzero(np.diff(window_of_visit)) + 1
        return LanePlan(visits, [0, *cuts.tolist(), len(visits)], [0, *ends[cuts - 1].tolist(), rows])

    def _lane_visits(self, epoch: int, lane: int) -> Int64:
        """Return the visits of a lane, int64 [visits, 4]; those at its borders may be parts of a visit."""
        groups, repeats, ends, _ = self._epoch_visits(epoch)
        start, stop = self.lanes.borders[lane], self.lanes.borders[lane + 1]
        inside = slice(np.searchsorted(ends, start, "right"), np.searchsorted(ends, stop, "left") + 1)
        begins = np.concatenate([[0], ends])[inside]
        firsts, lasts = np.maximum(start - begins, 0), np.minimum(ends[inside], stop) - begins
        return np.stack([groups[inside], repeats[inside], firsts, lasts], axis=1)

    def _is_one_window(self, lane: int) -> bool:
        return self.lanes.borders[lane + 1] - self.lanes.borders[lane] <= self._window_rows

    def _track_visits(self, epoch: int) -> Int64:
        """Return the number of visits of each track, int64 [tracks]."""
        return self._epoch_visits(epoch)[3]

    def _epoch_visits(self, epoch: int) -> tuple[Int64, Int64, Int64, Int64]:
        """Return what `_permute_visits` does; without repeated tracks, it is the same for every epoch."""
        return self._cached_visits(0 if self._labels is None else epoch)

    def _permute_visits(self, epoch: int) -> tuple[Int64, Int64, Int64, Int64]:
        """Permute the visits of an epoch, by the seed alone.

        Returns:
            int64 [visits]: the row group of each visit, its number among those to the row group, and the rows of
            all visits up to this one; and int64 [tracks], the number of visits of each track.
        """
        times, most = self._draw_track_visits(epoch)
        # The visits of the epoch with the most of them are permuted, so that all epochs have the same permutation.
        visits_of_group = np.maximum.reduceat(most, self._first_track[:-1])
        groups = np.repeat(np.arange(len(self._tracks)), visits_of_group)
        repeats = np.arange(len(groups)) - np.repeat(np.cumsum(visits_of_group) - visits_of_group, visits_of_group)
        sizes = np.empty(len(groups), np.int64)
        for repeat in range(int(visits_of_group.max())):
            tracks = np.add.reduceat((times > repeat).astype(np.int64), self._first_track[:-1])
            sizes[repeats == repeat] = tracks[visits_of_group > repeat] * self._drawn
        order = keyed_generator(Draw.VISITS, self._seed).permutation(len(groups))
        order = order[sizes[order] > 0]
        return groups[order], repeats[order], np.cumsum(sizes[order]), times

    def _draw_track_visits(self, epoch: int) -> tuple[Int64, Int64]:
        """Draw which tracks are repeated.

        Returns:
            int64 [tracks]: the number of visits of each track in the epoch, which differ by at most one within a
            class; and the largest number of visits that it has in any epoch.
        """
        if self._labels is None:
            once = np.ones(int(self._first_track[-1]), np.int64)
            return once, once
        counts = np.bincount(self._labels)
        times: Int64 = (counts.max() // np.maximum(counts, 1))[self._labels]
        most = times + (counts.max() % np.maximum(counts, 1) > 0)[self._labels]
        for label in np.flatnonzero(counts):
            missing = counts.max() % counts[label]
            generator = keyed_generator(Draw.REPEATS, self._seed, epoch, int(label))
            chosen = generator.permutation(counts[label])[:missing]
            times[np.flatnonzero(self._labels == label)[chosen]] += 1
        return times, most

    def _count_rows(self) -> int:
        """Return the number of rows in each epoch."""
        if self._labels is None:
            return int(self._first_track[-1]) * self._drawn
        counts = np.bincount(self._labels)
        return int(counts.max() * np.count_nonzero(counts)) * self._drawn


def keyed_generator(draw: Draw, *key: int) -> np.random.Generator:
    """Return a generator whose numbers depend only on the key."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((draw, *key))))
