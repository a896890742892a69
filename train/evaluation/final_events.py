"""The settings and the final figures of a run in TensorBoard: its HParams table, and the last confusion matrix."""

import tempfile
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api, api_pb2, summary

from featurize.storage import StoragePath
from train.config import TrainConfig
from train.evaluation.confusion_image import draw_confusion
from train.records import Metrics, ModelInfo
from train.run import Run

FINAL = "final"  # subfolder of the event files


def write_final_events(run: Run, config: TrainConfig, model_info: ModelInfo, metrics: Metrics) -> None:
    """Write `tensorboard/final`, in place of an earlier one: hyperparameters, figures and a confusion matrix.

    Args:
        run: The run.
        config: Its settings.
        model_info: The content of `model.json`, for the feature settings.
        metrics: The content of `metrics.json`.
    """
    with tempfile.TemporaryDirectory() as scratch:  # TensorFlow writes to local disks only
        with tf.summary.create_file_writer(scratch).as_default(step=metrics.epoch):
            api.hparams(hyperparameters(config, model_info))
            for name, value in final_figures(run, metrics).items():
                tf.summary.scalar(name, value)
            tf.summary.image("confusion/tracks", draw_confusion(metrics.tracks.confusion, metrics.classes)[None])
            ended = summary.session_end_pb(api_pb2.STATUS_SUCCESS)
            tf.summary.experimental.write_raw_pb(ended.SerializeToString(), step=0)
        folder = run.tensorboard / FINAL
        folder.remove_folder()
        for name, _ in StoragePath.of(scratch).files():
            (folder / name).write(Path(scratch, name).read_bytes())


def hyperparameters(config: TrainConfig, model_info: ModelInfo) -> dict[str, Any]:
    """Return the settings that can change a score, by name; TensorBoard has no null, so it is text."""
    settings = {f"train.{name}": value for name, value in config.compared.items()}
    settings |= {f"featurize.{name}": value for name, value in model_info.features.items()}
    return {
        name: value if isinstance(value, bool | int | float | str) else "null" if value is None else str(value)
        for name, value in settings.items()
    }


def final_figures(run: Run, metrics: Metrics) -> dict[str, float]:
    """Return the figures of the test fold, and those of the validation fold after the selected epoch, by tag."""
    tracks, segments = metrics.tracks, metrics.segments
    figures = {
        "test/track_accuracy": tracks.accuracy,
        "test/track_macro_f1": tracks.macro_f1,
        "test/accuracy": segments.accuracy,
        "test/loss": segments.loss,
    }
    selected = next((entry for entry in run.history() if entry.epoch == metrics.epoch), None)
    if selected and selected.validation:
        figures |= {
            "validation/track_accuracy": selected.validation.track_accuracy,
            "validation/track_macro_f1": selected.validation.track_macro_f1,
            "validation/accuracy": selected.validation.accuracy,
            "validation/loss": selected.validation.loss,
        }
    return figures
