"""The published networks: convolutions over the MFCC image of a segment, then dense layers."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from featurize.dataset import MFCC_SHAPE

# Filters of the 5x5 convolutions, and whether a normalisation stands between them and the dense layers.
MODELS: dict[str, tuple[Sequence[int], bool]] = {
    "conv2": ((12, 24), False),
    "conv3": ((12, 24, 48), False),
    "conv3-norm": ((12, 24, 48), True),
}
DENSE_UNITS = (500, 100)
# Keras's 0.99 needs some 500 steps until the running statistics are those of the data. A small collection is
# trained for fewer, and would be judged with statistics that are still half those of the beginning.
NORM_MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of each coefficient over the training folds: float32 [40] each, in dB."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def build_model(
    name: str,
    classes: int,
    dropout: float,
    normalise_by: Statistics | None = None,
    precision: str = "float32",
    synchronized: bool = True,
) -> keras.Sequential:
    """Build one of MODELS with fresh weights.

    Each convolution is valid, 5x5, with ReLU and 2x2 max pooling; `conv3-norm` normalises each of its last
    channels over the batch and applies ReLU again. The dense layers have ReLU; the dropout stands before the
    logits.

    Args:
        name: a key of MODELS.
        classes: the number of logits.
        dropout: the share of activations dropped in training.
        normalise_by: the first layer takes each coefficient's mean off and divides by its deviation.
        precision: a Keras dtype policy; the logits are float32 in any case.
        synchronized: batch normalisation goes over all replicas.

    Returns:
        a chain of layers from float32 [batch, 40, 217] (MFCC in dB, as the featurizer makes them) to
        float32 [batch, classes] (logits: apply softmax once to have probabilities).
    """
    filters, normalised = MODELS[name]
    layers = [keras.Input(MFCC_SHAPE, name="mfcc")]
    if normalise_by:
        mean, variance = normalise_by.mean, np.square(normalise_by.deviation)
        layers.append(keras.layers.Normalization(axis=1, mean=mean, variance=variance, name="normalise"))
    layers.append(keras.layers.Reshape((*MFCC_SHAPE, 1), dtype=precision, name="image"))
    for i, count in enumerate(filters, start=1):
        layers.append(keras.layers.Conv2D(count, 5, activation="relu", dtype=precision, name=f"conv{i}"))
        layers.append(keras.layers.MaxPooling2D(2, dtype=precision, name=f"pool{i}"))
    if normalised:
        layers.append(
            keras.layers.BatchNormalization(
                momentum=NORM_MOMENTUM, synchronized=synchronized, dtype=precision, name="norm"
            )
        )
        layers.append(keras.layers.ReLU(dtype=precision, name="norm_relu"))
    layers.append(keras.layers.Flatten(dtype=precision, name="flatten"))
    for i, units in enumerate(DENSE_UNITS, start=1):
        layers.append(keras.layers.Dense(units, activation="relu", dtype=precision, name=f"dense{i}"))
    layers.append(keras.layers.Dropout(dropout, dtype=precision, name="dropout"))
    layers.append(keras.layers.Dense(classes, dtype="float32", name="logits"))
    return keras.Sequential(layers, name=name.replace("-", "_"))
