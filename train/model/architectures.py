"""The networks: the published ones, and one that reads a segment as what each coefficient does in time."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from featurize.dataset.schema import MFCC_SHAPE
from train.model.normalization import Statistics, batch_normalization, input_normalization

DENSE_UNITS = (500, 100)  # of the published networks
FILTER_FRAMES = 25  # 0.58 s
FILTERS_PER_COEFFICIENT = 4
STATISTICS_DROPOUT = 0.3
STATISTICS_UNITS = 256
_SMALLEST_VARIANCE = 1e-5

Layers = list[Any]


@dataclasses.dataclass(frozen=True)
class LayerFactory:
    """How the layers of one model are made.

    Attributes:
        dropout: the share of activations dropped before the logits.
        precision: a Keras dtype policy.
        synchronized: Whether batch normalization goes over all replicas.
    """

    dropout: float
    precision: str
    synchronized: bool

    def norm(self) -> keras.layers.Layer:
        """Return a batch normalization."""
        return batch_normalization(self.precision, self.synchronized)


def build_model(
    name: str,
    classes: int,
    dropout: float,
    normalise_by: Statistics | None = None,
    precision: str = "float32",
    synchronized: bool = True,
) -> keras.Sequential:
    """Build a model with initial weights.

    Args:
        name: Key of `train.model_names.MODELS`.
        classes: the number of logits.
        dropout: the share of activations dropped before the logits in training.
        normalise_by: Statistics by which the first layer normalizes the input; None for no such layer.
        precision: a Keras dtype policy; the logits are float32 in any case.
        synchronized: Whether batch normalization goes over all replicas.

    Returns:
        a chain of layers from float32 [batch, 40, 217] (MFCC in dB, as the featurizer makes them) to
        float32 [batch, classes] (logits: apply softmax once to have probabilities). All are Keras's own, so that
        it can be loaded without Earmark.
    """
    layers: Layers = [keras.Input(MFCC_SHAPE, name="mfcc")]
    if normalise_by:
        layers.append(input_normalization(normalise_by))
    layers += LAYERS[name](LayerFactory(dropout, precision, synchronized))
    layers.append(keras.layers.Dropout(dropout, dtype=precision, name="dropout"))
    layers.append(keras.layers.Dense(classes, dtype="float32", name="logits"))
    return keras.Sequential(layers, name=name.replace("-", "_"))


def _published(filters: Sequence[int], normalised: bool, make: LayerFactory) -> Layers:
    """Return convolutions over the MFCC image, then dense layers.

    Each convolution is valid, 5x5, with ReLU and 2x2 max pooling; a normalisation goes over each of the last
    channels, and ReLU is applied again.
    """
    layers: Layers = [keras.layers.Reshape((*MFCC_SHAPE, 1), dtype=make.precision, name="image")]
    for i, count in enumerate(filters, start=1):
        layers.append(keras.layers.Conv2D(count, 5, activation="relu", dtype=make.precision, name=f"conv{i}"))
        layers.append(keras.layers.MaxPooling2D(2, dtype=make.precision, name=f"pool{i}"))
    if normalised:
        layers += [make.norm(), keras.layers.ReLU(dtype=make.precision, name="norm_relu")]
    layers.append(keras.layers.Flatten(dtype=make.precision, name="flatten"))
    for i, units in enumerate(DENSE_UNITS, start=1):
        layers.append(keras.layers.Dense(units, activation="relu", dtype=make.precision, name=f"dense{i}"))
    return layers


def _modulation(make: LayerFactory) -> Layers:
    """Return short filters over each coefficient's course in time, then the mean and deviation of what they pass.

    Filters that no other coefficient enters tell slow from fast movement, as a modulation spectrum does; mean
    and deviation over the frames forget when it happened. With 40 x 4 filters of 25 frames there is little that
    a small collection could be learned by heart with.
    """
    frames = MFCC_SHAPE[1] - FILTER_FRAMES + 1
    return [
        keras.layers.Permute((2, 1), dtype=make.precision, name="frames_first"),
        keras.layers.DepthwiseConv1D(
            FILTER_FRAMES,
            depth_multiplier=FILTERS_PER_COEFFICIENT,
            use_bias=False,
            dtype=make.precision,
            name="filters",
        ),
        _mean_and_deviation(frames, MFCC_SHAPE[0] * FILTERS_PER_COEFFICIENT),
        make.norm(),
        keras.layers.Dropout(STATISTICS_DROPOUT, dtype=make.precision, name="statistics_dropout"),
        keras.layers.Dense(STATISTICS_UNITS, activation="relu", dtype=make.precision, name="dense"),
    ]


def _mean_and_deviation(frames: int, channels: int) -> keras.Model:
    """Return a layer from [batch, frames, channels] to the mean and the log deviation, [batch, 2 * channels]."""
    channel_frames = keras.Input((frames, channels))
    values = keras.ops.cast(channel_frames, "float32")
    mean = keras.ops.mean(values, axis=1)
    variance = keras.ops.mean(keras.ops.square(values - keras.ops.mean(values, axis=1, keepdims=True)), axis=1)
    log_deviation = 0.5 * keras.ops.log(variance + _SMALLEST_VARIANCE)
    return keras.Model(channel_frames, keras.ops.concatenate([mean, log_deviation], axis=-1), name="statistics")


# The layers between input and dropout of each model that `train.model_names.MODELS` declares.
LAYERS: dict[str, Callable[[LayerFactory], Layers]] = {
    "conv2": lambda make: _published((12, 24), False, make),
    "conv3": lambda make: _published((12, 24, 48), False, make),
    "conv3-norm": lambda make: _published((12, 24, 48), True, make),
    "modulation": _modulation,
}
