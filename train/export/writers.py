"""Write a model in each export format, and run the export in the runtime of that format."""

import dataclasses
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.export.formats import ExportFormat
from train.export.tf_mfcc import TrackMfcc

Float32 = NDArray[np.float32]

METADATA = "earmark.json"
_SAMPLES = tf.TensorSpec([None], tf.float32, name="samples")


@dataclasses.dataclass(frozen=True)
class Exportable:
    """Content of an export.

    Attributes:
        model: Model with input `mfcc` or `log_mel`, float32 [batch, features, frames], and outputs `logits` and
            `probabilities`, float32 [batch, classes].
        about: Metadata: `classes` (names), feature settings, signatures and more.
        track_mfcc: Transform from samples to features, for formats that can contain it.
    """

    model: keras.Model
    about: dict[str, Any]
    track_mfcc: TrackMfcc | None

    @property
    def input(self) -> tf.TensorSpec:
        """Name, shape and type of the input, also in exports that Keras has given another shape."""
        return tf.TensorSpec(self.model.inputs[0].shape, tf.float32, name=self.model.inputs[0].name)

    @property
    def metadata(self) -> str:
        """The metadata as JSON."""
        return json.dumps(self.about, indent=2, ensure_ascii=False)


@dataclasses.dataclass(frozen=True)
class Writer:
    """Functions of one export format.

    Attributes:
        write: Writes an export to a path that does not exist yet.
        outputs: Takes (path, name of the input, float32 [rows, features, frames]) and returns the outputs by
            name, computed by the runtime of the format.
    """

    write: Callable[[Exportable, Path], None]
    outputs: Callable[[Path, str, Float32], dict[str, Float32]]


def _write_keras(export: Exportable, path: Path) -> None:
    export.model.save(path)
    _add_to_zip(export, path)


def _keras_outputs(path: Path, _: str, rows: Float32) -> dict[str, Float32]:
    return _arrays(keras.models.load_model(path)(rows))


def _write_saved_model(export: Exportable, path: Path) -> None:
    """Write a SavedModel with a signature for segments (also `serving_default`) and, if possible, `samples`."""
    archive = _archive(export)
    if export.track_mfcc:
        archive.add_endpoint("samples", _samples_signature(export, export.track_mfcc), [_SAMPLES])
    archive.write_out(path, verbose=False)
    extra = path / "assets.extra"  # SavedModel's folder for files of other programs
    extra.mkdir()
    (extra / METADATA).write_text(export.metadata, encoding="utf-8")


def _samples_signature(export: Exportable, track_mfcc: TrackMfcc) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function from the samples of a track to the predictions and the features of its segments."""

    def predict_samples(samples: tf.Tensor) -> dict[str, tf.Tensor]:
        features, starts = track_mfcc(samples)
        segments = export.model(features, training=False)
        return {
            "classes": tf.constant(export.about["classes"]),
            "probabilities": tf.reduce_mean(segments["probabilities"], axis=0),
            "start": starts,
            export.input.name: features,
            "segment_logits": segments["logits"],
            "segment_probabilities": segments["probabilities"],
        }

    return predict_samples


def _saved_model_outputs(path: Path, name: str, rows: Float32) -> dict[str, Float32]:
    loaded = tf.saved_model.load(path)  # kept in a variable: signatures do not keep their model alive
    return _arrays(loaded.signatures[name](**{name: tf.constant(rows)}))


def samples_outputs(path: Path, samples: Float32) -> dict[str, NDArray[Any]]:
    """Return the outputs of a SavedModel's signature `samples` for the samples of a track, float32 [n]."""
    loaded = tf.saved_model.load(path)
    return _arrays(loaded.signatures["samples"](samples=tf.constant(samples)))


def _write_tflite(export: Exportable, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _archive(export).write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[export.input.name])
        path.write_bytes(converter.convert())
    # Appended to the model as a zip archive, as TensorFlow Lite does with its own metadata: each reader ignores
    # the other part.
    _add_to_zip(export, path)


def _tflite_outputs(path: Path, name: str, rows: Float32) -> dict[str, Float32]:
    from ai_edge_litert.interpreter import Interpreter

    return _arrays(Interpreter(model_path=str(path)).get_signature_runner(name)(**{name: rows}))


def _write_onnx(export: Exportable, path: Path) -> None:
    import onnx
    import tf2onnx

    # `model.export(format="onnx")` would turn the constants of the normalization layer into inputs.
    converted, _ = tf2onnx.convert.from_keras(export.model, [export.input])
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(converted, {METADATA: export.metadata})
    onnx.save(converted, path)


def _onnx_outputs(path: Path, name: str, rows: Float32) -> dict[str, Float32]:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: rows}), strict=True))


WRITERS = {
    ExportFormat.keras: Writer(_write_keras, _keras_outputs),
    ExportFormat.savedmodel: Writer(_write_saved_model, _saved_model_outputs),
    ExportFormat.tflite: Writer(_write_tflite, _tflite_outputs),
    ExportFormat.onnx: Writer(_write_onnx, _onnx_outputs),
}


def _archive(export: Exportable) -> keras.export.ExportArchive:
    """Create a Keras export archive with a signature for segments, named after their features."""
    archive = keras.export.ExportArchive()
    # No `track(model)`: the archive finds the variables that an endpoint uses, and would write tracked ones twice.
    archive.add_endpoint(export.input.name, lambda rows: export.model(rows, training=False), [export.input])
    return archive


def _add_to_zip(export: Exportable, path: Path) -> None:
    """Add the metadata to a zip archive; to any other file, append an archive."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA, export.metadata)


def _arrays(outputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(value) for name, value in outputs.items()}
