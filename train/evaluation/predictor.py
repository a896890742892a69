"""Prediction of the segments of a fold on the replicas of a `tf.distribute` strategy, batch by batch."""

import collections
import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.evaluation.metrics import Float64, Int32, softmax
from train.input.batches import ReplicaBatch
from train.input.distributed import DistributedBatches
from train.input.stored_order import EvaluationStream, LaneBatch


class PredictedBatch(NamedTuple):
    """Predictions of one batch.

    Attributes:
        place: Rows of the batch in the fold, and its lane.
        probabilities: float64 [rows, classes].
        labels: int32 [rows], class indices.
    """

    place: LaneBatch
    probabilities: Float64
    labels: Int32


class Predictor:
    """Predicts folds with a model on the replicas of a strategy; each worker predicts its share of a fold."""

    def __init__(
        self, strategy: tf.distribute.Strategy, model: Any, after_batch: Callable[[], None] = lambda: None
    ) -> None:
        """Store the model; the step is traced by the first prediction.

        Args:
            strategy: Strategy under which the model was built or loaded.
            model: Model from float32 [batch, features, frames] to logits, float32 [batch, classes].
            after_batch: Called after each batch of each replica.
        """
        self._strategy = strategy
        self._model = model
        self._after_batch = after_batch
        self._step: Any = None
        self._sum: Any = None

    def predict(self, stream: EvaluationStream) -> Generator[PredictedBatch]:
        """Predict this worker's share of a fold, in stored order.

        The logits of a step are fetched after the next one has begun, so that a GPU need not wait for this
        process. Close the generator if it is not read to its end.
        """
        share, replicas = self._share(stream)
        steps = -(-len(share) // replicas)
        in_flight: collections.deque[tuple[range, Any]] = collections.deque()
        try:
            with DistributedBatches(self._strategy, stream, 0, steps) as parts:
                for step, part in enumerate(parts):
                    self._step = self._step or self._traced(parts.spec)
                    in_flight.append((share[step * replicas : (step + 1) * replicas], self._step(part)))
                    if len(in_flight) > 1:
                        yield from self._fetch(stream, *in_flight.popleft())
                while in_flight:
                    yield from self._fetch(stream, *in_flight.popleft())
        finally:
            stream.release()  # the windows of training stay in memory, too

    def add_over_workers(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of the arrays of all workers, float64 [numbers]; every worker must call it.

        It is exact for integers below 2^53, and for numbers that are 0 on all workers but one.
        """
        if len(self._local_replicas) == self._strategy.num_replicas_in_sync:
            return numbers
        self._sum = self._sum or self._traced_sum()
        total: NDArray[np.float64] = self._sum(tf.constant(numbers, tf.float64)).numpy()
        return total

    def _share(self, stream: EvaluationStream) -> tuple[range, int]:
        """Return the indices of this worker's batches, and the number of its replicas."""
        ids = self._local_replicas
        return stream.batches.share(ids[0] // len(ids), self._strategy.num_replicas_in_sync // len(ids)), len(ids)

    @functools.cached_property
    def _local_replicas(self) -> list[int]:
        """Indices of this worker's replicas among those of all workers."""
        traced = tf.function(lambda: self._strategy.run(_replica_id), autograph=False)
        ids = traced.get_concrete_function()()
        return [int(number) for number in self._strategy.experimental_local_results(ids)]

    def _fetch(self, stream: EvaluationStream, indices: range, parts: Any) -> Iterator[PredictedBatch]:
        """Yield the predictions of one step; the parts beyond the batches of the share are padding."""
        logits, labels = (self._strategy.experimental_local_results(values) for values in parts)
        for position, index in enumerate(indices):
            probabilities = softmax(logits[position].numpy())
            yield PredictedBatch(stream.batches[index], probabilities, labels[position].numpy())
            self._after_batch()

    def _traced(self, spec: Any) -> Any:
        def step(part: Any) -> Any:
            return self._strategy.run(lambda part: _evaluation_step(self._model, part), args=(part,))

        return tf.function(step, input_signature=[spec], autograph=False)

    def _traced_sum(self) -> Any:
        """Return a function that adds a tensor of each worker, which its first replica contributes."""
        first = self._local_replicas[0]

        def contribute(numbers: tf.Tensor) -> tf.Tensor:
            return tf.where(_replica_id() == first, numbers, tf.zeros_like(numbers))

        def add(numbers: tf.Tensor) -> tf.Tensor:
            parts = self._strategy.run(contribute, args=(numbers,))
            return self._strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)

        return tf.function(add, autograph=False)


def _replica_id() -> tf.Tensor:
    """Return the index of the current replica among all replicas, int32; `Strategy.run` calls it."""
    return tf.distribute.get_replica_context().replica_id_in_sync_group


def _evaluation_step(model: keras.Sequential, batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the logits, float32 [rows, classes], and the labels, int32 [rows], of one batch."""
    return tf.cast(model(batch.mfcc, training=False), tf.float32), batch.labels
