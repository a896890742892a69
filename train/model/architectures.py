"""The networks: the published ones, and `modulation`, which filters each feature over time."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from featurize.dataset.schema import SegmentFormat
from train.model.normalization import Statistics, batch_normalization, input_normalization

DENSE_UNITS = (500, 100)  # in the published networks
FILTER_FRAMES = 25  # 0.58 s with the default features
FILTERS_PER_FEATURE = 4
STATISTICS_DROPOUT = 0.3
STATISTICS_UNITS = 256
_SMALLEST_VARIANCE = 1e-5

Layers = list[Any]


@dataclasses.dataclass(frozen=True)
class LayerFactory:
    """Options shared by the layers of one model.

    Attributes:
        shape: Features and frames of a segment.
        dropout: Fraction of activations dropped before the logits.
        precision: Keras dtype policy.
        synchronized: Whether batch normalization uses the batch of all replicas.
    """

    shape: tuple[int, int]
    dropout: float
    precision: str
    synchronized: bool

    def norm(self) -> keras.layers.Layer:
        """Return a batch normalization layer."""
        return batch_normalization(self.precision, self.synchronized)


def build_model(
    name: str,
    segment: SegmentFormat,
    classes: int,
    dropout: float,
    normalize_by: Statistics | None = None,
    precision: str = "float32",
    synchronized: bool = True,
) -> keras.Sequential:
    """Build a model with initial weights.

    Args:
        name: Key of `train.model_names.MODELS`.
        segment: Name and shape of the input; the shape is one that `train.segment_size` accepts.
        classes: Number of classes.
        dropout: Fraction of activations dropped before the logits in training.
        normalize_by: Statistics for a first layer that normalizes the input; None for no such layer.
        precision: Keras dtype policy; the logits are always float32.
        synchronized: Whether batch normalization uses the batch of all replicas.

    Returns:
        Chain of layers from float32 [batch, features, frames] (in dB, as the featurizer writes them) to
        float32 [batch, classes] (logits: softmax gives the probabilities). All are layers of Keras, so the model
        can be loaded without Earmark.
    """
    layers: Layers = [keras.Input(segment.shape, name=segment.column)]
    if normalize_by:
        layers.append(input_normalization(normalize_by))
    layers += LAYERS[name](LayerFactory(segment.shape, dropout, precision, synchronized))
    layers.append(keras.layers.Dropout(dropout, dtype=precision, name="dropout"))
    layers.append(keras.layers.Dense(classes, dtype="float32", name="logits"))
    return keras.Sequential(layers, name=name.replace("-", "_"))


def _published(filters: Sequence[int], normalized: bool, make: LayerFactory) -> Layers:
    """Return convolutions over the segment as an image, then dense layers.

    Each convolution is 5x5 without padding, followed by ReLU and 2x2 max pooling. If `normalized`, batch
    normalization and another ReLU follow the last convolution.
    """
    layers: Layers = [keras.layers.Reshape((*make.shape, 1), dtype=make.precision, name="image")]
    for i, count in enumerate(filters, start=1):
        layers.append(keras.layers.Conv2D(count, 5, activation="relu", dtype=make.precision, name=f"conv{i}"))
        layers.append(keras.layers.MaxPooling2D(2, dtype=make.precision, name=f"pool{i}"))
    if normalized:
        layers += [make.norm(), keras.layers.ReLU(dtype=make.precision, name="norm_relu")]
    layers.append(keras.layers.Flatten(dtype=make.precision, name="flatten"))
    for i, units in enumerate(DENSE_UNITS, start=1):
        layers.append(keras.layers.Dense(units, activation="relu", dtype=make.precision, name=f"dense{i}"))
    return layers


def _modulation(make: LayerFactory) -> Layers:
    """Return short filters over time for each feature, then the mean and deviation of their outputs.

    Separate filters for each feature distinguish slow from fast changes, as a modulation spectrum does; mean and
    deviation over the frames discard when the changes happened. With the default features, 40 x 4 filters of 25
    frames have too few weights to memorize a small collection.
    """
    features, frames = make.shape
    return [
        keras.layers.Permute((2, 1), dtype=make.precision, name="frames_first"),
        keras.layers.DepthwiseConv1D(
            FILTER_FRAMES,
            depth_multiplier=FILTERS_PER_FEATURE,
            use_bias=False,
            dtype=make.precision,
            name="filters",
        ),
        _mean_and_deviation(frames - FILTER_FRAMES + 1, features * FILTERS_PER_FEATURE),
        make.norm(),
        keras.layers.Dropout(STATISTICS_DROPOUT, dtype=make.precision, name="statistics_dropout"),
        keras.layers.Dense(STATISTICS_UNITS, activation="relu", dtype=make.precision, name="dense"),
    ]


def _mean_and_deviation(frames: int, channels: int) -> keras.Model:
    """Return a layer from [batch, frames, channels] to the mean and log deviation, [batch, 2 * channels]."""
    channel_frames = keras.Input((frames, channels))
    values = keras.ops.cast(channel_frames, "float32")
    mean = keras.ops.mean(values, axis=1)
    variance = keras.ops.mean(keras.ops.square(values - keras.ops.mean(values, axis=1, keepdims=True)), axis=1)
    log_deviation = 0.5 * keras.ops.log(variance + _SMALLEST_VARIANCE)
    return keras.Model(channel_frames, keras.ops.concatenate([mean, log_deviation], axis=-1), name="statistics")


# Layers between input and dropout of each model declared in `train.model_names.MODELS`.
LAYERS: dict[str, Callable[[LayerFactory], Layers]] = {
    "conv2": lambda make: _published((12, 24), False, make),
    "conv3": lambda make: _published((12, 24, 48), False, make),
    "conv3-norm": lambda make: _published((12, 24, 48), True, make),
    "modulation": _modulation,
}
