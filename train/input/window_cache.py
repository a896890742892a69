"""Windows of rows in memory, a bounded part of a dataset, from which batches are read.

Positions, slots and group rows are explained in `train.input.sampler`.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.dataset.reader import Shard, read_track_ids
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.dataset.schema import MFCC_SHAPE
from train.input.sampler import Int64, Sampler

LabeledSegments = tuple[NDArray[np.float32], NDArray[np.int32]]

_MAX_WINDOWS = (
    2  # the one in use and its predecessor or successor; a third exists while a batch still reads from it
)


def allocate(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an uninitialized float32 array in Arrow's memory.

    Arrow's allocator reuses freed memory. NumPy's requests new pages for each window, which takes longer than
    copying the rows into them. The memory is aligned to 64 bytes, so TensorFlow uses a batch without copying it.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    return np.frombuffer(pa.allocate_buffer(size), np.float32).reshape(shape)


class WindowCache:
    """Rows of shards in the order of a sampler, loaded ahead in the background.

    Any positions can be read at any time, from several threads at once; reads in roughly ascending order are fast.
    """

    def __init__(self, shards: Sequence[Shard], sampler: Sampler, lookback: int) -> None:
        """Prepare to read; nothing is loaded yet.

        Args:
            shards: Shards; the sampler numbers their row groups consecutively.
            sampler: Order of the rows.
            lookback: How far behind the newest read another read may start, in positions. The next window replaces
                the previous one, so it is loaded only once reads have passed the previous one by that distance.
        """
        self._lookback = lookback
        self._groups = [(shard, index) for shard in shards for index in range(len(shard.row_groups))]
        self._sampler = sampler
        self._windows: OrderedDict[tuple[int, int], Future[LabeledSegments]] = OrderedDict()
        self._lock = threading.Lock()
        self._reader = RowGroupReader()
        self._loader = ThreadPoolExecutor(_MAX_WINDOWS, "window")

    def rows(self, epoch: int, start: int, stop: int) -> LabeledSegments:
        """Return the rows at the positions [start, stop) of an epoch.

        Returns:
            float32 [stop - start, 40, 217], MFCC; and int32 [stop - start], class indices.
        """
        mfcc = allocate((stop - start, *MFCC_SHAPE))
        labels = np.empty(stop - start, np.int32)
        begin = 0
        for window, slots in self._slots(epoch, start, stop):
            window_mfcc, window_labels = self._window(epoch, window, start, stop)
            end = begin + len(slots)
            # One call for all rows releases the interpreter's lock.
            np.take(window_mfcc, slots, axis=0, out=mfcc[begin:end], mode="clip")
            labels[begin:end] = window_labels[slots]
            begin = end
        return mfcc, labels

    def tracks(self, epoch: int, start: int, stop: int) -> list[str]:
        """Return the track of each position in [start, stop) of an epoch."""
        names: list[str] = []
        for window, slots in self._slots(epoch, start, stop):
            visits = self._visits(epoch, window)
            of_slot = np.concatenate([self._track_ids(group)[group_rows] for group, group_rows in visits])
            names += of_slot[slots].tolist()
        return names

    def _slots(self, epoch: int, start: int, stop: int) -> Iterator[tuple[int, Int64]]:
        """Yield each window that contains positions of [start, stop) of an epoch, and their slots in it.

        Usually one window; more if the interval crosses a border.
        """
        offsets = self._sampler.epoch_plan(epoch).offsets
        begin = int(np.searchsorted(offsets, start, "right")) - 1
        for window in range(begin, int(np.searchsorted(offsets, stop, "left"))):
            offset = int(offsets[window])
            yield window, self._sampler.window_slots(epoch, window)[max(start - offset, 0) : stop - offset]

    def _visits(self, epoch: int, window: int) -> list[tuple[int, Int64]]:
        """Return the row group and the group rows of each visit of a window."""
        plan = self._sampler.epoch_plan(epoch)
        visits = plan.windows[window]
        pairs = zip(plan.groups[visits].tolist(), plan.repeats[visits].tolist(), strict=True)
        return [(group, self._sampler.group_rows(epoch, group, repeat)) for group, repeat in pairs]

    def _track_ids(self, group: int) -> NDArray[np.str_]:
        """Return the track of each row of a row group."""
        shard, index = self._groups[group]
        first = sum(shard.row_groups[:index])
        return np.array(read_track_ids(shard, 1)[first : first + shard.row_groups[index]])

    def _window(self, epoch: int, window: int, start: int, stop: int) -> LabeledSegments:
        """Return the rows of a window, loaded if needed; start to load the next if [start, stop) is near it."""
        offsets = self._sampler.epoch_plan(epoch).offsets
        with self._lock:
            future = self._start_loading(epoch, window)
            if start >= offsets[window] + self._lookback or stop >= offsets[window + 1]:
                self._start_loading(*((epoch, window + 1) if window + 2 < len(offsets) else (epoch + 1, 0)))
        return future.result()

    def _start_loading(self, epoch: int, window: int) -> "Future[LabeledSegments]":
        """Start to load a window unless it is in memory; drop the least recently used one."""
        key = (epoch, window)
        if key not in self._windows:
            self._windows[key] = self._loader.submit(self._load, epoch, window)
        self._windows.move_to_end(key)
        while len(self._windows) > _MAX_WINDOWS:
            self._windows.popitem(last=False)
        return self._windows[key]

    def _load(self, epoch: int, window: int) -> LabeledSegments:
        """Read the rows of a window into one array."""
        visits = self._visits(epoch, window)
        ends = np.cumsum([len(group_rows) for _, group_rows in visits])
        mfcc = allocate((int(ends[-1]), *MFCC_SHAPE))
        labels = np.empty(int(ends[-1]), np.int32)

        read = self._reader.read([self._groups[group] for group, _ in visits])
        for (_, group_rows), end, (group_mfcc, group_labels) in zip(visits, ends, read, strict=True):
            slots = slice(end - len(group_rows), end)
            np.take(group_mfcc, group_rows, axis=0, out=mfcc[slots], mode="clip")
            labels[slots] = group_labels[group_rows]
        return mfcc, labels
