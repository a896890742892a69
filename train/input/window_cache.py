"""Windows of rows in memory, a bounded part of a dataset, from which batches are taken.

Positions, slots and group rows are as `train.input.sampler` draws them.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.dataset.reader import Shard, read_row_groups, read_track_ids
from featurize.dataset.schema import MFCC_SHAPE
from train.input.sampler import Int64, Sampler

LabeledSegments = tuple[NDArray[np.float32], NDArray[np.int32]]

_WINDOWS_HELD = 2  # the one in use and the one before or after it; a third while a batch still reads from it


def allocate(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return float32 of a shape, uninitialized, in Arrow's memory.

    Arrow's allocator uses freed memory again. NumPy's takes fresh pages for each window, which cost more than what
    is copied into them. The memory is aligned to 64 bytes, so TensorFlow takes a batch without copying it.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    return np.frombuffer(pa.allocate_buffer(size), np.float32).reshape(shape)


class WindowCache:
    """The rows of some shards in the order of a sampler, read ahead in the background.

    Any positions can be read at any time, from several threads at once; reads in about ascending order are fast.
    """

    def __init__(self, shards: Sequence[Shard], sampler: Sampler, lookback: int) -> None:
        """Take shards and their order.

        Args:
            shards: Shards whose row groups, one after another, `sampler` counts.
            sampler: Order of the rows.
            lookback: How many positions behind the newest read another one may start. The next window takes the
                memory of the previous one, so it is read ahead only once the previous one is that far behind.
        """
        self._lookback = lookback
        self._groups = [(shard, index) for shard in shards for index in range(len(shard.row_groups))]
        self._sampler = sampler
        self._held: OrderedDict[tuple[int, int], Future[LabeledSegments]] = OrderedDict()
        self._lock = threading.Lock()
        self._loader = ThreadPoolExecutor(_WINDOWS_HELD, "window")

    def rows(self, epoch: int, start: int, stop: int) -> LabeledSegments:
        """Return the rows at the positions [start, stop) of an epoch.

        Returns:
            float32 [stop - start, 40, 217], the MFCC; and int32 [stop - start], the class indices.
        """
        mfcc = allocate((stop - start, *MFCC_SHAPE))
        labels = np.empty(stop - start, np.int32)
        begin = 0
        for window, slots in self._slots(epoch, start, stop):
            window_mfcc, window_labels = self._window(epoch, window, start, stop)
            end = begin + len(slots)
            # One call for all rows, which releases the interpreter's lock once.
            np.take(window_mfcc, slots, axis=0, out=mfcc[begin:end], mode="clip")
            labels[begin:end] = window_labels[slots]
            begin = end
        return mfcc, labels

    def tracks(self, epoch: int, start: int, stop: int) -> list[str]:
        """Return the track of each of the positions [start, stop) of an epoch."""
        names: list[str] = []
        for window, slots in self._slots(epoch, start, stop):
            visits = self._visits(epoch, window)
            of_slot = np.concatenate([self._track_ids(group)[group_rows] for group, group_rows in visits])
            names += of_slot[slots].tolist()
        return names

    def _slots(self, epoch: int, start: int, stop: int) -> Iterator[tuple[int, Int64]]:
        """Yield the windows that hold the positions [start, stop) of an epoch, and the slots in each.

        Usually that is one window; two or more where the interval crosses their borders.
        """
        offsets = self._sampler.epoch_plan(epoch).offsets
        begin = int(np.searchsorted(offsets, start, "right")) - 1
        for window in range(begin, int(np.searchsorted(offsets, stop, "left"))):
            offset = int(offsets[window])
            yield window, self._sampler.window_slots(epoch, window)[max(start - offset, 0) : stop - offset]

    def _visits(self, epoch: int, window: int) -> list[tuple[int, Int64]]:
        """Return the row group of each visit of a window, and the group rows that it reads."""
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
        """Return the rows of a window, read if needed; begin the next one if [start, stop) is near it."""
        offsets = self._sampler.epoch_plan(epoch).offsets
        with self._lock:
            wanted = self._begin(epoch, window)
            if start >= offsets[window] + self._lookback or stop >= offsets[window + 1]:
                self._begin(*((epoch, window + 1) if window + 2 < len(offsets) else (epoch + 1, 0)))
        return wanted.result()

    def _begin(self, epoch: int, window: int) -> "Future[LabeledSegments]":
        """Start to read a window unless it is there; drop the least recently used one."""
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
        ends = np.cumsum([len(group_rows) for _, group_rows in visits])
        mfcc = allocate((int(ends[-1]), *MFCC_SHAPE))
        labels = np.empty(int(ends[-1]), np.int32)

        read = read_row_groups([self._groups[group] for group, _ in visits])
        for (_, group_rows), end, (group_mfcc, group_labels) in zip(visits, ends, read, strict=True):
            slots = slice(end - len(group_rows), end)
            np.take(group_mfcc, group_rows, axis=0, out=mfcc[slots], mode="clip")
            labels[slots] = group_labels[group_rows]
        return mfcc, labels
