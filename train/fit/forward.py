"""The forward pass of training, in which dropout masks are functions of seed, step, layer and row.

Random numbers have no state that a checkpoint could miss, and a batch has the same masks for any number of
replicas. Keras's own Dropout would give every replica the same mask.
"""

import enum
import threading
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from train.errors import TrainError
from train.input.batches import ReplicaBatch


class Use(enum.IntEnum):
    """Use of a random number; layer i of a model has the number DROPOUT + i."""

    FRAMES = 0
    COEFFICIENTS = 1
    DROPOUT = 2


class StatelessRng:
    """Uniform random numbers for the rows of one replica's part of a batch, without state."""

    def __init__(self, seed: int, batch: ReplicaBatch) -> None:
        """Derive the key from the seed and the step of the batch."""
        self._key = tf.stack([tf.constant(seed, tf.int32), tf.cast(batch.step, tf.int32)])
        self._first, self._batch_rows = tf.cast(batch.first, tf.int32), tf.cast(batch.batch_rows, tf.int32)

    def uniform(self, use: int, rows: tf.Tensor, shape: tf.Tensor | list[int]) -> tf.Tensor:
        """Return float32 [rows, *shape] in [0, 1) for the `rows` rows of the part.

        The numbers are drawn for the whole batch, so that they do not depend on how it is divided.
        """
        key = tf.random.experimental.stateless_fold_in(self._key, use)
        drawn = tf.random.stateless_uniform(tf.concat([[self._batch_rows], shape], axis=0), key)
        return drawn[self._first : self._first + rows]


# From float32 [rows, coefficients, frames] and the random numbers of the rows to logits, float32 [rows, classes].
Forward = Callable[[tf.Tensor, StatelessRng], tf.Tensor]


def training_forward(model: keras.Model) -> Forward:
    """Return the forward pass of a model in training mode, with dropout masks drawn by position.

    Args:
        model: Chain or graph of layers that `refuse_random_layers` accepts. The layers, and therefore the weights,
            are shared.
    """
    if isinstance(model, keras.Sequential):
        return lambda segments, rng: forward(model, segments, rng)
    drawn = threading.local()  # each replica is traced in a separate thread
    replaced = {
        layer.name: _DrawnDropout(layer, index, drawn)
        for index, layer in enumerate(model.layers)
        if type(layer) is keras.layers.Dropout
    }
    graph = keras.models.clone_model(model, clone_function=lambda layer: replaced.get(layer.name, layer))

    def apply(segments: tf.Tensor, rng: StatelessRng) -> tf.Tensor:
        drawn.rng = rng
        try:
            return tf.cast(graph(segments, training=True), tf.float32)
        finally:
            del drawn.rng

    return apply


class _DrawnDropout(keras.layers.Layer):
    """Takes the place of a Dropout layer in a graph."""

    def __init__(self, layer: keras.layers.Dropout, index: int, drawn: Any) -> None:
        super().__init__(name=layer.name, dtype=layer.dtype_policy)
        self._rate = layer.rate
        self._index = index
        self._drawn = drawn

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the input with masks of `drawn.rng`; unchanged while Keras infers shapes."""
        rng = getattr(self._drawn, "rng", None)
        return x if rng is None else drop(x, self._rate, self._index, rng)


def drop(x: tf.Tensor, rate: float, index: int, rng: StatelessRng) -> tf.Tensor:
    """Return [rows, ...] with a fraction of the values set to 0 and the others scaled up.

    Args:
        x: Activations.
        rate: Fraction.
        index: Position of the layer in its model; each has other masks.
        rng: Random numbers for these rows.
    """
    shape = tf.shape(x)
    kept = rng.uniform(Use.DROPOUT + index, shape[0], shape[1:]) >= rate
    return tf.where(kept, x / (1 - rate), tf.zeros_like(x))


def forward(model: keras.Sequential, mfcc: tf.Tensor, rng: StatelessRng) -> tf.Tensor:
    """Apply a chain of layers in training mode, with dropout masks drawn from `rng`.

    Keras's own Dropout would give every replica the same mask, and checkpoints do not include its state.

    Args:
        model: Chain of layers that `refuse_random_layers` accepts.
        mfcc: float32 [rows, features, frames].
        rng: Random numbers for these rows.

    Returns:
        float32 [rows, classes], logits.
    """
    x = mfcc
    for index, layer in enumerate(model.layers):
        # Not its subclasses: SpatialDropout1D has other masks.
        is_dropout = type(layer) is keras.layers.Dropout
        x = drop(x, layer.rate, index, rng) if is_dropout else layer(x, training=True)
    return tf.cast(x, tf.float32)


def refuse_random_layers(model: keras.Model) -> None:
    """Check that the only random layers are Dropout directly in the model, which `training_forward` replaces.

    Raises:
        TrainError: The model has other random layers.
    """
    if found := random_layers(model):
        raise TrainError(
            f"{', '.join(found)} of the model {model.name} draws random numbers from its own state, so "
            "replicas would share masks and a resumed run would differ. Use keras.layers.Dropout, "
            "directly in the list of layers in train/model/architectures.py and not inside another model or layer."
        )


def random_layers(model: keras.Model) -> list[str]:
    """Return the paths of layers that draw random numbers, besides Dropout directly in the model."""
    layers = (layer for layer in model.layers if type(layer) is not keras.layers.Dropout)
    return [path for layer in layers for path in _random_layers(layer)]


def _random_layers(layer: keras.layers.Layer) -> list[str]:
    """Return the paths of a layer and of those inside it that have random state."""
    wrapped = [getattr(layer, name, None) for name in ("layer", "forward_layer", "backward_layer")]
    inner_layers = [*getattr(layer, "layers", []), *filter(None, wrapped)]
    inside = [f"{layer.name}/{path}" for inner in inner_layers for path in _random_layers(inner)]
    if inside or (isinstance(layer, keras.layers.RNN) and layer.dropout == layer.recurrent_dropout == 0):
        return inside  # recurrent layers have a generator, whether they use it or not
    # Variables of a layer that are not weights are the state of its random generator.
    unexplained = len(layer.variables) > len(layer.weights) and not inner_layers
    return [layer.name] if unexplained else []
