"""Training from a dataset to `model.keras`: everything is made, or found again, and given to the loop."""

import json
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset import Dataset, in_threads, read_labels
from featurize.storage import write_whole
from train.board import Board
from train.checkpoints import Checkpoints
from train.config import TrainConfig, TrainError
from train.counts import class_weights, training_counts
from train.devices import describe, make_strategy, on_gpus
from train.held_out import held_out
from train.loop import Listener, Loop
from train.mixup import mixup
from train.models import Statistics, build_model, has_batch_norm
from train.optimizer import make_optimizer
from train.order import ShuffledOrder
from train.run import Run
from train.selection import best_epoch, is_over
from train.steps import Lesson
from train.stream import SegmentStream

_PROBE_ROWS = 64


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
        Stopped: the listener asked for it; the same call goes on from there.
        TrainError: a class has no tracks to learn from, the run's folder belongs to other settings or has been
            trained for longer, or the loss is no number any more.
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

    keras.utils.set_random_seed(config.seed)
    strategy = make_strategy(config.replicas, config.all_reduce)
    compiled = is_compiled(config, strategy.num_replicas_in_sync)
    if not compiled:
        # XLA has no gradient of a maximum pooling that it would call deterministic.
        tf.config.experimental.enable_op_determinism()
    stream = training_stream(dataset, config)
    statistics = training_statistics(dataset, config)
    with strategy.scope():
        model = build_model(
            config.model,
            len(dataset.classes),
            config.dropout,
            statistics if config.normalise else None,
            config.precision,
            synchronized=not compiled,
        )
        optimizer = make_optimizer(config, stream.steps_per_epoch)
        optimizer.build(model.trainable_variables)
        checkpoints = Checkpoints(run.checkpoints, model, optimizer, config.keep_checkpoints)
        progress = checkpoints.restore_latest(listener.remark)
    begun = f" Going on after step {progress.step}." if progress.step else ""
    listener.remark(
        f"Training {config.model} ({model.count_params():,} parameters) on {describe(strategy)}: "
        f"{stream.rows:,} segments, {stream.steps_per_epoch} steps an epoch, {config.epochs} epochs.{begun}"
    )

    held = {part: held_out(dataset, config, fold) for part, fold in config.held_out.items()}
    probe, probe_labels = stream.batch(0)
    board = Board(run.tensorboard, ["train", *held], len(progress.history), progress.step)
    if not progress.step:
        board.text("config", config_text)
        board.graph(model)
        board.images(probe, probe_labels, dataset.classes)
    lesson = make_lesson(config, counts, statistics)
    loop = Loop(
        config,
        run,
        strategy,
        model,
        optimizer,
        stream,
        lesson,
        held,
        checkpoints,
        board,
        probe[:_PROBE_ROWS],
        listener,
        compiled,
    )
    loop.finish(progress)
    board.close()
    if "validation" in held:
        checkpoints.restore_best()
    _save_model(run, model, dataset, config)


def is_trained(run: Run, config: TrainConfig) -> bool:
    """Say whether the run's model is there, and nothing is left to train."""
    about = run.read("model.json")
    history = run.history()
    return bool(run.model.exists() and about and about["epochs"] == len(history) and is_over(history, config))


def is_compiled(config: TrainConfig, replicas: int) -> bool:
    """Say whether XLA compiles the steps.

    Raises:
        TrainError: that is asked for where it cannot be.
    """
    across_replicas = has_batch_norm(config.model) and replicas > 1
    if config.jit_compile == "always" and across_replicas:
        raise TrainError(
            f"train.jit_compile = always, but XLA cannot compile the batch normalisation of {config.model} over "
            f"{replicas} replicas. Set train.jit_compile=never, train.replicas=1, or another train.model."
        )
    return config.jit_compile == "always" or (config.jit_compile == "auto" and on_gpus() and not across_replicas)


def make_lesson(config: TrainConfig, counts: NDArray[np.int64], statistics: Statistics) -> Lesson:
    """Return how to learn from a batch, given the training segments of each class and the statistics of all."""
    return Lesson(
        config.seed,
        class_weights(counts, config),
        config.label_smoothing,
        config.mask_frames,
        config.mask_coefficients,
        statistics.mean,
    )


def training_stream(dataset: Dataset, config: TrainConfig) -> SegmentStream:
    """Return the segments of the training folds, shuffled, drawn and mixed as the settings say."""
    shards = dataset.in_folds(config.training_folds)
    labels = None
    if config.sampling == "balanced":
        labels = np.concatenate(list(in_threads(lambda s: read_labels(s, dataset.segments_per_track), shards)))
    order = ShuffledOrder(
        [rows for shard in shards for rows in shard.row_groups],
        config.seed,
        config.shuffle_window,
        dataset.segments_per_track,
        config.segments_per_epoch,
        labels,
    )
    mix = mixup(config.mixup, config.seed) if config.mixup else None
    return SegmentStream(shards, order, config.batch_size, mix)


def training_statistics(dataset: Dataset, config: TrainConfig) -> Statistics:
    """Return the mean and the deviation of each coefficient over the training folds."""
    parts = [part for part in dataset.info["statistics"] if part["fold"] in config.training_folds]
    frames = np.array([part["frames"] for part in parts], np.float64)
    means, deviations = (np.array([part[key] for part in parts]) for key in ("mean", "deviation"))
    mean = np.average(means, axis=0, weights=frames)
    variance = np.average(deviations**2 + means**2, axis=0, weights=frames) - mean**2
    # A coefficient that never changes has no deviation to divide by.
    deviation = np.sqrt(np.where(variance > 0, variance, 1))
    return Statistics(mean.astype(np.float32), deviation.astype(np.float32))


def _save_model(run: Run, model: keras.Sequential, dataset: Dataset, config: TrainConfig) -> None:
    """Write the model, and beside it what is needed to use it on audio."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        content = Path(path).read_bytes()
    history = run.history()
    about = {
        "classes": dataset.classes,
        "features": dataset.info["settings"],
        "input": "float32 [batch, 40, 217], MFCC in dB as the settings under features make them",
        "output": "float32 [batch, classes], logits: softmax gives the probabilities",
        "epoch": best_epoch(history, config),
        "epochs": len(history),
        "dataset": dataset.id,
    }
    write_whole(run.folder / "model.json", json.dumps(about, indent=2, ensure_ascii=False).encode() + b"\n")
    write_whole(run.model, content)
