"""How a model is written in each format of other programs, and how that format's own runtime runs it again."""

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

from featurize.dataset.schema import MFCC_SHAPE
from train.export.formats import ExportFormat
from train.export.tf_mfcc import TrackMfcc

Float32 = NDArray[np.float32]

METADATA = "earmark.json"
_MFCC = tf.TensorSpec([None, *MFCC_SHAPE], tf.float32, name="mfcc")
_SAMPLES = tf.TensorSpec([None], tf.float32, name="samples")


@dataclasses.dataclass(frozen=True)
class Exportable:
    """What goes into an export.

    Attributes:
        model: from `mfcc`, float32 [batch, 40, 217], to `logits` and `probabilities`, float32 [batch, classes].
        about: what is put into it for programs to read: `classes`, the names, and more.
        track_mfcc: the way from samples to MFCC, for the formats that can hold it.
    """

    model: keras.Model
    about: dict[str, Any]
    track_mfcc: TrackMfcc | None

    @property
    def metadata(self) -> str:
        """What is put into it for programs to read, as JSON."""
        return json.dumps(self.about, indent=2, ensure_ascii=False)


@dataclasses.dataclass(frozen=True)
class Writer:
    """How an export is made and run.

    Attributes:
        write: puts an export under a name that does not exist yet.
        outputs: (path, float32 [rows, 40, 217]) to the outputs by name, computed by the format's own runtime.
    """

    write: Callable[[Exportable, Path], None]
    outputs: Callable[[Path, Float32], dict[str, Float32]]


def _write_keras(export: Exportable, path: Path) -> None:
    export.model.save(path)
    _add_to_zip(export, path)


def _keras_outputs(path: Path, mfcc: Float32) -> dict[str, Float32]:
    return _arrays(keras.models.load_model(path)(mfcc))


def _write_saved_model(export: Exportable, path: Path) -> None:
    """Write the signatures `mfcc`, which is also `serving_default`, and `samples`."""
    archive = _archive(export)
    if export.track_mfcc:
        archive.add_endpoint("samples", _listen(export, export.track_mfcc), [_SAMPLES])
    archive.write_out(path, verbose=False)
    extra = path / "assets.extra"  # where the format leaves room for what is not TensorFlow's
    extra.mkdir()
    (extra / METADATA).write_text(export.metadata, encoding="utf-8")


def _listen(export: Exportable, track_mfcc: TrackMfcc) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the way from the samples of a track to what the model hears in it."""

    def listen(samples: tf.Tensor) -> dict[str, tf.Tensor]:
        mfcc, starts = track_mfcc(samples)
        segments = export.model(mfcc, training=False)
        return {
            "classes": tf.constant(export.about["classes"]),
            "probabilities": tf.reduce_mean(segments["probabilities"], axis=0),
            "start": starts,
            "mfcc": mfcc,
            "segment_logits": segments["logits"],
            "segment_probabilities": segments["probabilities"],
        }

    return listen


def _saved_model_outputs(path: Path, mfcc: Float32) -> dict[str, Float32]:
    loaded = tf.saved_model.load(path)  # which must outlive its signatures
    return _arrays(loaded.signatures["mfcc"](mfcc=tf.constant(mfcc)))


def samples_outputs(path: Path, samples: Float32) -> dict[str, NDArray[Any]]:
    """Return the outputs of a SavedModel for float32 [n], the samples of a track."""
    loaded = tf.saved_model.load(path)
    return _arrays(loaded.signatures["samples"](samples=tf.constant(samples)))


def _write_tflite(export: Exportable, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _archive(export).write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["mfcc"])
        path.write_bytes(converter.convert())
    # Behind the model, as TensorFlow Lite's own metadata has its files: readers of either look only at their part.
    _add_to_zip(export, path)


def _tflite_outputs(path: Path, mfcc: Float32) -> dict[str, Float32]:
    from ai_edge_litert.interpreter import Interpreter

    return _arrays(Interpreter(model_path=str(path)).get_signature_runner("mfcc")(mfcc=mfcc))


def _write_onnx(export: Exportable, path: Path) -> None:
    import onnx
    import tf2onnx

    # Not `model.export(format="onnx")`, which makes inputs of the constants of the normalisation.
    converted, _ = tf2onnx.convert.from_keras(export.model, [_MFCC])
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(converted, {METADATA: export.metadata})
    onnx.save(converted, path)


def _onnx_outputs(path: Path, mfcc: Float32) -> dict[str, Float32]:
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"mfcc": mfcc}), strict=True))


WRITERS = {
    ExportFormat.keras: Writer(_write_keras, _keras_outputs),
    ExportFormat.savedmodel: Writer(_write_saved_model, _saved_model_outputs),
    ExportFormat.tflite: Writer(_write_tflite, _tflite_outputs),
    ExportFormat.onnx: Writer(_write_onnx, _onnx_outputs),
}


def _archive(export: Exportable) -> keras.export.ExportArchive:
    """Return what Keras writes as a SavedModel, with the signature `mfcc`."""
    archive = keras.export.ExportArchive()
    # It finds the variables that an endpoint uses; those of a model that is tracked would be written twice.
    archive.add_endpoint("mfcc", lambda mfcc: export.model(mfcc, training=False), [_MFCC])
    return archive


def _add_to_zip(export: Exportable, path: Path) -> None:
    """Add the metadata to a zip archive, or put an archive behind what is no archive."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA, export.metadata)


def _arrays(outputs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(value) for name, value in outputs.items()}
