"""Export a trained model to another format, and keep the export only if its outputs equal the model's."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from featurize.dataset.dataset import Dataset
from featurize.dataset.feature_settings import FeatureSettings
from featurize.display import one_line
from featurize.processes import is_abandoned, temporary_name
from featurize.version import VERSION
from train.errors import TrainError
from train.evaluation.inference import load_model
from train.export.comparison import (
    Checked,
    FeaturizerReference,
    check_rows,
    check_samples,
    example_rows,
    refuse_differences,
)
from train.export.formats import ExportFormat
from train.export.tf_mfcc import TrackMfcc
from train.export.writers import WRITERS, Exportable
from train.model.custom import all_layers
from train.model.normalization import has_input_normalization
from train.records import ModelInfo
from train.run import Run

_PROBLEM_SHOWN = 300  # characters


def export(
    run: Run,
    dataset: Dataset,
    form: ExportFormat,
    out: Path,
    reference: FeaturizerReference | None = None,
    trust_code: bool = False,
) -> list[Checked]:
    """Write the model of a run in another format, compare its outputs with the model's, and move it to `out`.

    The export and the model in the comparison compute in float32, also after training in mixed precision: not
    every format supports its types.

    Args:
        run: Finished run.
        dataset: Dataset of the run, for rows to compare on.
        form: Export format.
        out: Output path, which must not exist.
        reference: For `savedmodel`, whose signature `samples` computes the features; None for other formats.
        trust_code: Whether code in the run may be executed, as in `load_model`.

    Returns:
        The comparisons; all differences are within their tolerances.

    Raises:
        TrainError: The run has no model or was trained on another dataset, or the export differs from the model.
            In that case nothing is written.
    """
    about = run.trained()
    if about.dataset != dataset.id:
        raise TrainError(
            f"{run.folder} was trained on the dataset {one_line(about.dataset)}, but {dataset.folder} is "
            f"{one_line(dataset.id)}. Give the folder of that dataset with --features FEATURES; if it no longer "
            "exists, train again."
        )
    settings = run.feature_settings()
    model = _load_in_float32(run, trust_code)
    track_mfcc = TrackMfcc(settings, reference.constants) if reference else None
    description = _describe(about, settings, model, form, takes_samples=reference is not None)
    exportable = Exportable(_with_probabilities(model, settings.kind), description, track_mfcc)
    rows = example_rows(dataset)
    with _written_to(out) as path:
        with _explained(form, out):
            WRITERS[form].write(exportable, path)
            found = WRITERS[form].outputs(path, exportable.input.name, rows)
        checked = [check_rows(model, found, rows)]
        if reference:
            checked.append(check_samples(model, path, exportable.input.name, reference))
        refuse_differences(form, out, checked)
    return checked


@contextmanager
def _explained(form: ExportFormat, out: Path) -> Iterator[None]:
    """Turn an exception of a converter or runtime, about a layer that it does not know, into a TrainError."""
    try:
        yield
    except (OSError, tf.errors.OpError, MemoryError):
        raise
    except Exception as error:
        problem = one_line((str(error).splitlines() or [""])[0])[:_PROBLEM_SHOWN]
        raise TrainError(
            f"the model cannot be exported as {form}, which may lack one of its layers or operations: "
            f"{type(error).__name__}: {problem}\n{out} was not written. Try another --format."
        ) from error


@contextmanager
def _written_to(out: Path) -> Iterator[Path]:
    """Return a context with a temporary path beside `out`, moved to `out` at the end; an error leaves nothing."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(out.parent)
    scratch = out.with_name(temporary_name())
    try:
        scratch.mkdir()
        yield scratch / out.name
        os.replace(scratch / out.name, out)
    except OSError as error:
        # Libraries leave out the name, or it is that of the temporary file.
        if error.filename and not os.fsdecode(error.filename).startswith(str(scratch)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(out)) from error
    except tf.errors.OpError as error:
        where = str(out) if str(scratch) in error.message else tempfile.gettempdir()
        raise OSError(errno.EIO, error.message.rpartition("; ")[2].partition(" [Op:")[0], where) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what exports that were killed left in a folder."""
    for name in os.listdir(folder):
        path = folder / name
        if is_abandoned(name, os.lstat(path).st_mtime) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _load_in_float32(run: Run, trust_code: bool) -> keras.Model:
    """Load the model, all of whose layers then compute in float32, those inside other layers too."""
    model = load_model(run, trust_code)
    for layer in (model, *all_layers(model)):
        layer.dtype_policy = keras.DTypePolicy("float32")
    return model


def _with_probabilities(model: keras.Model, kind: str) -> keras.Model:
    """Return the model with a softmax layer added, an input named `kind`, and outputs `logits`, `probabilities`.

    The formats take the names from those of the layers, which a model of the user may have called otherwise. It is
    then one layer of the export.
    """
    inputs, logits = model.inputs[0], model.outputs[0]
    has_names = inputs.name == kind and logits._keras_history.operation.name == "logits"
    if not has_names or any(layer.name == "probabilities" for layer in model.layers):
        inputs = keras.Input(model.input_shape[1:], name=kind)
        logits = keras.layers.Identity(name="logits")(model(inputs))
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model(inputs, {"logits": logits, "probabilities": probabilities}, name=model.name)


def _describe(
    about: ModelInfo,
    settings: FeatureSettings,
    model: keras.Sequential,
    form: ExportFormat,
    takes_samples: bool,
) -> dict[str, Any]:
    """Return the content of `earmark.json`; `takes_samples` adds the signature `samples`."""
    signatures: dict[str, Any] = {
        settings.kind: {
            "inputs": {settings.kind: about.input},
            "outputs": {
                "logits": "float32 [batch, classes]",
                "probabilities": "float32 [batch, classes], the softmax of the logits",
            },
        }
    }
    if takes_samples:
        rate, length = settings.sample_rate, settings.segment_samples
        shape = f"{settings.features}, {settings.frames}"
        signatures["samples"] = {
            "inputs": {
                "samples": f"float32 [n], one track, mono, at {rate} Hz, full scale 1, n at least {length}"
            },
            "outputs": {
                "classes": "string [classes], their names",
                "probabilities": "float32 [classes], of the track: the mean over its segments",
                "start": "float64 [segments], seconds from the beginning of the excerpt",
                settings.kind: f"float32 [segments, {shape}], {settings.describe()}",
                "segment_logits": "float32 [segments, classes]",
                "segment_probabilities": "float32 [segments, classes]",
            },
        }
    return {
        "earmark": VERSION,
        "format": form,
        "classes": about.classes,
        "features": about.features,
        "normalization": "inside: the first layer subtracts each feature's mean and divides by its deviation"
        if has_input_normalization(model)
        else "none: the model takes the features as they are",
        "signatures": signatures,
        "dataset": about.dataset,
        "epoch": about.epoch,
    }
