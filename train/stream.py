"""Shards to batches on the devices, through tf.data, with a bounded part of the dataset in memory."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset import MFCC_SHAPE, Shard, read_row_group
from train.config import TrainError
from train.order import Int64, Order, batch_bounds, replica_bounds, steps_per_epoch

Rows = tuple[NDArray[np.float32], NDArray[np.int32]]

_BATCHES_AHEAD = 4
_WINDOWS_HELD = 2  # the one in use and the one after it; a third lives on while a batch still reads from it
_READERS = 4


class SegmentStream:
    """Batches of segments, each a function of its step alone.

    Any batch can be asked for at any time, from several threads at once: a run that resumes at step n asks for
    step n. Windows of rows are read ahead in the background.
    """

    def __init__(self, shards: Sequence[Shard], order: Order, batch_size: int) -> None:
        """Take the shards whose row groups, one after another, `order` counts."""
        if not order.rows:
            raise TrainError("there are no segments to read in these folds")
        self._groups = [(shard, index) for shard in shards for index in range(len(shard.row_groups))]
        self._sizes = [size for shard in shards for size in shard.row_groups]
        self._order = order
        self._batch_size = batch_size
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

    def batch(self, step: int, replica: int = 0, replicas: int = 1) -> Rows:
        """Return one replica's part of the batch of a step, counted from the beginning of training.

        Returns:
            float32 [rows, 40, 217], the MFCC; and int32 [rows], the class indices.
        """
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        bounds = batch_bounds(step_of_epoch, self.rows, self._batch_size)
        start, stop = replica_bounds(*bounds, replica, replicas)
        offsets = self._order.of_epoch(epoch).offsets
        mfcc = np.empty((stop - start, *MFCC_SHAPE), np.float32)
        labels = np.empty(stop - start, np.int32)
        # Usually one window; two or more where the batch lies across their border.
        for window in range(int(np.searchsorted(offsets, start, "right")) - 1, len(offsets) - 1):
            first, last = max(start, int(offsets[window])), min(stop, int(offsets[window + 1]))
            if first >= stop:
                break
            rows, row_labels = self._window(epoch, window)
            picked = self._order.within(epoch, window)[first - offsets[window] : last - offsets[window]]
            np.take(rows, picked, axis=0, out=mfcc[first - start : last - start], mode="clip")
            labels[first - start : last - start] = row_labels[picked]
        return mfcc, labels

    def dataset(self, start: int, stop: int, replicas: int) -> tf.data.Dataset:
        """Return the batches of the steps [start, stop), each in as many consecutive parts as replicas.

        An element is (mfcc float32 [rows, 40, 217], labels int32 [rows], step int64, rows of the whole batch
        int64). Parts are made in parallel and delivered in order.
        """

        def part(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
            mfcc, labels, rows = tf.numpy_function(
                lambda i: self._part(int(i), replicas),
                [index],
                [tf.float32, tf.int32, tf.int64],
                stateful=False,
            )
            mfcc = tf.ensure_shape(mfcc, [None, *MFCC_SHAPE])
            return mfcc, tf.ensure_shape(labels, [None]), index // replicas, tf.ensure_shape(rows, [])

        parts = tf.data.Dataset.range(start * replicas, stop * replicas)
        return parts.map(part, num_parallel_calls=_BATCHES_AHEAD, deterministic=True).prefetch(
            _BATCHES_AHEAD * replicas
        )

    def _part(self, index: int, replicas: int) -> tuple[NDArray[np.float32], NDArray[np.int32], np.int64]:
        step, replica = divmod(index, replicas)
        start, stop = batch_bounds(step % self.steps_per_epoch, self.rows, self._batch_size)
        return *self.batch(step, replica, replicas), np.int64(stop - start)

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
            self._windows[key] = self._window_loader.submit(
                self._load, self._order.of_epoch(epoch).windows[window]
            )
        self._windows.move_to_end(key)
        while len(self._windows) > _WINDOWS_HELD:
            self._windows.popitem(last=False)
        return self._windows[key]

    def _load(self, groups: Int64) -> Rows:
        """Read some row groups into one array."""
        ends = np.cumsum([self._sizes[group] for group in groups])
        mfcc = np.empty((int(ends[-1]), *MFCC_SHAPE), np.float32)
        labels = np.empty(int(ends[-1]), np.int32)

        def read(group: int, end: int) -> None:
            place = slice(end - self._sizes[group], end)
            mfcc[place], labels[place] = read_row_group(*self._groups[group])

        list(self._readers.map(read, groups, ends))
        return mfcc, labels
