"""Batches read from shards and mixed, as a tf.data pipeline with bounded memory."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset.reader import Shard
from featurize.dataset.schema import MFCC_SHAPE
from featurize.errors import EarmarkError
from train.errors import TrainError
from train.input.sampler import Sampler, batch_bounds, replica_bounds, steps_per_epoch
from train.input.window_cache import LabeledSegments, WindowCache

_BATCHES_AHEAD = 4
_BATCHES_AT_ONCE = 2  # each in a Python thread; more would wait for the interpreter's lock


class ReplicaBatch(NamedTuple):
    """One replica's part of a batch, as arrays or as tensors.

    Attributes:
        mfcc: float32 [rows, 40, 217].
        labels: int32 [rows], class indices.
        others: int32 [rows], classes of the segments mixed in; see `train.input.mixup`.
        shares: float32 [rows], weight of `labels` in each row; `others` has the remaining weight.
        step: int64, step of the batch, counted from the start of training.
        first: int64, index in the batch of the first row of this part.
        batch_rows: int64, rows of the whole batch.
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

# From (step, rows of its batch) to the mfcc, labels, others and shares of the mixed batch.
Mix = Callable[[int, LabeledSegments], tuple[NDArray[Any], ...]]


class SegmentStream:
    """Batches of segments, each a function of its step alone.

    Any batch can be read at any time, from several threads at once, so a run that resumes at step n starts by
    reading batch n.
    """

    def __init__(self, shards: Sequence[Shard], sampler: Sampler, batch_size: int, mix: Mix | None = None) -> None:
        """Prepare to read batches; nothing is read yet.

        Args:
            shards: Shards to read.
            sampler: Order of their rows.
            batch_size: Rows of a batch.
            mix: Function applied to each batch by `replica_batch`; None for no mixing.

        Raises:
            TrainError: The sampler has no rows.
        """
        if not sampler.rows:
            raise TrainError("there are no segments to read in these folds")
        self._cache = WindowCache(shards, sampler, lookback=_BATCHES_AT_ONCE * batch_size)
        self._sampler = sampler
        self._batch_size = batch_size
        self._mix = mix
        self._failures: list[EarmarkError] = []

    @property
    def rows(self) -> int:
        """Number of segments in one epoch."""
        return self._sampler.rows

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in one epoch."""
        return steps_per_epoch(self._sampler.rows, self._batch_size)

    @property
    def smallest_batch(self) -> int:
        """Number of segments in the smallest batch of an epoch."""
        steps = range(max(self.steps_per_epoch - 2, 0), self.steps_per_epoch)
        return min(stop - start for _, start, stop in map(self._bounds, steps))

    def batch(self, step: int) -> LabeledSegments:
        """Return the batch of a step, counted from the start of training, unmixed.

        Returns:
            float32 [rows, 40, 217], MFCC; and int32 [rows], class indices.
        """
        return self._cache.rows(*self._bounds(step))

    def replica_batch(self, step: int, replica: int, replicas: int) -> ReplicaBatch:
        """Return one replica's part of the batch of a step, mixed if the stream mixes; its fields are arrays."""
        epoch, start, stop = self._bounds(step)
        first, last = replica_bounds(0, stop - start, replica, replicas)
        if self._mix:
            # The whole batch is mixed before it is divided, so its rows do not depend on the number of replicas.
            mixed = self._mix(step, self._cache.rows(epoch, start, stop))
            fields = [field[first:last] for field in mixed]
        else:
            mfcc, labels = self._cache.rows(epoch, start + first, start + last)
            fields = [mfcc, labels, labels, np.ones(last - first, np.float32)]
        return ReplicaBatch(*fields, *np.array([step, first, stop - start], np.int64))

    def explain(self, error: tf.errors.OpError) -> Exception:
        """Return the error that a pipeline of `dataset` ended with; TensorFlow turns our own ones into text."""
        return self._failures[0] if self._failures else error

    def tracks(self, step: int) -> list[str]:
        """Return the track of each row in the batch of a step."""
        return self._cache.tracks(*self._bounds(step))

    def dataset(self, start: int, stop: int, replicas: int, local_replicas: Sequence[int]) -> tf.data.Dataset:
        """Return the batches of the steps [start, stop) for some of the replicas.

        Args:
            start: First step.
            stop: Step after the last.
            replicas: Number of all replicas.
            local_replicas: Indices of the replicas to read for.

        Returns:
            Elements are `ReplicaBatch`: for each step one for each of `local_replicas`, in their order. They are
            computed in parallel and delivered in order.
        """
        types = [spec.dtype for spec in REPLICA_BATCH_SPEC]

        def read(index: int) -> list[Any]:
            step, position = divmod(index, len(local_replicas))
            try:
                return [*self.replica_batch(step, local_replicas[position], replicas)]
            except EarmarkError as error:
                self._failures.append(error)
                raise

        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        def to_tensors(index: tf.Tensor) -> ReplicaBatch:
            fields = tf.numpy_function(lambda i: read(int(i)), [index], types, stateful=False)
            return ReplicaBatch(
                *(
                    tf.ensure_shape(field, spec.shape)
                    for field, spec in zip(fields, REPLICA_BATCH_SPEC, strict=True)
                )
            )

        count = len(local_replicas)
        indices = tf.data.Dataset.range(start * count, stop * count)
        batches = indices.map(to_tensors, num_parallel_calls=_BATCHES_AT_ONCE, deterministic=True)
        return batches.prefetch(_BATCHES_AHEAD * count)

    def _bounds(self, step: int) -> tuple[int, int, int]:
        """Return the epoch of a step, and the half-open interval of its positions in that epoch."""
        epoch, step_of_epoch = divmod(step, self.steps_per_epoch)
        return epoch, *batch_bounds(step_of_epoch, self.rows, self._batch_size)
