"""Batches read from shards and mixed, as a tf.data pipeline with bounded memory."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset.reader import Shard
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.errors import EarmarkError
from train.errors import TrainError
from train.input.lanes import Span, replica_bounds
from train.input.sampler import Sampler
from train.input.window_cache import LabeledSegments, WindowCache

_BATCHES_AHEAD = 4
BATCHES_AT_ONCE = 2  # each in a Python thread; more would wait for the interpreter's lock


class ReplicaBatch(NamedTuple):
    """One replica's part of a batch, as arrays or as tensors.

    Attributes:
        mfcc: float32 [rows, features, frames]: MFCC, or log-mel features if the dataset has these.
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


def replica_batch_spec(shape: tuple[int, int]) -> ReplicaBatch:
    """Return the `tf.TensorSpec` of each field of a part of a batch.

    Args:
        shape: Features and frames of a segment.
    """
    return ReplicaBatch(
        tf.TensorSpec((None, *shape), tf.float32),
        tf.TensorSpec((None,), tf.int32),
        tf.TensorSpec((None,), tf.int32),
        tf.TensorSpec((None,), tf.float32),
        *(tf.TensorSpec((), tf.int64),) * 3,
    )


# From a step and the rows of its batch to the weight that each row keeps in mixup, float32 [rows].
MixupShares = Callable[[int, int], NDArray[np.float32]]


class SegmentStream:
    """Batches of segments, each a function of its step alone.

    Any batch can be read at any time, from several threads at once, so a run that resumes at step n starts by
    reading batch n. Whoever reads a part of each batch reads only the lanes of the dataset that are in this part.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        sampler: Sampler,
        mixup: MixupShares | None = None,
        reader: RowGroupReader | None = None,
    ) -> None:
        """Prepare to read batches; nothing is read yet.

        Args:
            shards: Shards of one dataset to read.
            sampler: Order of their rows, and their division into batches.
            mixup: Weights from `train.input.mixup.mixup_shares`; None for no mixing.
            reader: Reader of the shards; None for a new one.

        Raises:
            TrainError: The sampler has no rows.
        """
        self._lanes = sampler.lanes
        if not self._lanes.rows:
            raise TrainError("there are no segments to read in these folds")
        self._shape = shards[0].format.shape
        self._cache = WindowCache(shards, sampler, lookback=BATCHES_AT_ONCE * self._lanes.most_rows, reader=reader)
        self._mixup = mixup
        self._failures: list[EarmarkError] = []

    @property
    def rows(self) -> int:
        """Number of segments in one epoch."""
        return self._lanes.rows

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in one epoch."""
        return self._lanes.steps

    @property
    def smallest_batch(self) -> int:
        """Number of segments in the smallest batch of an epoch."""
        return self._lanes.smallest_batch

    @property
    def spec(self) -> ReplicaBatch:
        """The `tf.TensorSpec` of each field of the elements of `dataset`."""
        return replica_batch_spec(self._shape)

    def batch(self, step: int) -> LabeledSegments:
        """Return the segments of the batch of a step, then those that mixup blends into them.

        Args:
            step: Step, counted from the start of training.

        Returns:
            float32 [rows, features, frames]; and int32 [rows], class indices.
        """
        epoch, spans = self._spans(step)
        own = self._cache.rows(epoch, spans)
        if not self._mixup:
            return own
        others = self._cache.rows(epoch, spans, partners=True)
        return np.concatenate([own[0], others[0]]), np.concatenate([own[1], others[1]])

    def tracks(self, step: int) -> list[str]:
        """Return the track of each segment that `batch` returns."""
        epoch, spans = self._spans(step)
        own = self._cache.tracks(epoch, spans)
        return own + self._cache.tracks(epoch, spans, partners=True) if self._mixup else own

    def examples(self) -> LabeledSegments:
        """Return up to a batch of segments of the first lane, as `batch` does; the same for every worker."""
        rows = min(self._lanes.batch_size, self._lanes.borders[1])
        return self._cache.rows(0, [Span(0, 0, rows)])

    def replica_batch(self, step: int, replica: int, replicas: int) -> ReplicaBatch:
        """Return one replica's part of the batch of a step, mixed if the stream mixes; its fields are arrays."""
        batch_rows = self._lanes.batch_rows(step % self._lanes.steps)
        first, last = replica_bounds(0, batch_rows, replica, replicas)
        epoch, spans = self._spans(step, first, last)
        mfcc, labels = self._cache.rows(epoch, spans)
        others, shares = labels, np.ones(last - first, np.float32)
        if self._mixup:
            mixed, others = self._cache.rows(epoch, spans, partners=True)
            # Drawn for the whole batch, so that they do not depend on the number of replicas.
            shares = self._mixup(step, batch_rows)[first:last]
            # In place, because the batch is large: mixed + share * (own - mixed).
            np.subtract(mfcc, mixed, out=mfcc)
            mfcc *= shares[:, None, None]
            mfcc += mixed
        return ReplicaBatch(mfcc, labels, others, shares, *np.array([step, first, batch_rows], np.int64))

    def release(self) -> None:
        """Free the memory of the segments that were read ahead; the next batches are read again."""
        self._cache.clear()

    def explain(self, error: tf.errors.OpError) -> Exception:
        """Return the error that a pipeline of `dataset` ended with; TensorFlow turns our own ones into text."""
        return self._failures[0] if self._failures else error

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

        Raises:
            TrainError: A replica would have no rows, which crashes TensorFlow's layers.
        """
        if self.smallest_batch < replicas:
            raise TrainError(
                f"{replicas} replicas cannot share a batch of {self.smallest_batch} segments. Set a smaller "
                "train.replicas, or a larger train.batch_size if the folds have more segments than that."
            )
        count = len(local_replicas)

        def read(index: int) -> ReplicaBatch:
            step, position = divmod(index, count)
            return self.replica_batch(step, local_replicas[position], replicas)

        return pipeline(read, self.spec, start * count, stop * count, count, self._failures)

    def _spans(self, step: int, first: int = 0, last: int | None = None) -> tuple[int, list[Span]]:
        """Return the epoch of a step, and the rows of each lane that the rows [first, last) of its batch are."""
        epoch, step_of_epoch = divmod(step, self._lanes.steps)
        last = self._lanes.batch_rows(step_of_epoch) if last is None else last
        return epoch, list(self._lanes.spans(step_of_epoch, first, last))


def pipeline(
    read: Callable[[int], ReplicaBatch],
    spec: ReplicaBatch,
    start: int,
    stop: int,
    replicas: int,
    failures: list[EarmarkError],
) -> tf.data.Dataset:
    """Return a dataset of what a function reads, computed in parallel and ahead, and delivered in order.

    Args:
        read: Function from an index to a `ReplicaBatch` of arrays; called in several threads.
        spec: The `tf.TensorSpec` of each field.
        start: First index.
        stop: Index after the last.
        replicas: Number of replicas that take the elements in turn.
        failures: Receives the error that ends the dataset, because TensorFlow turns it into text.
    """
    types = [field.dtype for field in spec]

    def fields(index: int) -> list[Any]:
        try:
            return [*read(index)]
        except EarmarkError as error:
            failures.append(error)
            raise

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def to_tensors(index: tf.Tensor) -> ReplicaBatch:
        tensors = tf.numpy_function(lambda i: fields(int(i)), [index], types, stateful=False)
        return ReplicaBatch(
            *(tf.ensure_shape(tensor, known.shape) for tensor, known in zip(tensors, spec, strict=True))
        )

    indices = tf.data.Dataset.range(start, stop)
    batches = indices.map(to_tensors, num_parallel_calls=BATCHES_AT_ONCE, deterministic=True)
    return batches.prefetch(_BATCHES_AHEAD * replicas)
