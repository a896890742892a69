"""Training from a dataset to `model.keras`: opens what the training loop needs, and saves what it trained."""

import logging

from featurize.dataset.dataset import Dataset
from train.callbacks import Callbacks
from train.checkpoint_name import CheckpointName
from train.config import TrainConfig
from train.evaluation.held_out import held_out
from train.fit.begin import begin
from train.fit.calibrate import calibrate
from train.fit.early_stopping import best_epoch, is_trained
from train.fit.initial_weights import (
    settle_initial,
)
from train.fit.loop import Loop, Outputs
from train.fit.members import members, of_member, save_ensemble
from train.fit.restore import restore
from train.fit.saved_model import save_model
from train.fit.tensorboard import TensorBoardWriter
from train.folds import fold_roles, resolve_folds
from train.model.code_file import settle_code
from train.model.strategy import (
    check_same_step,
    describe,
    devices,
    make_strategy,
)
from train.run import Run
from train.run_checks import refuse_removed

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
    restored = restore(dataset, run, config, scratch, workers)
    learner, state, stream = restored.learner, restored.state, restored.stream
    if not scratch:
        run.record_device(devices(learner.strategy))
    if len(run.history()) < len(state.history):  # the file was lost; the checkpoint has the records
        output.write("history.json", [entry.to_json() for entry in state.history])
    if workers and workers > 1:
        check_same_step(learner.strategy, state.step)
    described = describe(learner.strategy, workers or 1, config.worker_range.is_elastic)
    _log.info(
        f"Training {config.model} ({learner.model.count_params():,} parameters) on {described}: "
        f"{stream.rows:,} segments, {stream.steps_per_epoch} steps per epoch, "
        f"{config.epochs} epoch{'' if config.epochs == 1 else 's'}."
        + (f" Precision: {restored.precision}." if config.precision == "auto" else "")
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
    held_out_folds = {
        part: held_out(dataset, config, fold, restored.reader) for part, fold in roles.held_out.items()
    }
    if not config.best_epoch_on_test:
        del held_out_folds["test"]
    parts = ["train", *held_out_folds]
    examples, background, epochs_done = restored.example_segments, restored.background, len(state.history)
    with (
        background,
        TensorBoardWriter(output.tensorboard, parts, epochs_done, state.step, background) as tensorboard,
    ):
        if not state.step:
            tensorboard.text("config", run.config_text())
            tensorboard.graph(learner.model)
            tensorboard.images(dataset.info.settings.kind, examples, restored.example_labels, dataset.classes)
        Loop(
            config,
            state,
            learner=learner,
            stream=stream,
            held_out_folds=held_out_folds,
            outputs=Outputs(
                run, output, restored.checkpoints, tensorboard, background, examples[:_EXAMPLE_SEGMENTS]
            ),
            callbacks=callbacks,
        ).run()
    background.finish()
    if scratch:
        return
    if "validation" in held_out_folds:
        best = best_epoch(state.history, config)
        restored.checkpoints.restore_best(CheckpointName(best * stream.steps_per_epoch, best))
    temperature = None
    if config.calibrate:
        temperature = calibrate(learner.evaluated, learner.strategy, held_out_folds["validation"])
    refuse_removed(run)
    save_model(run, learner.evaluated, dataset, config, temperature)
