"""In which order the rows of a dataset are visited: arithmetic on (seed, epoch), without any state.

The row groups of all shards are permuted; a window of them is held in memory and its rows are permuted;
batches are cut from that stream. So the batch of any step of any epoch can be had without the ones before it,
and nothing depends on thread timing or on the number of readers or replicas.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

# A last batch smaller than this joins the one before it, so that every replica has rows in every step.
SMALLEST_TAIL = 32

Int64 = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Pass:
    """One pass over the rows, cut into windows.

    Attributes:
        windows: the row groups of each window.
        offsets: int64 [windows + 1]; window w supplies the rows [offsets[w], offsets[w + 1]) of the pass.
    """

    windows: list[Int64]
    offsets: Int64


class Order(Protocol):
    """A rule by which rows are visited, epoch after epoch."""

    @property
    def rows(self) -> int:
        """The number of rows in each pass."""

    def of_epoch(self, epoch: int) -> Pass:
        """Say which row groups the windows of an epoch hold."""

    def within(self, epoch: int, window: int) -> Int64:
        """Say in which order the rows of a window are taken: positions in its concatenated row groups."""


class ShuffledOrder:
    """The order of training: every row once an epoch, in an order that (seed, epoch) determine."""

    def __init__(self, row_groups: Sequence[int], seed: int, window_rows: int) -> None:
        """Take the number of rows of each row group, and about how many rows a window may hold."""
        self._sizes = np.asarray(row_groups, np.int64)
        self._seed = seed
        self._window_rows = window_rows
        # A batch asks for the pass of its epoch; permuting a million row groups for each would take longer.
        self._recent = functools.lru_cache(maxsize=2)(self._permute)

    @property
    def rows(self) -> int:
        """The number of rows in each epoch."""
        return int(self._sizes.sum())

    def of_epoch(self, epoch: int) -> Pass:
        """Permute the row groups and cut them into windows."""
        return self._recent(epoch)

    def within(self, epoch: int, window: int) -> Int64:
        """Permute the rows of a window."""
        offsets = self.of_epoch(epoch).offsets
        return _generator(self._seed, epoch, window).permutation(int(offsets[window + 1] - offsets[window]))

    def _permute(self, epoch: int) -> Pass:
        groups = _generator(self._seed, epoch).permutation(len(self._sizes))
        ends = np.cumsum(self._sizes[groups])
        # A group belongs to the window that its middle row falls into; the last window takes what remains.
        middles = ends - self._sizes[groups] / 2
        wanted = max(1, round(self.rows / self._window_rows))
        window_of_group = np.minimum(middles * wanted // self.rows, wanted - 1)
        cuts = np.flatnonzero(np.diff(window_of_group)) + 1
        offsets = np.concatenate([[0], ends[cuts - 1], ends[-1:]])
        return Pass(np.split(groups, cuts), offsets)


class StoredOrder:
    """The order of evaluation: rows as they are stored, a row group a window, some segments left out."""

    def __init__(self, row_groups: Sequence[int], segments_per_track: int, kept: Sequence[int]) -> None:
        """Take the rows of each row group, the rows of a track, and which segments of a track to visit."""
        is_kept = np.isin(np.arange(segments_per_track), kept)
        self._kept = [np.flatnonzero(np.resize(is_kept, size)) for size in row_groups]
        self._pass = Pass(
            [np.array([group]) for group in range(len(row_groups))],
            np.concatenate([[0], np.cumsum([len(kept) for kept in self._kept])]).astype(np.int64),
        )

    @property
    def rows(self) -> int:
        """The number of rows visited."""
        return int(self._pass.offsets[-1])

    def of_epoch(self, epoch: int) -> Pass:
        """Every pass is the same."""
        return self._pass

    def within(self, epoch: int, window: int) -> Int64:
        """Leave out the segments that are not wanted."""
        return self._kept[window]


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return how many batches a pass over some rows has; see `batch_bounds`."""
    steps, tail = divmod(rows, batch_size)
    return max(steps + (tail >= min(SMALLEST_TAIL, batch_size)), 1)


def batch_bounds(step: int, rows: int, batch_size: int) -> tuple[int, int]:
    """Return the half-open interval of rows that a step of a pass takes.

    All batches have `batch_size` rows but the last. That takes what remains; a remainder of fewer than
    SMALLEST_TAIL rows is added to the last whole batch instead of making a batch of its own.
    """
    last = step == steps_per_epoch(rows, batch_size) - 1
    return step * batch_size, rows if last else (step + 1) * batch_size


def replica_bounds(start: int, stop: int, replica: int, replicas: int) -> tuple[int, int]:
    """Return the part of a batch [start, stop) that one replica takes: whole, in order, sizes alike."""
    rows = stop - start
    return start + rows * replica // replicas, start + rows * (replica + 1) // replicas


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
