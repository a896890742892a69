"""A trained model for other programs: written in their format, and kept only if it answers as the model does."""

import dataclasses
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.info import FeatureSettings
from featurize.dataset.reader import read_row_group
from featurize.version import VERSION
from train.errors import TrainError
from train.evaluation.metrics import softmax
from train.evaluation.trained import load_model
from train.export.formats import ExportFormat
from train.export.tf_mfcc import MfccConstants, TrackMfcc
from train.export.writers import WRITERS, Exportable, samples_outputs
from train.model.normalization import has_input_normalization
from train.records import ModelInfo
from train.run import Run

Float32 = NDArray[np.float32]

TOLERANCE = 1e-4  # in logits and probabilities
TOLERANCE_DB = 0.05  # in MFCC
_ROW_GROUPS, _ROWS = 8, 64  # of the dataset, on which an export is compared with the model


@dataclasses.dataclass(frozen=True)
class FeaturizerReference:
    """How the featurizer turns samples into MFCC: its constants, and a track that it was given.

    Attributes:
        constants: what it computes with.
        samples: float32 [n], the track, mono, at 22,050 Hz.
        mfcc: float32 [segments, 40, 217], what it made of them.
        starts: float64 [segments], in seconds.
    """

    constants: MfccConstants
    samples: Float32
    mfcc: Float32
    starts: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Difference:
    """The largest absolute difference between an output and what it should be."""

    output: str
    largest: float
    tolerance: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.largest:.1e}{self.unit and f' {self.unit}'} in {self.output}"


@dataclasses.dataclass(frozen=True)
class Checked:
    """What an export was compared with the model on, and how far apart they were."""

    on: str
    differences: list[Difference]


def export(
    run: Run, dataset: Dataset, form: ExportFormat, out: Path, hearing: FeaturizerReference | None = None
) -> list[Checked]:
    """Write the model of a run in another format, and compare it with the model before it gets its name.

    Whatever the model was trained in, the export computes in float32, and so does the model that it is compared
    with: not every format knows the types of mixed precision.

    Args:
        run: a finished run.
        dataset: the one that it was trained on, which has the rows to compare on.
        form: the format.
        out: where the export goes; nothing is there yet.
        hearing: for `savedmodel`, whose signature `samples` computes the MFCC itself; None for the others.

    Returns:
        what was compared, and the differences, none of them larger than TOLERANCE or TOLERANCE_DB.

    Raises:
        TrainError: the run has no model or another dataset, or the export differs from the model; then nothing is
            left of it.
    """
    about = run.trained()
    if about.dataset != dataset.id:
        raise TrainError(
            f"{run.folder} was trained on the dataset {about.dataset}, but {dataset.folder} is {dataset.id}. "
            "Name the right one with --features FEATURES; where there is none any more, train again."
        )
    model = _load_in_float32(run)
    track_mfcc = TrackMfcc(FeatureSettings.model_validate(about.features), hearing.constants) if hearing else None
    description = _describe(about, model, form, hears=hearing is not None)
    exportable = Exportable(_with_probabilities(model), description, track_mfcc)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".earmark-") as scratch:
        path = Path(scratch, out.name)
        WRITERS[form].write(exportable, path)
        checked = [_check_rows(model, form, path, _example_rows(dataset))]
        if hearing:
            checked.append(_check_samples(model, path, hearing))
        _refuse_differences(form, out, checked)
        os.replace(path, out)
    return checked


def _load_in_float32(run: Run) -> keras.Sequential:
    model = load_model(run)
    _compute_in_float32(model)
    return model


def _compute_in_float32(layer: keras.layers.Layer) -> None:
    """Change a layer of mixed precision, and those inside it; weights are float32 in any case."""
    layer.dtype_policy = keras.DTypePolicy("float32")
    for inner in getattr(layer, "layers", []):
        _compute_in_float32(inner)


def _with_probabilities(model: keras.Sequential) -> keras.Model:
    """Return a model of the same layers, and a softmax, whose outputs have names."""
    logits = model.outputs[0]
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model(model.inputs[0], {"logits": logits, "probabilities": probabilities}, name=model.name)


def _describe(about: ModelInfo, model: keras.Sequential, form: ExportFormat, hears: bool) -> dict[str, Any]:
    """Say what an export is, by what `model.json` says of the model; one that hears takes samples, too."""
    signatures = {
        "mfcc": {
            "inputs": {"mfcc": about.input},
            "outputs": {
                "logits": "float32 [batch, classes]",
                "probabilities": "float32 [batch, classes], the softmax of the logits",
            },
        }
    }
    if hears:
        rate, length = about.features["sample_rate"], about.features["segment_samples"]
        signatures["samples"] = {
            "inputs": {
                "samples": f"float32 [n], one track, mono, at {rate} Hz, full scale 1, n at least {length}"
            },
            "outputs": {
                "classes": "string [classes], their names",
                "probabilities": "float32 [classes], of the track: the mean over its segments",
                "start": "float64 [segments], seconds from the beginning of the excerpt",
                "mfcc": "float32 [segments, 40, 217], MFCC in dB",
                "segment_logits": "float32 [segments, classes]",
                "segment_probabilities": "float32 [segments, classes]",
            },
        }
    return {
        "earmark": VERSION,
        "format": form,
        "classes": about.classes,
        "features": about.features,
        "normalisation": "inside: the first layer takes each coefficient's mean off and divides by its deviation"
        if has_input_normalization(model)
        else "none: the model takes the MFCC as they are",
        "signatures": signatures,
        "dataset": about.dataset,
        "epoch": about.epoch,
    }


def _example_rows(dataset: Dataset) -> Float32:
    """Return rows from all over a dataset, float32 [rows, 40, 217]: 64, or fewer of a small one."""
    groups = [(shard, i) for shard in dataset.shards for i in range(len(shard.row_groups))]
    parts = []
    for at in _spread(len(groups), _ROW_GROUPS):
        mfcc, _ = read_row_group(*groups[at])
        parts.append(mfcc[_spread(len(mfcc), math.ceil(_ROWS / min(len(groups), _ROW_GROUPS)))])
    return np.concatenate(parts)[:_ROWS]


def _spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Return at most so many of the numbers below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)


def _check_rows(model: keras.Sequential, form: ExportFormat, path: Path, mfcc: Float32) -> Checked:
    found = WRITERS[form].outputs(path, mfcc)
    logits = np.asarray(model(mfcc, training=False))
    expected = {"logits": logits, "probabilities": softmax(logits)}
    return Checked(
        f"{len(mfcc)} rows of the dataset",
        [_difference(name, found[name], expected[name], TOLERANCE) for name in expected],
    )


def _check_samples(model: keras.Sequential, path: Path, hearing: FeaturizerReference) -> Checked:
    found = samples_outputs(path, hearing.samples)
    # Of its own MFCC: how far those may be from the featurizer's is another question.
    logits = np.asarray(model(found["mfcc"], training=False))
    segments = softmax(logits)
    expected = {
        "segment_logits": logits,
        "segment_probabilities": segments,
        "probabilities": segments.mean(axis=0),
    }
    return Checked(
        f"the samples of a track of {len(hearing.mfcc)} segments",
        [
            _difference("mfcc", found["mfcc"], hearing.mfcc, TOLERANCE_DB, "dB"),
            _difference("start", found["start"], hearing.starts, 0.0, "s"),
            *(_difference(name, found[name], expected[name], TOLERANCE) for name in expected),
        ],
    )


def _difference(
    name: str, found: NDArray[Any], expected: NDArray[Any], tolerance: float, unit: str = ""
) -> Difference:
    alike = found.shape == expected.shape
    largest = float(np.abs(found.astype(np.float64) - expected).max()) if alike else math.inf
    return Difference(name, largest, tolerance, unit)


def _refuse_differences(form: ExportFormat, out: Path, checked: list[Checked]) -> None:
    differ = [
        f"{difference} on {check.on}, allowed is {difference.tolerance:g}"
        for check in checked
        for difference in check.differences
        if not difference.largest <= difference.tolerance  # so that a NaN is refused, too
    ]
    if differ:
        raise TrainError(
            f"the export as {form} does not answer as the model does:\n"
            + "\n".join(f"  - {line}" for line in differ)
            + f"\n{out} was not written. Try another --format."
        )
