"""Training from a dataset to `model.keras`: everything is made, or found again, and given to the loop."""

import logging
import os
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import in_threads, read_labels
from train.callbacks import Callbacks
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.held_out import held_out
from train.fit.checkpoints import Checkpoints
from train.fit.early_stopping import best_epoch, should_stop
from train.fit.loop import Learner, Loop, Outputs
from train.fit.optimizer import make_optimizer
from train.fit.tensorboard import TensorBoardWriter
from train.fit.train_step import StepConfig, refuse_random_layers
from train.input.batches import SegmentStream
from train.input.class_counts import class_warnings, class_weights, refuse_missing_classes, segment_counts
from train.input.mixup import mixup
from train.input.sampler import ShuffleSampler
from train.model.architectures import build_model
from train.model.normalization import Statistics, training_statistics
from train.model.strategy import describe, make_strategy, on_gpus, refuse_disagreement
from train.model_names import MODELS
from train.records import ModelInfo
from train.run import Run

_log = logging.getLogger(__name__)

_PROBE_ROWS = 64


def train(dataset: Dataset, run: Run, config: TrainConfig, config_text: str, callbacks: Callbacks) -> None:
    """Train a model on a dataset, or go on where an earlier call was interrupted: `begin`, then `learn`."""
    if begin(dataset, run, config, config_text):
        learn(dataset, run, config, callbacks)


def begin(dataset: Dataset, run: Run, config: TrainConfig, config_text: str) -> bool:
    """Record what a run is made from.

    Args:
        dataset: from `open_dataset`.
        run: where everything goes.
        config: the settings.
        config_text: the whole config as YAML, to be kept and shown beside the results.

    Returns:
        whether there is anything to train; not, where the model is there for the epochs that are asked for.

    Raises:
        TrainError: a class has no tracks to learn from, or the run's folder belongs to other settings or has
            been trained for longer.
    """
    if (finished := len(run.history())) > config.epochs:
        raise TrainError(
            f"{run.folder} has been trained for {finished} epochs already; train.epochs = {config.epochs} asks "
            "for fewer. Ask for as many or more, or give another --out."
        )
    refuse_missing_classes(dataset, config)
    for warning in class_warnings(dataset, config):
        _log.warning(warning)
    run.begin(dataset, config)
    (run.folder / "config.yaml").write(config_text.encode())
    return not is_trained(run, config)


def learn(
    dataset: Dataset, run: Run, config: TrainConfig, callbacks: Callbacks, scratch: Run | None = None
) -> None:
    """Train the model of a run that is begun, from its latest checkpoint on.

    Ends with `model.keras` and `model.json` in the run's folder.

    Args:
        dataset: from `open_dataset`.
        run: where everything goes.
        config: the settings.
        callbacks: Receive progress; may request a stop.
        scratch: Folder for all output in place of the run's, for workers other than the chief: they run the same
            code, and their output is thrown away.

    Raises:
        Stopped: the listener asked for it; the same call goes on from there.
        TrainError: the devices are not there, or the loss is no number any more.
    """
    written = scratch or run
    strategy = make_strategy(config)
    keras.utils.set_random_seed(config.seed)
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
        refuse_random_layers(model)
        optimizer = make_optimizer(config, stream.steps_per_epoch)
        optimizer.build(model.trainable_variables)
        checkpoints = Checkpoints(run.checkpoints, model, optimizer, config.keep_checkpoints, written.checkpoints)
        progress = checkpoints.restore_latest()
    if config.workers > 1:
        refuse_disagreement(strategy, progress.step)
    _log.info(
        f"Training {config.model} ({model.count_params():,} parameters) on {describe(strategy, config.workers)}: "
        f"{stream.rows:,} segments, {stream.steps_per_epoch} steps an epoch, {config.epochs} epochs."
        + (f" Resuming after step {progress.step}." if progress.step else "")
    )

    held = {part: held_out(dataset, config, fold) for part, fold in config.held_out.items()}
    step_config = make_step_config(config, segment_counts(dataset, config)["train"], statistics)
    probe, probe_labels = stream.batch(0)
    with TensorBoardWriter(
        written.tensorboard, ["train", *held], len(progress.history), progress.step
    ) as tensorboard:
        if not progress.step:
            tensorboard.text("config", (run.folder / "config.yaml").read().decode())
            tensorboard.graph(model)
            tensorboard.images(probe, probe_labels, dataset.classes)
        Loop(
            config,
            progress,
            learner=Learner(strategy, model, optimizer, step_config, compiled),
            stream=stream,
            held=held,
            outputs=Outputs(written, checkpoints, tensorboard, probe[:_PROBE_ROWS]),
            callbacks=callbacks,
        ).run()
    if scratch:
        return
    if "validation" in held:
        checkpoints.restore_best()
    _save_model(run, model, dataset, config)


def is_trained(run: Run, config: TrainConfig) -> bool:
    """Say whether the run's model is there, and nothing is left to train."""
    about = run.model_info()
    history = run.history()
    return bool(run.model.is_file() and about and about.epochs == len(history) and should_stop(history, config))


def is_compiled(config: TrainConfig, replicas: int) -> bool:
    """Say whether XLA compiles the steps.

    Raises:
        TrainError: that is asked for where it cannot be.
    """
    across_replicas = MODELS[config.model].batch_norm and replicas > 1
    if config.jit_compile == "always" and across_replicas:
        raise TrainError(
            f"train.jit_compile = always, but XLA cannot compile the batch normalisation of {config.model} over "
            f"{replicas} replicas. Set train.jit_compile=never, train.replicas=1, or another train.model."
        )
    return config.jit_compile == "always" or (config.jit_compile == "auto" and on_gpus() and not across_replicas)


def make_step_config(config: TrainConfig, counts: NDArray[np.int64], statistics: Statistics) -> StepConfig:
    """Return how to learn from a batch, given the training segments of each class and the statistics of all."""
    return StepConfig(
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
    sampler = ShuffleSampler(
        [rows for shard in shards for rows in shard.row_groups],
        config.seed,
        config.shuffle_window,
        dataset.segments_per_track,
        config.segments_per_epoch,
        labels,
    )
    mix = mixup(config.mixup, config.seed) if config.mixup else None
    return SegmentStream(shards, sampler, config.batch_size, mix)


def _save_model(run: Run, model: keras.Sequential, dataset: Dataset, config: TrainConfig) -> None:
    """Write the model, and beside it what is needed to use it on audio."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        content = Path(path).read_bytes()
    history = run.history()
    info = ModelInfo(
        classes=dataset.classes,
        features=dataset.info.settings.model_dump(),
        input="float32 [batch, 40, 217], MFCC in dB as the settings under features make them",
        output="float32 [batch, classes], logits: softmax gives the probabilities",
        parameters=model.count_params(),
        epoch=best_epoch(history, config),
        epochs=len(history),
        dataset=dataset.id,
    )
    run.write("model.json", info.to_json())
    run.model.write(content)
