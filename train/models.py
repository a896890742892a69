"""The published networks: convolutions over the MFCC image of a segment, then dense layers."""

from collections.abc import Sequence

import keras

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


def build_model(name: str, classes: int, dropout: float) -> keras.Sequential:
    """Build one of MODELS with fresh weights.

    Each convolution is valid, 5x5, with ReLU and 2x2 max pooling; `conv3-norm` normalises each of its last
    channels over the batch, and over all replicas, and applies ReLU again. The dense layers have ReLU; the
    dropout stands before the logits.

    Args:
        name: a key of MODELS.
        classes: the number of logits.
        dropout: the share of activations dropped in training.

    Returns:
        a chain of layers from float32 [batch, 40, 217] (MFCC in dB, as the featurizer makes them) to
        float32 [batch, classes] (logits: apply softmax once to have probabilities).
    """
    filters, normalised = MODELS[name]
    layers = [keras.Input(MFCC_SHAPE, name="mfcc"), keras.layers.Reshape((*MFCC_SHAPE, 1), name="image")]
    for i, count in enumerate(filters, start=1):
        layers.append(keras.layers.Conv2D(count, 5, activation="relu", name=f"conv{i}"))
        layers.append(keras.layers.MaxPooling2D(2, name=f"pool{i}"))
    if normalised:
        layers.append(keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, synchronized=True, name="norm"))
        layers.append(keras.layers.ReLU(name="norm_relu"))
    layers.append(keras.layers.Flatten(name="flatten"))
    for i, units in enumerate(DENSE_UNITS, start=1):
        layers.append(keras.layers.Dense(units, activation="relu", name=f"dense{i}"))
    layers.append(keras.layers.Dropout(dropout, name="dropout"))
    layers.append(keras.layers.Dense(classes, name="logits"))
    return keras.Sequential(layers, name=name.replace("-", "_"))
