"""Windows of rows: the bounded part of a dataset that is in memory, and how batches are taken out of it."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from featurize.dataset.reader import Shard, read_row_groups, read_track_ids
from featurize.dataset.schema import MFCC_SHAPE
from train.input.buffers import Buffers
from train.input.sampler import Int64, Sampler

LabeledSegments = tuple[NDArray[np.float32], NDArray[np.int32]]

_WINDOWS_HELD = 2  # the one in use and the one before or after it; a third while a batch still reads from it


class Windows:
    """The rows of some shards in some order, read ahead in the background.

    Any rows can be asked for at any time, from several threads at once; it is quick where they are asked for about
    in order.
    """

    def __init__(self, shards: Sequence[Shard], sampler: Sampler, lookback: int) -> None:
        """Take the shards whose row groups, one after another, `sampler` counts.

        `lookback` is how many rows before the latest that were asked for may still be asked for. A window is read
        ahead only when the one before the present has been left so far behind: it takes its place.
        """
        self._disorder = lookback
        self._groups = [(shard, index) for shard in shards for index in range(len(shard.row_groups))]
        self._sampler = sampler
        self._held: OrderedDict[tuple[int, int], Future[LabeledSegments]] = OrderedDict()
        # Two pools, since windows and batches are of different sizes.
        self._window_memory, self._batch_memory = Buffers(), Buffers()
        self._lock = threading.Lock()
        self._loader = ThreadPoolExecutor(_WINDOWS_HELD, "window")

    def rows(self, epoch: int, start: int, stop: int) -> LabeledSegments:
        """Return the rows [start, stop) of an epoch.

        Returns:
            float32 [stop - start, 40, 217], the MFCC; and int32 [stop - start], the class indices.
        """
        mfcc = self._batch_memory.take((stop - start, *MFCC_SHAPE))
        labels = np.empty(stop - start, np.int32)
        begin = 0
        for window, places in self._places(epoch, start, stop):
            held_mfcc, held_labels = self._window(epoch, window, start, stop)
            end = begin + len(places)
            # One call for all rows: it lets go of the interpreter once.
            np.take(held_mfcc, places, axis=0, out=mfcc[begin:end], mode="clip")
            labels[begin:end] = held_labels[places]
            begin = end
        return mfcc, labels

    def tracks(self, epoch: int, start: int, stop: int) -> list[str]:
        """Name the track of each of the rows [start, stop) of an epoch."""
        names: list[str] = []
        for window, places in self._places(epoch, start, stop):
            visits = self._visits(epoch, window)
            held = np.concatenate([self._track_ids(group)[rows] for group, rows in visits])
            names += held[places].tolist()
        return names

    def _places(self, epoch: int, start: int, stop: int) -> Iterator[tuple[int, Int64]]:
        """Find the rows [start, stop) of an epoch: windows, and places among the rows that each holds.

        Usually it is one window; two or more where the interval lies across their border.
        """
        offsets = self._sampler.epoch_plan(epoch).offsets
        begin = int(np.searchsorted(offsets, start, "right")) - 1
        for window in range(begin, int(np.searchsorted(offsets, stop, "left"))):
            offset = int(offsets[window])
            yield window, self._sampler.window_order(epoch, window)[max(start - offset, 0) : stop - offset]

    def _visits(self, epoch: int, window: int) -> list[tuple[int, Int64]]:
        """Return the row group of each visit of a window, and which of its rows are read."""
        one_pass = self._sampler.epoch_plan(epoch)
        visits = one_pass.windows[window]
        pairs = zip(one_pass.groups[visits].tolist(), one_pass.repeats[visits].tolist(), strict=True)
        return [(group, self._sampler.visit_rows(epoch, group, repeat)) for group, repeat in pairs]

    def _track_ids(self, group: int) -> NDArray[np.str_]:
        """Return the track of each row of a row group."""
        shard, index = self._groups[group]
        first = sum(shard.row_groups[:index])
        return np.array(read_track_ids(shard, 1)[first : first + shard.row_groups[index]])

    def _window(self, epoch: int, window: int, start: int, stop: int) -> LabeledSegments:
        """Return the rows of a window, waiting for them if need be; begin the next if [start, stop) is near it."""
        offsets = self._sampler.epoch_plan(epoch).offsets
        with self._lock:
            wanted = self._begin(epoch, window)
            if start >= offsets[window] + self._disorder or stop >= offsets[window + 1]:
                self._begin(*((epoch, window + 1) if window + 2 < len(offsets) else (epoch + 1, 0)))
        return wanted.result()

    def _begin(self, epoch: int, window: int) -> "Future[LabeledSegments]":
        """Start to read a window unless it is there; forget the one that was not used for longest."""
        key = (epoch, window)
        if key not in self._held:
            self._held[key] = self._loader.submit(self._load, epoch, window)
        self._held.move_to_end(key)
        while len(self._held) > _WINDOWS_HELD:
            self._held.popitem(last=False)
        return self._held[key]

    def _load(self, epoch: int, window: int) -> LabeledSegments:
        """Read the rows of a window into one array."""
        visits = self._visits(epoch, window)
        ends = np.cumsum([len(rows) for _, rows in visits])
        mfcc = self._window_memory.take((int(ends[-1]), *MFCC_SHAPE))
        labels = np.empty(int(ends[-1]), np.int32)

        read = read_row_groups([self._groups[group] for group, _ in visits])
        for (_, rows), end, (group_mfcc, group_labels) in zip(visits, ends, read, strict=True):
            place = slice(end - len(rows), end)
            np.take(group_mfcc, rows, axis=0, out=mfcc[place], mode="clip")
            labels[place] = group_labels[rows]
        return mfcc, labels
