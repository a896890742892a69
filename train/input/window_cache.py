"""Windows of rows in memory, a bounded part of a dataset, from which batches are read.

Lanes are explained in `train.input.lanes`; positions, slots and group rows in `train.input.sampler`.
"""

import bisect
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.dataset.reader import Shard, read_track_ids
from featurize.dataset.row_group_reader import RowGroupReader
from train.input.lanes import Span
from train.input.sampler import Sampler

LabeledSegments = tuple[NDArray[np.float32], NDArray[np.int32]]
_StoredSegments = tuple[NDArray[np.floating], NDArray[np.int32]]

# The next window of a lane is loaded when this share of the current one is left. The lanes reach their borders one
# after another, so about this share of them has two windows at a time. With few lanes, one of them always has.
_LOADED_AHEAD = 0.25
# Windows that are loaded at once. Each is one call of Arrow, which reads with its own threads; from a bucket,
# there must be more requests in flight than the row groups of two small windows.
_LOADERS, _LOADERS_REMOTE = 2, 16


def allocate(shape: tuple[int, ...], store: str = "float32") -> NDArray[Any]:
    """Return an uninitialized array in Arrow's memory.

    Arrow's allocator reuses freed memory. NumPy's requests new pages for each window, which takes longer than
    copying the rows into them. The memory is aligned to 64 bytes, so TensorFlow uses a batch without copying it.
    """
    size = math.prod(shape) * np.dtype(store).itemsize
    return np.frombuffer(pa.allocate_buffer(size), store).reshape(shape)


class _Piece(NamedTuple):
    """Rows of one window: of its positions, those in [start, stop)."""

    lane: int
    window: int
    start: int
    stop: int


class WindowCache:
    """Rows of shards in the order of a sampler, loaded ahead in the background.

    Any positions can be read at any time, from several threads at once; reads in roughly ascending order are fast.
    Only lanes that are read are loaded.
    """

    def __init__(
        self, shards: Sequence[Shard], sampler: Sampler, lookback: int, reader: RowGroupReader | None = None
    ) -> None:
        """Prepare to read; nothing is loaded yet.

        Args:
            shards: Shards of one dataset, at least one; the sampler numbers their row groups consecutively.
            sampler: Order of the rows.
            lookback: How far behind the newest read of a lane another read may start, in positions. A window is
                kept until reads have passed its end by that distance.
            reader: Reader of the row groups; None for a new one.
        """
        self._lookback = lookback
        self._format = shards[0].format
        self._groups = [(shard, index) for shard in shards for index in range(len(shard.row_groups))]
        self._sampler = sampler
        self._loaded_ahead = max(_LOADED_AHEAD, 1 / sampler.lanes.count)
        # Of each lane, the windows in memory by (epoch, window), the least recently used first.
        self._windows: dict[int, dict[tuple[int, int], Future[_StoredSegments]]] = {}
        self._lock = threading.Lock()
        self._reader = reader or RowGroupReader()
        is_remote = bool(shards[0].path.scheme)
        self._loader = ThreadPoolExecutor(_LOADERS_REMOTE if is_remote else _LOADERS, "window")

    def rows(self, epoch: int, spans: Sequence[Span], partners: bool = False) -> LabeledSegments:
        """Return rows of an epoch, span after span.

        Args:
            epoch: Epoch.
            spans: Rows to read, at least one.
            partners: Return the rows that mixup blends into these, instead of these.

        Returns:
            float32 [rows, features, frames]; and int32 [rows], class indices.
        """
        pieces = list(self._pieces(epoch, spans))
        with self._lock:  # all windows are loading before the first one is awaited
            windows = [self._window(epoch, piece) for piece in pieces]
        total = sum(piece.stop - piece.start for piece in pieces)
        mfcc, labels = allocate((total, *self._format.shape)), np.empty(total, np.int32)
        slots_of = self._sampler.partner_slots if partners else self._sampler.window_slots
        end = 0
        for (lane, window, start, stop), future in zip(pieces, windows, strict=True):
            window_mfcc, window_labels = future.result()
            slots = slots_of(epoch, lane, window)[start:stop]
            begin, end = end, end + stop - start
            # One call for all rows releases the interpreter's lock.
            if window_mfcc.dtype == mfcc.dtype:
                np.take(window_mfcc, slots, axis=0, out=mfcc[begin:end], mode="clip")
            else:
                mfcc[begin:end] = window_mfcc[slots]
            labels[begin:end] = window_labels[slots]
        return mfcc, labels

    def tracks(self, epoch: int, spans: Sequence[Span], partners: bool = False) -> list[str]:
        """Return the track of each row that `rows` returns."""
        slots_of = self._sampler.partner_slots if partners else self._sampler.window_slots
        names: list[str] = []
        for lane, window, start, stop in self._pieces(epoch, spans):
            visits = self._sampler.lane_plan(epoch, lane).window_visits(window)
            of_slot = np.concatenate(
                [self._track_ids(visit.group)[self._sampler.group_rows(epoch, visit)] for visit in visits]
            )
            names += of_slot[slots_of(epoch, lane, window)[start:stop]].tolist()
        return names

    def clear(self) -> None:
        """Free the memory of all windows; the next reads load them again."""
        with self._lock:
            self._windows.clear()

    def _pieces(self, epoch: int, spans: Sequence[Span]) -> Iterator[_Piece]:
        """Divide spans by windows: usually one window for each; more if a span crosses a border."""
        for lane, start, stop in spans:
            offsets = self._sampler.lane_plan(epoch, lane).offsets
            window = bisect.bisect_right(offsets, start) - 1
            while start < stop:
                offset, border = offsets[window], min(offsets[window + 1], stop)
                yield _Piece(lane, window, start - offset, border - offset)
                window, start = window + 1, border

    def _track_ids(self, group: int) -> NDArray[np.str_]:
        """Return the track of each row of a row group."""
        shard, index = self._groups[group]
        first = sum(shard.row_groups[:index])
        return np.array(read_track_ids(shard, 1)[first : first + shard.row_groups[index]])

    def _window(self, epoch: int, piece: _Piece) -> "Future[_StoredSegments]":
        """Return the window of a piece; start to load the next if its end is near, drop those before it.

        The lock is held by the caller.
        """
        lane, window, start, stop = piece
        plan = self._sampler.lane_plan(epoch, lane)
        size = plan.window_rows(window)
        future = self._start_loading(epoch, lane, window)
        if start >= self._lookback and len(self._windows[lane]) > 1:
            key = self._key(epoch, lane, window)
            self._windows[lane] = {other: kept for other, kept in self._windows[lane].items() if other >= key}
        if stop == size or (start >= self._lookback and size - stop <= self._loaded_ahead * size):
            if window + 1 < plan.windows:
                self._start_loading(epoch, lane, window + 1)
            elif self._sampler.content_epoch(epoch + 1, lane) != self._sampler.content_epoch(epoch, lane):
                self._start_loading(epoch + 1, lane, 0)
        return future

    def _key(self, epoch: int, lane: int, window: int) -> tuple[int, int]:
        return self._sampler.content_epoch(epoch, lane), window

    def _start_loading(self, epoch: int, lane: int, window: int) -> "Future[_StoredSegments]":
        """Start to load a window unless it is in memory; drop all but the two most recently used of its lane."""
        windows = self._windows.setdefault(lane, {})
        key = self._key(epoch, lane, window)
        future = windows.pop(key, None) or self._loader.submit(self._load, key[0], lane, window)
        windows[key] = future
        while len(windows) > 2:
            windows.pop(next(iter(windows)))
        return future

    def _load(self, epoch: int, lane: int, window: int) -> _StoredSegments:
        """Read the rows of a window into one array, of the type in which they are stored."""
        plan = self._sampler.lane_plan(epoch, lane)
        visits = [(visit.group, self._sampler.group_rows(epoch, visit)) for visit in plan.window_visits(window)]
        mfcc = allocate((plan.window_rows(window), *self._format.shape), self._format.store)
        labels = np.empty(len(mfcc), np.int32)
        read = self._reader.read([self._groups[group] for group, _ in visits])
        end = 0
        for (_, group_rows), (group_mfcc, group_labels) in zip(visits, read, strict=True):
            begin, end = end, end + len(group_rows)
            np.take(group_mfcc, group_rows, axis=0, out=mfcc[begin:end], mode="clip")
            labels[begin:end] = group_labels[group_rows]
        return mfcc, labels
