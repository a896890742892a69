"""Batches on their way from a stream to the replicas of a strategy."""

from types import TracebackType
from typing import Any

import tensorflow as tf

from train.errors import TrainError
from train.input.batches import REPLICA_BATCH_SPEC, ReplicaBatch, SegmentStream


class DistributedBatches:
    """The batches of some steps, one after another, each in parts on the replicas; read ahead onto them.

    A context manager: on leaving, TensorFlow stops to read ahead. An iterator that lives on in the frames of an
    exception's traceback until the interpreter ends would wait for Python code that cannot run any more.
    """

    def __init__(self, strategy: tf.distribute.Strategy, stream: SegmentStream, start: int, stop: int) -> None:
        """Take the steps [start, stop).

        Raises:
            TrainError: a replica would be without rows, which TensorFlow's layers do not survive.
        """
        replicas = strategy.num_replicas_in_sync
        if stream.smallest_batch < replicas:
            raise TrainError(
                f"{replicas} replicas cannot share a batch of {stream.smallest_batch} segments. Set a smaller "
                "train.replicas, or a larger train.batch_size if the folds have more segments than that."
            )
        # Endless, because where there may be an end TensorFlow asks each replica whether there is more, which
        # takes milliseconds a step; the steps are counted here.
        padding = tf.data.Dataset.from_tensors(ReplicaBatch(*map(_nothing, REPLICA_BATCH_SPEC))).repeat()

        def parts(context: tf.distribute.InputContext) -> tf.data.Dataset:
            here = replicas // context.num_input_pipelines  # of the replicas; each worker has a pipeline
            first = context.input_pipeline_id * here
            return stream.dataset(start, stop, replicas, range(first, first + here)).concatenate(padding)

        batches = strategy.distribute_datasets_from_function(parts)
        self.spec = batches.element_spec
        self._left = stop - start
        self._batches: Any = iter(batches) if self._left else iter(())

    def __enter__(self) -> "DistributedBatches":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches = iter(())

    def __iter__(self) -> "DistributedBatches":
        return self

    def __next__(self) -> Any:
        if not self._left:
            raise StopIteration
        self._left -= 1
        return next(self._batches)


def _nothing(spec: tf.TensorSpec) -> tf.Tensor:
    """Return one row of nought, or one nought."""
    return tf.zeros([1 if side is None else side for side in spec.shape], spec.dtype)
