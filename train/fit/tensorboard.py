"""TensorBoard event files of a run."""

import contextlib
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorboard.compat.proto import event_pb2

from featurize.processes import temporary_name
from featurize.storage import StoragePath
from train.evaluation.confusion_image import draw_confusion
from train.fit.background_writer import BackgroundWriter
from train.model.layer_outputs import layer_outputs

_BY_STEP = ("steps/", "input/")
_IMAGES_PER_CLASS = 3


class TensorBoardWriter:
    """Writer of event files: one subfolder for training and one for each held-out fold.

    All use the same tags, so that TensorBoard draws their curves into one chart. The x-axis of scalars and
    histograms is the epoch, except for tags that begin with `steps/` or `input/`, where it is the step.
    TensorBoard sorts tags by name: histograms are called so that they come after the curves.

    Use it as a context manager. TensorFlow writes to local disks only: if the folder is a URI, files are written
    to a temporary folder, and a background thread copies them after each `flush`.
    """

    def __init__(
        self, folder: StoragePath, parts: Sequence[str], epoch: int, step: int, background: BackgroundWriter
    ) -> None:
        """Open a writer for each part, and remove events that are later than the restored checkpoint.

        Args:
            folder: Folder of the event files.
            parts: Names of the subfolders: `train`, and the held-out folds that are evaluated in training.
            epoch: Number of finished epochs.
            step: Number of finished steps.
            background: Writes the copies.
        """
        self._folder = folder
        self._background = background
        self._open = contextlib.ExitStack()
        if not folder.local:
            here = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            folder.copy_to(here)
        self._here = folder.local or here
        for part in parts:
            _remove_later_events(self._here / part, epoch, step)
        self._writers = {part: tf.summary.create_file_writer(str(self._here / part)) for part in parts}
        for writer in self._writers.values():
            self._open.callback(writer.close)
        self._open.callback(self.flush)
        self._copied: dict[str, int] = {}

    @property
    def profile_folder(self) -> Path:
        """Folder for a profile of training steps, on this machine."""
        return self._here / "train"

    def __enter__(self) -> "TensorBoardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def text(self, name: str, content: str) -> None:
        """Write a preformatted text."""
        with self._writers["train"].as_default(step=0):
            tf.summary.text(name, "\n".join(f"    {line}" for line in content.splitlines()))

    def graph(self, model: keras.Model) -> None:
        """Write the graph of the model."""
        call = tf.function(lambda mfcc: model(mfcc, training=False), autograph=False)
        traced = call.get_concrete_function(tf.TensorSpec((None, *model.input_shape[1:]), tf.float32))
        with self._writers["train"].as_default(step=0):
            tf.summary.graph(traced.graph)

    def images(
        self, kind: str, features: NDArray[np.float32], labels: NDArray[np.int32], classes: Sequence[str]
    ) -> None:
        """Write images of a few segments [rows, features, frames] of each class, the first feature at the bottom.

        Args:
            kind: Kind of the features.
            features: float32 [rows, features, frames].
            labels: int32 [rows], class indices.
            classes: Class names.
        """
        with self._writers["train"].as_default(step=0):
            for label, name in enumerate(classes):
                # The training loop reports values that are not finite; images show them as 0.
                segments = np.nan_to_num(features[labels == label][:_IMAGES_PER_CLASS, ::-1], posinf=0, neginf=0)
                if len(segments):
                    # Coefficient 0, the loudness, has a far larger range than the others, so each row is scaled.
                    low, high = segments.min(axis=2, keepdims=True), segments.max(axis=2, keepdims=True)
                    gray = (segments - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
                    tf.summary.image(f"{kind}/{name}", gray[..., None], max_outputs=_IMAGES_PER_CLASS)

    def scalars(self, part: str, step: int, values: dict[str, float]) -> None:
        """Write one value for each tag."""
        with self._writers[part].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def confusion(self, part: str, epoch: int, confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
        """Write the confusion matrix of tracks, [actual class][predicted class], as an image."""
        with self._writers[part].as_default(step=epoch):
            tf.summary.image("confusion/tracks", draw_confusion(confusion, classes)[None])

    def histograms(self, epoch: int, model: keras.Model, segments: NDArray[np.float32]) -> None:
        """Write histograms of the weights, and of each layer's activations for some segments.

        Args:
            epoch: Number of the epoch.
            model: Model in training.
            segments: float32 [rows, features, frames].
        """
        with self._writers["train"].as_default(step=epoch):
            for weight in model.weights:
                layer_and_name = weight.path.partition("/")[2]
                tf.summary.histogram(f"weights/{layer_and_name}", weight)
            for name, activations in layer_outputs(model, segments).items():
                tf.summary.histogram(f"unit_activations/{name}", activations)

    def flush(self) -> None:
        """Write buffered events to disk, and let changed files be copied if the folder is a URI."""
        for writer in self._writers.values():
            writer.flush()
        if self._folder.local:
            return
        for name, size in StoragePath.of(self._here).files():
            if self._copied.get(name) != size:
                content = (self._here / name).read_bytes()
                self._background.submit(functools.partial((self._folder / name).write, content))
                self._copied[name] = len(content)


def _remove_later_events(folder: Path, epoch: int, step: int) -> None:
    """Remove events after an epoch and a step from the event files of a folder, and incomplete records."""
    StoragePath.of(folder).remove_leftovers()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        kept = []
        with contextlib.suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = event_pb2.Event.FromString(record)
                by_step = any(value.tag.startswith(_BY_STEP) for value in event.summary.value)
                if event.step <= (step if by_step else epoch):
                    kept.append(record)
        unfinished = path.with_name(temporary_name())
        with tf.io.TFRecordWriter(str(unfinished)) as file:
            for record in kept:
                file.write(record)
        unfinished.replace(path)
