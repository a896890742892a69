"""Normalization of the input with statistics of the training folds, and of activations over the batch."""

import dataclasses

import keras
import numpy as np
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from train.config import TrainConfig
from train.folds import fold_roles

# With Keras's default momentum of 0.99 the running statistics take some 500 steps to converge. A small collection
# trains for fewer steps, and would be evaluated with statistics that are still dominated by their initial values.
BATCH_NORM_MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each feature over the training folds, float32 [features] each, in dB."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def training_statistics(dataset: Dataset, config: TrainConfig) -> Statistics:
    """Combine the statistics of the training folds; `dataset.json` has them for each fold."""
    folds = fold_roles(config, dataset.layout).train
    parts = [part for part in dataset.info.statistics if part.fold in folds]
    frames = np.array([part.frames for part in parts], np.float64)
    means = np.array([part.mean for part in parts])
    deviations = np.array([part.deviation for part in parts])
    mean = np.average(means, axis=0, weights=frames)
    variance = np.average(deviations**2 + means**2, axis=0, weights=frames) - mean**2
    # A constant feature has deviation 0; 1 avoids a division by zero.
    deviation = np.sqrt(np.where(variance > 0, variance, 1))
    return Statistics(mean.astype(np.float32), deviation.astype(np.float32))


def input_normalization(statistics: Statistics) -> keras.layers.Layer:
    """Return a layer that subtracts each feature's mean and divides by its deviation."""
    variance = np.square(statistics.deviation)
    return keras.layers.Normalization(axis=1, mean=statistics.mean, variance=variance, name="input_normalization")


def has_input_normalization(model: keras.Sequential) -> bool:
    """Return whether the model has an input normalization layer."""
    layers = model._flatten_layers(include_self=False, recursive=True)  # those of the members of an ensemble, too
    return any(isinstance(layer, keras.layers.Normalization) for layer in layers)


def batch_normalization(precision: str, synchronized: bool) -> keras.layers.Layer:
    """Return a batch normalization layer; if synchronized, it uses the batch of all replicas."""
    return keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, synchronized=synchronized, dtype=precision, name="norm"
    )
