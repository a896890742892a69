"""A moving average of the weights, which is evaluated and saved in their place (`train.average_epochs`)."""

import dataclasses

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class WeightAverage:
    """A copy of a model whose weights are the moving average of those of the model.

    It is a separate model, and not a second set of weights to exchange with the first, so that a checkpoint that
    is written during an evaluation has both, wherever training was stopped.

    Attributes:
        model: The copy.
        steps: Number of steps that the average remembers: a step fades to 1/e after so many later ones.
    """

    model: keras.Model
    steps: float

    def update(
        self, strategy: tf.distribute.Strategy, model: keras.Model, optimizer: keras.optimizers.Optimizer
    ) -> None:
        """Move the average toward the weights of the model after a step; called outside of the replicas.

        The moving statistics of batch normalization are averaged as the weights are. In the first steps the
        average remembers about a ninth of the steps that were made, so that it soon forgets the initial weights.

        Args:
            strategy: Strategy in whose scope both models were built.
            model: Model that is trained.
            optimizer: Optimizer that counts its steps.
        """
        done = tf.cast(optimizer.iterations.value, tf.float32)
        share = tf.maximum(1 / max(self.steps, 1.0), 9 / (10 + done))
        for average, latest in zip(self.model.weights, model.weights, strict=True):
            strategy.extended.update(average.value, _move, args=(latest.value, share), group=False)


def _move(average: tf.Variable, latest: tf.Variable, share: tf.Tensor) -> tf.Operation:
    if not average.dtype.is_floating:
        return average.assign(latest)
    return average.assign_add((latest - average) * tf.cast(share, average.dtype))


def average_of(model: keras.Model, steps: float) -> WeightAverage:
    """Return the average of a model before its first step, in the scope of the strategy of the model."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return WeightAverage(copy, steps)
