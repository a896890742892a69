"""Compare the outputs of an export with those of the model and of the featurizer."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import read_row_group
from train.errors import TrainError
from train.evaluation.metrics import softmax
from train.export.formats import ExportFormat
from train.export.tf_mfcc import MfccConstants
from train.export.writers import samples_outputs

Float32 = NDArray[np.float32]

TOLERANCE = 1e-4  # of logits and probabilities; a share of the largest logit, if that is above 1
TOLERANCE_DB = 0.05  # of features
TOLERANCE_SECONDS = 1e-9  # of starts: TensorFlow replaces a division by a constant by a product
_ROW_GROUPS, _ROWS = 8, 64  # maximum numbers of row groups and rows of the dataset used for the comparison


@dataclasses.dataclass(frozen=True)
class FeaturizerReference:
    """Constants of the featurizer, and its output for one track.

    Attributes:
        constants: Constants of the featurizer.
        samples: float32 [n], the track, mono, at the rate of the settings.
        features: float32 [segments, features, frames], of the track, in dB.
        starts: float64 [segments], start of each segment in seconds.
    """

    constants: MfccConstants
    samples: Float32
    features: Float32
    starts: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest absolute difference between an output and its expected value."""

    output: str
    largest: float
    tolerance: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.largest:.1e}{self.unit and f' {self.unit}'} in {self.output}"


@dataclasses.dataclass(frozen=True)
class Checked:
    """The input on which an export was compared with the model, and the differences of the outputs."""

    on: str
    differences: list[Difference]


def example_rows(dataset: Dataset) -> Float32:
    """Return at most 64 rows, spread evenly over a dataset, float32 [rows, features, frames]."""
    groups = [(shard, i) for shard in dataset.shards for i in range(len(shard.row_groups))]
    parts = []
    for index in _spread(len(groups), _ROW_GROUPS):
        rows, _ = read_row_group(*groups[index])
        parts.append(rows[_spread(len(rows), math.ceil(_ROWS / min(len(groups), _ROW_GROUPS)))])
    return np.concatenate(parts)[:_ROWS]


def _spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Return at most `wanted` indices below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)


def check_rows(model: keras.Sequential, found: dict[str, Float32], rows: Float32) -> Checked:
    """Compare the outputs of an export for some rows, by name, with those of the model."""
    logits = np.asarray(model(rows, training=False))
    expected = {"logits": logits, "probabilities": softmax(logits)}
    return Checked(
        f"{len(rows)} rows of the dataset",
        [_difference(name, found[name], expected[name], _tolerance(expected[name])) for name in expected],
    )


def check_samples(model: keras.Sequential, path: Path, name: str, reference: FeaturizerReference) -> Checked:
    """Compare an export that takes samples with the featurizer and the model.

    Args:
        model: The model.
        path: The export.
        name: Name of the input of the model, and of the output that has the features.
        reference: Constants of the featurizer, and its output for one track.
    """
    found = samples_outputs(path, reference.samples)
    # The model gets the features of the export: their difference from the featurizer's has its own tolerance.
    logits = np.asarray(model(found[name], training=False))
    segments = softmax(logits)
    expected = {
        "segment_logits": logits,
        "segment_probabilities": segments,
        "probabilities": segments.mean(axis=0),
    }
    return Checked(
        f"the samples of a track of {len(reference.features)} segments",
        [
            _difference(name, found[name], reference.features, TOLERANCE_DB, "dB"),
            _difference("start", found["start"], reference.starts, TOLERANCE_SECONDS, "s"),
            *(_difference(name, found[name], expected[name], _tolerance(expected[name])) for name in expected),
        ],
    )


def _difference(
    name: str, found: NDArray[Any], expected: NDArray[Any], tolerance: float, unit: str = ""
) -> Difference:
    same_shape = found.shape == expected.shape
    largest = float(np.abs(found.astype(np.float64) - expected).max()) if same_shape else math.inf
    return Difference(name, largest, tolerance, unit)


def _tolerance(expected: NDArray[Any]) -> float:
    return TOLERANCE * max(1.0, float(np.abs(expected).max()))


def refuse_differences(form: ExportFormat, out: Path, checked: list[Checked]) -> None:
    """Raise a TrainError that names every output that differs by more than its tolerance."""
    differ = [
        f"{difference} on {check.on}, expected at most {difference.tolerance:g}"
        for check in checked
        for difference in check.differences
        if not difference.largest <= difference.tolerance  # `not <=` also rejects NaN
    ]
    if differ:
        raise TrainError(
            f"the outputs of the export as {form} differ from the model's:\n"
            + "\n".join(f"  - {line}" for line in differ)
            + f"\n{out} was not written. Try another --format."
        )
