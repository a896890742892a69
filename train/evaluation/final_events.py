"""The settings and the final figures of a run in TensorBoard: its HParams table, and the last confusion matrix."""

import io
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api, api_pb2, summary
from tensorboard.plugins.image.metadata import create_summary_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from train.config import TrainConfig
from train.evaluation.confusion_image import draw_confusion
from train.records import ModelInfo
from train.run import Run
from train.score_records import Metrics

FINAL_EVENTS = "final/events.out.tfevents.final"  # in the folder of the event files


def write_final_events(run: Run, config: TrainConfig, model_info: ModelInfo, metrics: Metrics) -> None:
    """Write FINAL_EVENTS, in place of earlier ones: hyperparameters, figures and a confusion matrix.

    Args:
        run: The run.
        config: Its settings.
        model_info: The content of `model.json`, for the feature settings.
        metrics: The content of `metrics.json`.
    """
    content = io.BytesIO()  # TensorFlow's writer needs a local disk, and room there for temporary files
    records = RecordWriter(content)
    records.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
    for each in _summaries(run, config, model_info, metrics):
        # Some of TensorBoard's functions return TensorFlow's class of the message, others its own.
        converted = Summary.FromString(each.SerializeToString())
        records.write(Event(wall_time=time.time(), step=metrics.epoch, summary=converted).SerializeToString())
    (run.tensorboard / FINAL_EVENTS).write(content.getvalue())


def _summaries(run: Run, config: TrainConfig, model_info: ModelInfo, metrics: Metrics) -> Iterator[Any]:
    """Yield the messages to write, one for each tag."""
    yield api.hparams_pb(hyperparameters(config, model_info))
    for name, value in final_figures(run, model_info, metrics).items():
        yield scalar_pb(name, value)
    image = draw_confusion(metrics.tracks.confusion, metrics.classes)
    height, width, _ = image.shape
    encoded = [str(width).encode(), str(height).encode(), tf.io.encode_png(image).numpy()]
    metadata = create_summary_metadata(display_name=None, description=None, converted_to_tensor=True)
    yield Summary(
        value=[Summary.Value(tag="confusion/tracks", metadata=metadata, tensor=make_tensor_proto(encoded))]
    )
    yield summary.session_end_pb(api_pb2.STATUS_SUCCESS)


def hyperparameters(config: TrainConfig, model_info: ModelInfo) -> dict[str, Any]:
    """Return the settings that can change a score, by name; TensorBoard has no null, so it is text."""
    settings = {f"train.{name}": value for name, value in config.compared.items()}
    settings |= {f"featurize.{name}": value for name, value in model_info.features.items()}
    return {
        name: value if isinstance(value, bool | int | float | str) else "null" if value is None else str(value)
        for name, value in settings.items()
    }


def final_figures(run: Run, model_info: ModelInfo, metrics: Metrics) -> dict[str, float]:
    """Return the figures of the test fold, and those of the validation fold after the selected epoch, by tag.

    The members of an ensemble have no epoch in common that was selected.
    """
    tracks, segments = metrics.tracks, metrics.segments
    figures = {
        "test/track_accuracy": tracks.accuracy,
        "test/track_macro_f1": tracks.macro_f1,
        "test/accuracy": segments.accuracy,
        "test/loss": segments.loss,
    }
    selected = next((entry for entry in run.history() if entry.epoch == metrics.epoch), None)
    if selected and selected.validation and not model_info.members:
        figures |= {
            "validation/track_accuracy": selected.validation.track_accuracy,
            "validation/track_macro_f1": selected.validation.track_macro_f1,
            "validation/accuracy": selected.validation.accuracy,
            "validation/loss": selected.validation.loss,
        }
    return figures
