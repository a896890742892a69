"""The training loop: one for any `tf.distribute` strategy, any number of replicas, and any interruption."""

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset import Dataset, Shard
from featurize.storage import write_whole
from train.board import Board
from train.checkpoints import Checkpoints
from train.config import TrainConfig, TrainError
from train.devices import describe, make_strategy
from train.evaluate import Predictor, distribute
from train.held_out import held_out
from train.models import build_model
from train.order import ShuffledOrder
from train.run import Run
from train.steps import train_step
from train.stream import SegmentStream

_PROBE_ROWS = 64
_LARGEST_SKEW = 4


@dataclasses.dataclass(frozen=True)
class Listener:
    """Who is told what happens.

    Attributes:
        remark: called with each sentence that the user may want to read.
        step: called with (steps done, steps in all) after each step.
        epoch: called with the entry of `history.json` after each epoch, and with the number of epochs.
    """

    remark: Callable[[str], None] = lambda text: None
    step: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[dict[str, Any], int], None] = lambda entry, epochs: None


def train(dataset: Dataset, run: Run, config: TrainConfig, config_text: str, listener: Listener) -> None:
    """Train a model on a dataset, or go on where an earlier call was interrupted.

    Ends with `model.keras` and `model.json` in the run's folder; returns at once where they are there for the
    epochs that are asked for.

    Args:
        dataset: from `open_dataset`.
        run: where everything goes.
        config: the settings.
        config_text: the whole config as YAML, to be kept and shown beside the results.
        listener: is told of the progress.

    Raises:
        TrainError: a class has no tracks to learn from, or the run's folder belongs to other settings or has been
            trained for longer.
    """
    if (finished := len(run.history())) > config.epochs:
        raise TrainError(
            f"{run.folder} has been trained for {finished} epochs already; train.epochs = {config.epochs} asks "
            "for fewer. Ask for as many or more, or give another --out."
        )
    counts = training_counts(dataset, config, listener.remark)
    run.begin(dataset, config)
    write_whole(run.folder / "config.yaml", config_text.encode())
    if is_trained(run, config):
        return

    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    strategy = make_strategy(config.replicas)
    held = {part: held_out(dataset, config, fold) for part, fold in config.held_out.items()}
    stream = training_stream(dataset, config)
    with strategy.scope():
        model = build_model(config.model, len(dataset.classes), config.dropout)
        optimizer = keras.optimizers.Adam(config.learning_rate)
        optimizer.build(model.trainable_variables)
        checkpoints = Checkpoints(run.checkpoints, model, optimizer, config.keep_checkpoints)
        done = checkpoints.restore_latest()
    first_epoch = done // stream.steps_per_epoch
    history = run.history()[:first_epoch]
    listener.remark(
        f"Training {config.model} ({model.count_params():,} parameters) on {describe(strategy)}: "
        f"{stream.rows:,} segments, {stream.steps_per_epoch} steps an epoch, epochs {first_epoch + 1} to "
        f"{config.epochs}."
    )

    step = _distributed_step(strategy, model, optimizer, class_weights(counts, config), config.seed)
    predictor = Predictor(strategy, model)
    probe, probe_labels = stream.batch(0)
    board = Board(run.tensorboard, ["train", *held])
    board.text("config", config_text)
    board.graph(model)
    board.images(probe, probe_labels, dataset.classes)

    batches = iter(distribute(strategy, stream, done, config.epochs * stream.steps_per_epoch))
    for epoch in range(first_epoch, config.epochs):
        entry = _train_epoch(epoch, stream, batches, step, config, listener)
        entry["learning_rate"] = float(optimizer.learning_rate.numpy())
        for part, fold in held.items():
            entry[part] = _figures(fold.score(predictor))
        steps_done = (epoch + 1) * stream.steps_per_epoch
        if "validation" in entry and _rank(entry) > max(map(_rank, history), default=(-1.0, 0.0)):
            checkpoints.save_best(steps_done)
        history.append(entry)
        run.write("history.json", history)
        _show(board, entry, model, probe[:_PROBE_ROWS])
        if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
            checkpoints.save(steps_done)
        listener.epoch(entry, config.epochs)
    board.close()

    best = config.epochs
    if "validation" in held:
        checkpoints.restore_best()
        best = max(history, key=_rank)["epoch"]
    _save_model(run, model, dataset, best)


def is_trained(run: Run, config: TrainConfig) -> bool:
    """Say whether the run's model is there, made from as many epochs as are asked for."""
    about = run.read("model.json")
    return bool(run.model.exists() and about and len(run.history()) == config.epochs == about["epochs"])


def training_counts(dataset: Dataset, config: TrainConfig, remark: Callable[[str], None]) -> NDArray[np.int64]:
    """Count the training segments of each class; remark on classes that are skewed or not judged.

    Raises:
        TrainError: a class has no tracks to learn from, or the test fold has none at all.
    """
    counts = {part: np.zeros(len(dataset.classes), np.int64) for part in ("train", *config.held_out)}
    folds = {fold: part for part, fold in config.held_out.items()}
    for entry in dataset.info["counts"]:
        part = folds.get(entry["fold"], "train")
        counts[part][dataset.classes.index(entry["label"])] += entry["segments"]
    empty = [part for part, count in counts.items() if not count.sum()]
    unlearnt = _named(dataset.classes, counts["train"] == 0)
    if empty or unlearnt:
        raise TrainError(
            (
                f"no tracks are left for {' and '.join(empty)}. "
                if empty
                else f"no track to learn {unlearnt} from. "
            )
            + "Groups are never divided over folds, so a class from very few artists can fall into one fold. "
            "Choose another train.test_fold or train.validation_fold=none, or featurize with "
            "featurize.group_by=none."
        )
    for part, count in counts.items():
        if missing := _named(dataset.classes, count == 0):
            remark(f"The {part} fold has no track of {missing}: what it says does not cover them.")
    skew = counts["train"].max() / counts["train"].min()
    if skew > _LARGEST_SKEW and config.class_weights == "none":
        remark(
            f"The largest class has {skew:.1f} times the segments of the smallest, which the model will tend to "
            "overlook. To give each class the same weight: --set train.class_weights=balanced"
        )
    return counts["train"]


def class_weights(counts: NDArray[np.int64], config: TrainConfig) -> NDArray[np.float32]:
    """Return the weight of each class in the loss, float32 [classes]; their mean over the rows is 1."""
    if config.class_weights == "none":
        return np.ones(len(counts), np.float32)
    weights: NDArray[np.float32] = (counts.sum() / (len(counts) * counts)).astype(np.float32)
    return weights


def training_stream(dataset: Dataset, config: TrainConfig) -> SegmentStream:
    """Return the shuffled segments of the training folds."""
    shards = dataset.in_folds(config.training_folds)
    order = ShuffledOrder(_row_groups(shards), config.seed, config.shuffle_window)
    return SegmentStream(shards, order, config.batch_size)


def _row_groups(shards: Sequence[Shard]) -> list[int]:
    return [rows for shard in shards for rows in shard.row_groups]


def _distributed_step(
    strategy: tf.distribute.Strategy, model: Any, optimizer: Any, weights: NDArray[np.float32], seed: int
) -> Any:
    """Return a function of one distributed batch: the mean loss, and how many rows came out right."""
    weights_tensor = tf.constant(weights)

    def step(part: Any) -> tuple[tf.Tensor, tf.Tensor]:
        def on_replica(part: Any) -> tuple[tf.Tensor, tf.Tensor]:
            return train_step(model, optimizer, weights_tensor, seed, part)

        loss, right = strategy.run(on_replica, args=(part,))
        total = tf.distribute.ReduceOp.SUM
        return strategy.reduce(total, loss, axis=None), strategy.reduce(total, right, axis=None)

    return tf.function(step, reduce_retracing=True)


def _train_epoch(
    epoch: int, stream: SegmentStream, batches: Any, step: Any, config: TrainConfig, listener: Listener
) -> dict[str, Any]:
    """Take the steps of one epoch and return the first part of its entry in the history."""
    started = time.perf_counter()
    losses, rights = [], []
    for i in range(stream.steps_per_epoch):
        loss, right = step(next(batches))
        losses.append(loss)
        rights.append(right)
        done = epoch * stream.steps_per_epoch + i + 1
        listener.step(done, config.epochs * stream.steps_per_epoch)
    loss = float(np.mean([value.numpy() for value in losses]))
    seconds = time.perf_counter() - started
    if not np.isfinite(loss):
        raise TrainError(
            f"the loss is {loss} in epoch {epoch + 1}. The latest checkpoint is from before; try a smaller "
            "train.learning_rate, in another --out."
        )
    return {
        "epoch": epoch + 1,
        "train": {"loss": loss, "accuracy": sum(int(right.numpy()) for right in rights) / stream.rows},
        "seconds": seconds,
        "examples_per_second": stream.rows / seconds,
    }


def _figures(scores: dict[str, Any]) -> dict[str, float]:
    """Reduce the scores of a held-out fold to what the history keeps."""
    return {
        "loss": scores["segments"]["loss"],
        "accuracy": scores["segments"]["accuracy"],
        "track_accuracy": scores["tracks"]["accuracy"],
        "track_macro_f1": scores["tracks"]["macro_f1"],
    }


def _rank(entry: dict[str, Any]) -> tuple[float, float]:
    """Rank epochs by the macro-F1 of the validation tracks; among equals by the loss of the segments."""
    return entry["validation"]["track_macro_f1"], -entry["validation"]["loss"]


def _show(board: Board, entry: dict[str, Any], model: keras.Sequential, probe: NDArray[np.float32]) -> None:
    epoch = entry["epoch"]
    rates = {key: entry[key] for key in ("learning_rate", "examples_per_second")}
    board.scalars("train", epoch, {**entry["train"], **rates})
    for part in ("validation", "test"):
        if part in entry:
            board.scalars(part, epoch, entry[part])
    board.histograms(epoch, model, probe)
    board.flush()


def _save_model(run: Run, model: keras.Sequential, dataset: Dataset, best_epoch: int) -> None:
    """Write the model, and beside it what is needed to use it on audio."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        content = Path(path).read_bytes()
    about = {
        "classes": dataset.classes,
        "features": dataset.info["settings"],
        "input": "float32 [batch, 40, 217], MFCC in dB as the settings under features make them",
        "output": "float32 [batch, classes], logits: softmax gives the probabilities",
        "epoch": best_epoch,
        "epochs": len(run.history()),
        "dataset": dataset.id,
    }
    write_whole(run.folder / "model.json", json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n")
    write_whole(run.model, content)


def _named(classes: Sequence[str], mask: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, chosen in zip(classes, mask, strict=True) if chosen)
