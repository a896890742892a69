"""Shards to batches on the devices, through tf.data, with a bounded part of the dataset in memory."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset.reader import Shard
from featurize.dataset.schema import MFCC_SHAPE
from train.errors import TrainError
from train.input.sampler import Sampler, batch_bounds, replica_bounds, steps_per_epoch
from train.input.window_cache import LabeledSegments, WindowCache

_BATCHES_AHEAD = 4
_BATCHES_AT_ONCE = 2  # each in a Python thread of its own: more would wait for one another


class ReplicaBatch(NamedTuple):
    """One replica's part of a batch; of arrays or of tensors.

    Attributes:
        mfcc: float32 [rows, 40, 217].
        labels: int32 [rows], the class indices.
        others: int32 [rows], the classes of the segments mixed in; see `train.input.mixup`.
        shares: float32 [rows], how much of each row is `labels`; the rest is `others`.
        step: int64, counted from the beginning of training.
        first: int64, the index of the part's first row in the batch.
        batch_rows: int64, the rows of the whole batch.
    """

    mfcc: Any
    labels: Any
    others: Any
    shares: Any
    step: Any
    first: Any
    batch_rows: Any


REPLICA_BATCH_SPEC = ReplicaBatch(
    tf.TensorSpec((None, *MFCC_SHAPE), tf.float32),
    tf.TensorSpec((None,), tf.int32),
    tf.TensorSpec((None,), tf.int32),
    tf.TensorSpec((None,), tf.float32),
    *(tf.TensorSpec((), tf.int64),) * 3,
)

# (step, the rows of its batch) to mfcc, labels, others and shares of the mixed batch.
Mix = Callable[[int, LabeledSegments], tuple[NDArray[Any], ...]]


class SegmentStream:
    """Batches of segments, each a function of its step alone.

    Any batch can be asked for at any time, from several threads at once: a run that resumes at step n asks for
    step n.
    """

    def __init__(self, shards: Sequence[Shard], sampler: Sampler, batch_size: int, mix: Mix | None = None) -> None:
        """Stream the row groups of `shards`, in the order that `sampler` gives; `mix` is applied to each batch."""
        if not sampler.rows:
            raise TrainError("there are no segments to read in these folds")
        self._cache = WindowCache(shards, sampler, lookback=_BATCHES_AT_ONCE * batch_size)
        self._sampler = sampler
        self._batch_size = batch_size
        self._mix = mix

    @property
    def rows(self) -> int:
        """Segments in one epoch."""
        return self._sampler.rows

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        return steps_per_epoch(self._sampler.rows, self._batch_size)

    @property
    def smallest_batch(self) -> int:
        """Segments in the smallest batch of an epoch."""
        steps = range(max(self.steps_per_epoch - 2, 0), self.steps_per_epoch)
        return min(stop - start for _, start, stop in map(self._bounds, steps))

    def batch(self, step: int) -> LabeledSegments:
        """Return the batch of a step, counted from the beginning of training.

        Returns:
            float32 [rows, 40, 217], the MFCC; and int32 [rows], the class indices.
        """
        return self._cache.rows(*self._bounds(step))

    def part(self, step: int, replica: int, replicas: int) -> ReplicaBatch:
        """Return one replica's part of the batch of a step, mixed if the stream mixes; its fields are arrays."""
        epoch, start, stop = self._bounds(step)
        first, last = replica_bounds(0, stop - start, replica, replicas)
        if self._mix:
            # Rows are mixed over the whole batch, so that the parts are the same for any number of replicas.
            mixed = self._mix(step, self._cache.rows(epoch, start, stop))
            fields = [field[first:last] for field in mixed]
        else:
            mfcc, labels = self._cache.rows(epoch, start + first, start + last)
            fields = [mfcc, labels, labels, np.ones(last - first, np.float32)]
        return ReplicaBatch(*fields, *np.array([step, first, stop - start], np.int64))

    def tracks(self, step: int) -> list[str]:
        """Name the track of each row in the batch of a step."""
        return self._cache.tracks(*self._bounds(step))

    def dataset(self, start: int, stop: int, replicas: int, mine: Sequence[int]) -> tf.data.Dataset:
        """Return the parts that some of all replicas take of the batches of the steps [start, stop).

        An element is a `ReplicaBatch`: that of the first of `mine`, then that of the next. They are computed in
        parallel and delivered in order.
        """
        types = [spec.dtype for spec in REPLICA_BATCH_SPEC]

        def made(index: int) -> list[Any]:
            step, place = divmod(index, len(mine))
            return [*self.part(step, mine[place], replicas)]

        def part(index: tf.Tensor) -> ReplicaBatch:
            fields = tf.numpy_function(lambda i: made(int(i)), [index], types, stateful=False)
            return ReplicaBatch(
                *(
                    tf.ensure_shape(field, spec.shape)
                    for field, spec in zip(fields, REPLICA_BATCH_SPEC, strict=True)
                )
            )

        parts = tf.data.Dataset.range(start * len(mine), stop * len(mine))
        return parts.map(part, num_parallel_calls=_BATCHES_AT_ONCE, deterministic=True).prefetch(
            _BATCHES_AHEAD * len(mine)
        )

    def _bounds(self, step: int) -> tuple[int, int, int]:
        """Return the epoch of a step, and the half-open interval of positions that it takes."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        return epoch, *batch_bounds(step_of_epoch, self.rows, self._batch_size)
