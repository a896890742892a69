"""How the rows of an epoch are divided into batches, and each batch into lanes and replicas.

A lane is a part of the dataset that fills the same part of every batch: of n rows, lane l of L has the rows
[n*l//L, n*(l+1)//L). A worker that computes a part of each batch needs only the lanes of that part, so each of W
workers reads about 1/W of the dataset, and the batches do not depend on W. Everything here is arithmetic:

    batch       row       0   1   2   3 | 4   5   6   7 | 8   9  10  11      12 rows, 3 lanes, 2 replicas
                lane            0       |       1       |       2
                replica            0             |             1

    lane 1      position  0   1   2   3   4   5   6   7   8  ...
                          |    step 0     |    step 1     |
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import NamedTuple

# A last batch with fewer rows than this is added to the one before it, so that every replica has rows in every
# step.
SMALLEST_TAIL = 32

MOST_LANES = 64
_ROW_GROUPS_PER_LANE = 16  # at least: a lane reads up to two row groups that it shares with its neighbors


class Span(NamedTuple):
    """Some consecutive rows of a lane.

    Attributes:
        lane: Index of the lane.
        start: Position in the lane of the first row.
        stop: Position after the last row.
    """

    lane: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Lanes:
    """Division of an epoch.

    Attributes:
        rows: Number of rows of the epoch.
        batch_size: Number of rows of a batch; see `batch_bounds` for the last one.
        count: Number of lanes.
    """

    rows: int
    batch_size: int
    count: int

    @functools.cached_property
    def steps(self) -> int:
        """Number of batches in the epoch."""
        return steps_per_epoch(self.rows, self.batch_size)

    @functools.cached_property
    def smallest_batch(self) -> int:
        """Number of rows of the smallest batch in the epoch."""
        return min(self.batch_rows(step) for step in range(max(self.steps - 2, 0), self.steps))

    @functools.cached_property
    def most_rows(self) -> int:
        """Largest number of rows of a lane in a batch."""
        return -(-max(map(self.batch_rows, {0, self.steps - 1})) // self.count)

    @functools.cached_property
    def borders(self) -> tuple[int, ...]:
        """Borders of the lanes in the rows of the epoch: lane l has [borders[l], borders[l + 1])."""
        full = self.steps - 1
        last = self.batch_rows(full)
        return tuple(
            full * (self.batch_size * lane // self.count) + last * lane // self.count
            for lane in range(self.count + 1)
        )

    def batch_rows(self, step: int) -> int:
        """Return the number of rows of the batch of a step of the epoch."""
        start, stop = batch_bounds(step, self.rows, self.batch_size)
        return stop - start

    def spans(self, step: int, first: int, last: int) -> Iterator[Span]:
        """Yield the rows of each lane that a part of a batch consists of, in the order of the batch.

        Args:
            step: Step of the epoch.
            first: Index in the batch of the first row of the part.
            last: Index after its last row.
        """
        rows = self.batch_rows(step)
        for lane in range(self.count):
            begin = rows * lane // self.count
            start, stop = max(first, begin), min(last, rows * (lane + 1) // self.count)
            if start < stop:
                # All steps before this one are full batches.
                before = step * (self.batch_size * (lane + 1) // self.count - self.batch_size * lane // self.count)
                yield Span(lane, before + start - begin, before + stop - begin)


def lane_count(batch_size: int, row_groups: int) -> int:
    """Return the number of lanes, which depends on nothing else.

    It is the largest power of two, up to MOST_LANES, that gives each lane a row of each batch and 16 row groups.
    """
    most = min(MOST_LANES, batch_size, row_groups // _ROW_GROUPS_PER_LANE)
    return 1 << max(most.bit_length() - 1, 0)


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return the number of batches in an epoch of `rows` rows; see `batch_bounds`."""
    steps, tail = divmod(rows, batch_size)
    return max(steps + (tail >= min(SMALLEST_TAIL, batch_size)), 1)


def batch_bounds(step: int, rows: int, batch_size: int) -> tuple[int, int]:
    """Return the half-open interval of rows of a step of an epoch.

    All batches but the last have `batch_size` rows. The last batch has the remaining rows; a remainder of fewer
    than SMALLEST_TAIL rows is added to the last full batch instead.
    """
    last = step == steps_per_epoch(rows, batch_size) - 1
    return step * batch_size, rows if last else (step + 1) * batch_size


def replica_bounds(start: int, stop: int, replica: int, replicas: int) -> tuple[int, int]:
    """Return one replica's part of a batch [start, stop): contiguous, in order, sizes equal to within one."""
    rows = stop - start
    return start + rows * replica // replicas, start + rows * (replica + 1) // replicas
