"""Training from a dataset to `model.keras`: builds or restores everything that the training loop needs."""

import logging

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from train.callbacks import Callbacks
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.held_out import held_out
from train.fit.background_writer import BackgroundWriter
from train.fit.begin import begin
from train.fit.calibrate import calibrate
from train.fit.checked_builds import refuse_untrainable
from train.fit.checkpoints import Checkpoints
from train.fit.early_stopping import is_trained
from train.fit.forward import refuse_random_layers
from train.fit.initial_weights import (
    describe_taken,
    freeze,
    settle_initial,
    take_weights,
)
from train.fit.loop import Learner, Loop, Outputs
from train.fit.members import members, of_member, save_ensemble
from train.fit.optimizer import make_optimizer
from train.fit.saved_model import save_model
from train.fit.tensorboard import TensorBoardWriter
from train.fit.train_step import StepConfig
from train.fit.weight_average import average_of
from train.folds import fold_roles, resolve_folds
from train.input.cached_rows import make_reader
from train.input.class_counts import class_weights, segment_counts
from train.input.training_stream import training_stream
from train.model.architectures import build_model
from train.model.code_file import code_of_run, settle_code
from train.model.custom import call_builder, set_up, start_build
from train.model.normalization import Statistics, training_statistics
from train.model.strategy import (
    check_same_step,
    describe,
    devices,
    make_elastic_strategy,
    make_strategy,
    on_gpus,
    resolve_precision,
)
from train.model_names import MODELS, parse_function
from train.run import Run

_log = logging.getLogger(__name__)

_EXAMPLE_SEGMENTS = 64


def train(
    dataset: Dataset,
    run: Run,
    config: TrainConfig,
    config_text: str,
    callbacks: Callbacks,
    start: Run | None = None,
) -> None:
    """Train a model on a dataset, or resume an interrupted run: `begin`, then `learn`.

    Args:
        dataset: Dataset from `open_dataset`.
        run: Output folder.
        config: Settings as the user gave them.
        config_text: The whole config as YAML, to be stored with the results.
        callbacks: Training callbacks.
        start: Run whose weights a new run begins with; None for random weights.
    """
    config, code = settle_code(run, resolve_folds(config, dataset.layout))
    if begin(dataset, run, config, config_text, code, settle_initial(run, start, config)):
        learn(dataset, run, config, callbacks)


def learn(
    dataset: Dataset,
    run: Run,
    config: TrainConfig,
    callbacks: Callbacks,
    scratch: Run | None = None,
    workers: int | None = None,
) -> None:
    """Train the model of a run after `begin`, or the members of an ensemble one after another.

    Writes `model.keras` and `model.json` into the run's folder at the end.

    Args:
        dataset: Dataset from `open_dataset`.
        run: Output folder.
        config: Settings from `resolve_folds`.
        callbacks: Training callbacks.
        scratch: Output folder instead of the run's, for workers other than the chief: they run the same code, and
            their output is discarded.
        workers: Current number of workers; None for a single process.

    Raises:
        Stopped: A callback requested a stop; the same call continues from there.
        TrainError: The configured devices are missing, or the loss is not finite.
    """
    if config.ensemble == 1:
        _learn_model(dataset, run, config, callbacks, scratch, workers)
        return
    run.record_device(devices(make_strategy(config)))
    for number, (member, settings) in enumerate(members(run, config)):
        if not is_trained(member, settings):
            _log.info(f"Member {number + 1} of {config.ensemble}.")
            _learn_model(dataset, member, settings, of_member(callbacks, number, config.ensemble), None, None)
    save_ensemble(dataset, run, config)


def _learn_model(
    dataset: Dataset,
    run: Run,
    config: TrainConfig,
    callbacks: Callbacks,
    scratch: Run | None,
    workers: int | None,
) -> None:
    """Train one model from its latest checkpoint, if it has one; see `learn`."""
    output = scratch or run
    strategy = make_elastic_strategy(config, workers) if workers and config.is_elastic else make_strategy(config)
    precision = resolve_precision(config.precision)
    reader = make_reader(dataset, config)
    stream = training_stream(dataset, config, reader)
    statistics = training_statistics(dataset, config)
    example_segments, example_labels = stream.examples()
    code = code_of_run(run) if parse_function(config.model) else None
    batch_norm = (
        refuse_untrainable(
            code, config, example_segments.shape[1:], len(dataset.classes), stream.steps_per_epoch, precision
        )
        if code
        else MODELS[config.model].batch_norm
    )
    compiled = is_compiled(config, strategy.num_replicas_in_sync, batch_norm)
    if code:
        start_build(config.seed)
    keras.utils.set_random_seed(config.seed)
    if not compiled:
        # Not with XLA, which rejects the gradient of max pooling as nondeterministic.
        tf.config.experimental.enable_op_determinism()
    normalise_by = statistics if config.normalise else None
    with strategy.scope():
        if code:
            own = call_builder(code, example_segments.shape[1:], len(dataset.classes), config, precision)
            model = set_up(own, normalise_by, synchronized=not compiled)
        else:
            model = build_model(
                config.model,
                dataset.info.settings.format,
                len(dataset.classes),
                config.dropout,
                normalise_by,
                precision,
                synchronized=not compiled,
            )
            refuse_random_layers(model)
        freeze(model, config.freeze)
        optimizer = make_optimizer(config, stream.steps_per_epoch)
        optimizer.build(model.trainable_variables)
        average = (
            average_of(model, config.average_epochs * stream.steps_per_epoch) if config.average_epochs else None
        )
        background = BackgroundWriter()
        checkpoints = Checkpoints(
            run.checkpoints,
            model,
            optimizer,
            config.keep_checkpoints,
            background,
            output.checkpoints,
            average and average.model,
        )
        state = checkpoints.restore_latest()
        info = run.info()
        if info and info.initial and not state.step:
            taken = take_weights(run, model, dataset.classes, config.freeze)
            if average:
                average.model.set_weights(model.get_weights())
            _log.info(describe_taken(taken))
            if not scratch:
                run.write("run.json", info.model_copy(update={"initial": taken}).to_json())
    if not scratch:
        run.record_device(devices(strategy))
    if len(run.history()) < len(state.history):  # the file was lost; the checkpoint has the records
        output.write("history.json", [entry.to_json() for entry in state.history])
    if workers and workers > 1:
        check_same_step(strategy, state.step)
    described = describe(strategy, workers or 1, config.is_elastic)
    _log.info(
        f"Training {config.model} ({model.count_params():,} parameters) on {described}: "
        f"{stream.rows:,} segments, {stream.steps_per_epoch} steps per epoch, "
        f"{config.epochs} epoch{'' if config.epochs == 1 else 's'}."
        + (f" Precision: {precision}." if config.precision == "auto" else "")
        + (f" Resuming after step {state.step}." if state.step else "")
    )

    last_step = config.epochs * stream.steps_per_epoch
    if config.profiled and config.profiled[0] > last_step:
        _log.warning(
            f"train.profile_steps = {config.profile_steps}, but training ends after step {last_step}: there is no "
            "profile."
        )
    roles = fold_roles(config, dataset.layout)
    # All are opened, so that a fold that cannot be evaluated ends the run before training and not after it.
    held_out_folds = {part: held_out(dataset, config, fold, reader) for part, fold in roles.held_out.items()}
    if not config.best_epoch_on_test:
        del held_out_folds["test"]
    step_config = make_step_config(config, segment_counts(dataset, config)["train"], statistics)
    parts = ["train", *held_out_folds]
    epochs_done = len(state.history)
    learner = Learner(strategy, model, optimizer, step_config, compiled, average)
    with (
        background,
        TensorBoardWriter(output.tensorboard, parts, epochs_done, state.step, background) as tensorboard,
    ):
        if not state.step:
            tensorboard.text("config", run.config_text())
            tensorboard.graph(model)
            tensorboard.images(dataset.info.settings.kind, example_segments, example_labels, dataset.classes)
        Loop(
            config,
            state,
            learner=learner,
            stream=stream,
            held_out_folds=held_out_folds,
            outputs=Outputs(
                run, output, checkpoints, tensorboard, background, example_segments[:_EXAMPLE_SEGMENTS]
            ),
            callbacks=callbacks,
        ).run()
    background.finish()
    if scratch:
        return
    if "validation" in held_out_folds:
        checkpoints.restore_best()
    model = learner.evaluated
    temperature = calibrate(model, strategy, held_out_folds["validation"]) if config.calibrate else None
    run.refuse_removed()
    save_model(run, model, dataset, config, temperature)


def is_compiled(config: TrainConfig, replicas: int, batch_norm: bool) -> bool:
    """Return whether XLA compiles the training step.

    Args:
        config: Settings.
        replicas: Number of replicas.
        batch_norm: Whether the model has batch normalization.

    Raises:
        TrainError: `jit_compile` is "always" where XLA cannot compile the step.
    """
    across_replicas = batch_norm and replicas > 1
    if config.jit_compile == "always" and across_replicas:
        raise TrainError(
            f"train.jit_compile = always, but XLA cannot compile the batch normalization of {config.model} over "
            f"{replicas} replicas. Set train.jit_compile=never, train.replicas=1, or another train.model."
        )
    return config.jit_compile == "always" or (config.jit_compile == "auto" and on_gpus() and not across_replicas)


def make_step_config(config: TrainConfig, counts: NDArray[np.int64], statistics: Statistics) -> StepConfig:
    """Return the loss and augmentation settings.

    Args:
        config: Settings.
        counts: int64 [classes], training segments of each class.
        statistics: Statistics of the training folds.
    """
    return StepConfig(
        config.seed,
        class_weights(counts, config),
        config.label_smoothing,
        config.mask_frames,
        config.mask_coefficients,
        statistics.mean,
    )
