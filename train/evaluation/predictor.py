"""Prediction of a stream of segments on the replicas of a `tf.distribute` strategy."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from train.evaluation.metrics import Float64, Int32, softmax
from train.input.batches import ReplicaBatch, SegmentStream
from train.input.distributed import DistributedBatches


class Predictor:
    """Predicts streams of segments with a model on the replicas of a strategy."""

    def __init__(
        self, strategy: tf.distribute.Strategy, model: Any, after_batch: Callable[[], None] = lambda: None
    ) -> None:
        """Store the model; the step is traced by the first call.

        Args:
            strategy: Strategy under which the model was built or loaded.
            model: Model from float32 [batch, features, frames] to logits, float32 [batch, classes].
            after_batch: Called after each batch.
        """
        self._strategy = strategy
        self._model = model
        self._after_batch = after_batch
        self._step: Any = None

    def __call__(self, stream: SegmentStream) -> tuple[Float64, Int32]:
        """Predict every segment of a stream, in its order.

        Returns:
            Probabilities, float64 [segments, classes], and labels, int32 [segments].
        """
        logits, labels = [], []
        with DistributedBatches(self._strategy, stream, 0, stream.steps_per_epoch) as parts:
            self._step = self._step or self._traced(parts.spec)
            for part in parts:
                step_logits, step_labels = self._step(part)
                logits.append(step_logits.numpy())
                labels.append(step_labels.numpy())
                self._after_batch()
        stream.release()  # the windows of training stay in memory, too
        return softmax(np.concatenate(logits)), np.concatenate(labels)

    def _traced(self, spec: Any) -> Any:
        def step(part: Any) -> Any:
            parts = self._strategy.run(lambda part: _evaluation_step(self._model, part), args=(part,))
            # Concatenated in the order of the replicas, the parts are the batch; every worker gets all of it.
            return [self._strategy.gather(part, axis=0) for part in parts]

        return tf.function(step, input_signature=[spec], autograph=False)


def _evaluation_step(model: keras.Sequential, batch: ReplicaBatch) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the logits, float32 [rows, classes], and the labels, int32 [rows], of one replica's part."""
    return tf.cast(model(batch.mfcc, training=False), tf.float32), batch.labels
