"""Shards to batches on the devices, through tf.data, with a bounded part of the dataset in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset import MFCC_SHAPE, Shard, read_row_group, read_track_ids
from train.config import TrainError
from train.order import Int64, Order, batch_bounds, replica_bounds, steps_per_epoch

Rows = tuple[NDArray[np.float32], NDArray[np.int32]]

_BATCHES_AHEAD = 4
_WINDOWS_HELD = 2  # the one in use and the one after it; a third lives on while a batch still reads from it
_READERS = 4


class Part(NamedTuple):
    """One replica's part of a batch; of arrays or of tensors.

    Attributes:
        mfcc: float32 [rows, 40, 217].
        labels: int32 [rows], the class indices.
        others: int32 [rows], the classes of the segments mixed in; see `train.mixup`.
        shares: float32 [rows], how much of each row is `labels`; the rest is `others`.
        step: int64, counted from the beginning of training.
        first: int64, the place of the part's first row in the batch.
        batch_rows: int64, the rows of the whole batch.
    """

    mfcc: Any
    labels: Any
    others: Any
    shares: Any
    step: Any
    first: Any
    batch_rows: Any


PART_SPEC = Part(
    tf.TensorSpec((None, *MFCC_SHAPE), tf.float32),
    tf.TensorSpec((None,), tf.int32),
    tf.TensorSpec((None,), tf.int32),
    tf.TensorSpec((None,), tf.float32),
    *(tf.TensorSpec((), tf.int64),) * 3,
)

# (step, the rows of its batch) to mfcc, labels, others and shares of the mixed batch.
Mix = Callable[[int, Rows], tuple[NDArray[Any], ...]]


class SegmentStream:
    """Batches of segments, each a function of its step alone.

    Any batch can be asked for at any time, from several threads at once: a run that resumes at step n asks for
    step n. Windows of rows are read ahead in the background.
    """

    def __init__(self, shards: Sequence[Shard], order: Order, batch_size: int, mix: Mix | None = None) -> None:
        """Take the shards whose row groups, one after another, `order` counts; `mix` is applied to each batch."""
        if not order.rows:
            raise TrainError("there are no segments to read in these folds")
        self._groups = [(shard, index) for shard in shards for index in range(len(shard.row_groups))]
        self._order = order
        self._batch_size = batch_size
        self._mix = mix
        self._windows: OrderedDict[tuple[int, int], Future[Rows]] = OrderedDict()
        self._lock = threading.Lock()
        self._window_loader = ThreadPoolExecutor(_WINDOWS_HELD, "window")
        self._readers = ThreadPoolExecutor(_READERS, "row-group")

    @property
    def rows(self) -> int:
        """Segments in one epoch."""
        return self._order.rows

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        return steps_per_epoch(self._order.rows, self._batch_size)

    @property
    def smallest_batch(self) -> int:
        """Segments in the smallest batch of an epoch."""
        steps = range(max(self.steps_per_epoch - 2, 0), self.steps_per_epoch)
        return min(stop - start for start, stop in (self._bounds(step)[1] for step in steps))

    def batch(self, step: int, replica: int = 0, replicas: int = 1) -> Rows:
        """Return one replica's part of the batch of a step, counted from the beginning of training.

        Returns:
            float32 [rows, 40, 217], the MFCC; and int32 [rows], the class indices.
        """
        epoch, bounds = self._bounds(step)
        return self._rows(epoch, *replica_bounds(*bounds, replica, replicas))

    def part(self, step: int, replica: int = 0, replicas: int = 1) -> Part:
        """Return one replica's part of the batch of a step, mixed if the stream mixes; its fields are arrays."""
        epoch, (start, stop) = self._bounds(step)
        first, last = replica_bounds(start, stop, replica, replicas)
        if self._mix:
            # Rows are mixed over the whole batch, so that the parts are the same for any number of replicas.
            mixed = self._mix(step, self._rows(epoch, start, stop))
            fields = [np.ascontiguousarray(field[first - start : last - start]) for field in mixed]
        else:
            mfcc, labels = self._rows(epoch, first, last)
            fields = [mfcc, labels, labels, np.ones(last - first, np.float32)]
        return Part(*fields, *np.array([step, first - start, stop - start], np.int64))

    def tracks(self, step: int) -> list[str]:
        """Name the track of each row in the batch of a step."""
        epoch, (start, stop) = self._bounds(step)
        names: list[str] = []
        for window, picked in self._picked(epoch, start, stop):
            visited = self._visited(epoch, self._order.of_epoch(epoch).windows[window])
            held = np.concatenate([self._track_ids(group)[rows] for group, rows in visited])
            names += held[picked].tolist()
        return names

    def dataset(self, start: int, stop: int, replicas: int) -> tf.data.Dataset:
        """Return the batches of the steps [start, stop), each in as many consecutive parts as replicas.

        An element is a `Part`. Parts are made in parallel and delivered in order.
        """
        types = [spec.dtype for spec in PART_SPEC]

        def part(index: tf.Tensor) -> Part:
            fields = tf.numpy_function(
                lambda i: [*self.part(*divmod(int(i), replicas), replicas)], [index], types, stateful=False
            )
            return Part(
                *(tf.ensure_shape(field, spec.shape) for field, spec in zip(fields, PART_SPEC, strict=True))
            )

        parts = tf.data.Dataset.range(start * replicas, stop * replicas)
        return parts.map(part, num_parallel_calls=_BATCHES_AHEAD, deterministic=True).prefetch(
            _BATCHES_AHEAD * replicas
        )

    def _bounds(self, step: int) -> tuple[int, tuple[int, int]]:
        """Return the epoch of a step, and the half-open interval of the epoch's rows that it takes."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        return epoch, batch_bounds(step_of_epoch, self.rows, self._batch_size)

    def _rows(self, epoch: int, start: int, stop: int) -> Rows:
        """Return the rows [start, stop) of an epoch."""
        mfcc = np.empty((stop - start, *MFCC_SHAPE), np.float32)
        labels = np.empty(stop - start, np.int32)
        first = 0
        for window, picked in self._picked(epoch, start, stop):
            rows, row_labels = self._window(epoch, window)
            last = first + len(picked)
            np.take(rows, picked, axis=0, out=mfcc[first:last], mode="clip")
            labels[first:last] = row_labels[picked]
            first = last
        return mfcc, labels

    def _picked(self, epoch: int, start: int, stop: int) -> list[tuple[int, Int64]]:
        """Find the rows [start, stop) of an epoch: windows, and places among the rows that each holds.

        Usually it is one window; two or more where the interval lies across their border.
        """
        offsets = self._order.of_epoch(epoch).offsets
        windows = range(
            int(np.searchsorted(offsets, start, "right")) - 1, int(np.searchsorted(offsets, stop, "left"))
        )
        return [
            (window, self._order.within(epoch, window)[max(start - offset, 0) : stop - offset])
            for window, offset in ((window, int(offsets[window])) for window in windows)
        ]

    def _visited(self, epoch: int, visits: Int64) -> list[tuple[int, Int64]]:
        """Return the row group of each visit, and which of its rows are read."""
        one_pass = self._order.of_epoch(epoch)
        pairs = zip(one_pass.groups[visits].tolist(), one_pass.turns[visits].tolist(), strict=True)
        return [(group, self._order.visited(epoch, group, turn)) for group, turn in pairs]

    def _track_ids(self, group: int) -> NDArray[np.str_]:
        """Return the track of each row of a row group."""
        shard, index = self._groups[group]
        first = sum(shard.row_groups[:index])
        return np.array(read_track_ids(shard, 1)[first : first + shard.row_groups[index]])

    def _window(self, epoch: int, window: int) -> Rows:
        """Return the rows of a window as stored, waiting for them if need be; the next one is begun."""
        following = (epoch, window + 1)
        if window + 1 == len(self._order.of_epoch(epoch).windows):
            following = (epoch + 1, 0)
        with self._lock:
            wanted = self._begin(epoch, window)
            self._begin(*following)
        return wanted.result()

    def _begin(self, epoch: int, window: int) -> "Future[Rows]":
        """Start to read a window unless it is there; forget the one that was not used for longest."""
        key = (epoch, window)
        if key not in self._windows:
            self._windows[key] = self._window_loader.submit(self._load, epoch, window)
        self._windows.move_to_end(key)
        while len(self._windows) > _WINDOWS_HELD:
            self._windows.popitem(last=False)
        return self._windows[key]

    def _load(self, epoch: int, window: int) -> Rows:
        """Read the rows of a window into one array."""
        visited = self._visited(epoch, self._order.of_epoch(epoch).windows[window])
        ends = np.cumsum([len(rows) for _, rows in visited])
        mfcc = np.empty((int(ends[-1]), *MFCC_SHAPE), np.float32)
        labels = np.empty(int(ends[-1]), np.int32)

        def read(visit: tuple[int, Int64], end: int) -> None:
            group, rows = visit
            place = slice(end - len(rows), end)
            group_mfcc, group_labels = read_row_group(*self._groups[group])
            np.take(group_mfcc, rows, axis=0, out=mfcc[place], mode="clip")
            labels[place] = group_labels[rows]

        list(self._readers.map(read, visited, ends))
        return mfcc, labels
