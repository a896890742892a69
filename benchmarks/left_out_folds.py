"""Training without some folds of a dataset, and the predictions of those folds, for benchmarks.learning."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from featurize.dataset.dataset import Dataset
from jobs.config import JobConfig
from train.evaluation.held_out import held_out
from train.evaluation.metrics import Float64, Int32
from train.evaluation.predictor import Predictor
from train.fit.optimizer import make_optimizer
from train.fit.restore import make_step_config
from train.fit.train_step import distributed_steps
from train.fit.weight_average import average_of
from train.folds import resolve_folds
from train.input.class_counts import segment_counts
from train.input.distributed import DistributedBatches
from train.input.training_stream import training_stream
from train.model.architectures import build_model
from train.model.normalization import training_statistics
from train.model.strategy import make_strategy

AVERAGE_EPOCHS = 5.0


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions of one fold by one training.

    Attributes:
        probabilities: float64 [weights, rows, classes].
        labels: int32 [rows], class indices.
        per_track: Number of rows of each track.
        classes: Class names.
    """

    probabilities: Float64
    labels: Int32
    per_track: int
    classes: list[str]


def train_without(
    dataset: Dataset, config: JobConfig, seed: int, left_out: Sequence[int]
) -> dict[int, Predictions]:
    """Train on all folds but one or two, and predict those with the weights of the last step and their average.

    Args:
        dataset: Dataset.
        config: Settings; those of folds and seed are replaced.
        seed: Random seed.
        left_out: One or two folds.

    Returns:
        Predictions of the folds that were left out.
    """
    test, *validation = left_out
    settings = config.train.model_copy(
        update={"seed": seed, "test_fold": test, "validation_fold": validation[0] if validation else "none"}
    )
    settings = resolve_folds(settings, dataset.layout)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    strategy = make_strategy(settings)
    stream = training_stream(dataset, settings)
    steps = settings.epochs * stream.steps_per_epoch
    normalize_by = training_statistics(dataset, settings)
    with strategy.scope():
        model = build_model(
            settings.model,
            dataset.info.settings.format,
            len(dataset.classes),
            settings.dropout,
            normalize_by if settings.normalize else None,
        )
        optimizer = make_optimizer(settings, stream.steps_per_epoch)
        optimizer.build(model.trainable_variables)
        average = average_of(model, AVERAGE_EPOCHS * stream.steps_per_epoch)
    step_config = make_step_config(settings, segment_counts(dataset, settings)["train"], normalize_by)
    with DistributedBatches(strategy, stream, 0, steps) as batches:
        train_steps = distributed_steps(strategy, model, optimizer, step_config, compiled=False, average=average)
        for _ in range(settings.epochs):
            losses = batches.run(train_steps, stream.steps_per_epoch).losses.numpy()
    if not np.isfinite(losses).all():
        raise RuntimeError("the loss is not finite")
    return {fold: predict(dataset, settings, fold, strategy, [model, average.model]) for fold in left_out}


def predict(
    dataset: Dataset, config: Any, fold: int, strategy: tf.distribute.Strategy, models: Sequence[keras.Model]
) -> Predictions:
    """Predict all segments of a fold with each model."""
    segments = held_out(dataset, config, fold)
    probabilities: list[list[Float64]] = [[] for _ in models]
    labels: list[list[Int32]] = [[] for _ in models]
    for model, rows, actual in zip(models, probabilities, labels, strict=True):

        def receive(found: Float64, known: Int32, rows: Any = rows, actual: Any = actual) -> None:
            rows.append(found)
            actual.append(known)

        segments.score(Predictor(strategy, model), receive)
    return Predictions(
        np.stack([np.concatenate(rows) for rows in probabilities]),
        np.concatenate(labels[0]),
        segments.per_track,
        dataset.classes,
    )


def write(path: Path, predictions: Predictions) -> None:
    """Write predictions; the file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".partial")
    with scratch.open("wb") as file:
        np.savez(file, allow_pickle=False, **dataclasses.asdict(predictions))
    scratch.replace(path)


def read(path: Path) -> Predictions:
    """Read predictions."""
    with np.load(path) as file:
        return Predictions(file["probabilities"], file["labels"], int(file["per_track"]), file["classes"].tolist())
