"""What TensorBoard shows of a run."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorboard.compat.proto import event_pb2

from featurize.storage import StoragePath

_BY_STEP = ("steps/", "input/")
_IMAGES_PER_CLASS = 3


class TensorBoardWriter:
    """Event files of a run: one sub-folder for training and one for each held-out fold.

    The same tag in each of them, so that TensorBoard draws their curves into one chart. The step of scalars and
    histograms is the epoch; of those called `steps/...` and `input/...` it is the step.

    A context manager. TensorFlow writes on this machine only: what belongs elsewhere is written here and copied at
    each `flush`.
    """

    def __init__(self, folder: StoragePath, parts: Sequence[str], epoch: int, step: int) -> None:
        """Open a writer for each part: `train`, `validation`, `test`.

        What an interrupted run has shown beyond the epoch and the step at which this one goes on is taken out.
        """
        self._folder = folder
        self._open = contextlib.ExitStack()
        if not folder.local:
            here = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            folder.copy_to(here)
        self._here = folder.local or here
        for part in parts:
            _take_out_later(self._here / part, epoch, step)
        self._writers = {part: tf.summary.create_file_writer(str(self._here / part)) for part in parts}
        for writer in self._writers.values():
            self._open.callback(writer.close)
        self._open.callback(self.flush)
        self._copied: dict[str, int] = {}

    def __enter__(self) -> "TensorBoardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def text(self, name: str, content: str) -> None:
        """Show a text as it is written."""
        with self._writers["train"].as_default(step=0):
            tf.summary.text(name, "\n".join(f"    {line}" for line in content.splitlines()))

    def graph(self, model: keras.Sequential) -> None:
        """Show the graph of the model."""
        call = tf.function(lambda mfcc: model(mfcc, training=False))
        traced = call.get_concrete_function(tf.TensorSpec((None, *model.input_shape[1:]), tf.float32))
        with self._writers["train"].as_default(step=0):
            tf.summary.graph(traced.graph)

    def images(self, mfcc: NDArray[np.float32], labels: NDArray[np.int32], classes: Sequence[str]) -> None:
        """Show a few MFCC segments of each class, float32 [rows, 40, 217], low coefficients at the bottom."""
        with self._writers["train"].as_default(step=0):
            for label, name in enumerate(classes):
                # Numbers that are none are for the loop to report; a picture shows them as nought.
                few = np.nan_to_num(mfcc[labels == label][:_IMAGES_PER_CLASS, ::-1], posinf=0, neginf=0)
                if len(few):
                    # Coefficient 0 is the loudness and would outshine the rest: each row has its own range.
                    low, high = few.min(axis=2, keepdims=True), few.max(axis=2, keepdims=True)
                    grey = (few - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
                    tf.summary.image(f"mfcc/{name}", grey[..., None], max_outputs=_IMAGES_PER_CLASS)

    def scalars(self, part: str, step: int, values: dict[str, float]) -> None:
        """Add one point to each of some curves."""
        with self._writers[part].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def histograms(self, epoch: int, model: keras.Sequential, probe: NDArray[np.float32]) -> None:
        """Show the weights, and the activations of each layer for some fixed segments [rows, 40, 217]."""
        with self._writers["train"].as_default(step=epoch):
            for weight in model.weights:
                layer_and_name = weight.path.partition("/")[2]
                tf.summary.histogram(f"weights/{layer_and_name}", weight)
            activations: Any = probe
            for layer in model.layers:
                activations = layer(activations, training=False)
                tf.summary.histogram(f"activations/{layer.name}", activations)

    def flush(self) -> None:
        """Bring everything to where it belongs."""
        for writer in self._writers.values():
            writer.flush()
        if self._folder.local:
            return
        for name, size in StoragePath.of(self._here).files():
            if self._copied.get(name) != size:
                (self._folder / name).write((self._here / name).read_bytes())
                self._copied[name] = size


def _take_out_later(folder: Path, epoch: int, step: int) -> None:
    """Take what lies beyond an epoch and a step out of the event files of a folder; a torn end goes, too."""
    for leftover in folder.glob(".events.out.tfevents.*"):
        leftover.unlink()
    for path in sorted(folder.glob("events.out.tfevents.*")):
        kept = []
        with contextlib.suppress(tf.errors.DataLossError):
            for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = event_pb2.Event.FromString(record)
                by_step = any(value.tag.startswith(_BY_STEP) for value in event.summary.value)
                if event.step <= (step if by_step else epoch):
                    kept.append(record)
        unfinished = path.with_name(f".{path.name}")
        with tf.io.TFRecordWriter(str(unfinished)) as file:
            for record in kept:
                file.write(record)
        unfinished.replace(path)
