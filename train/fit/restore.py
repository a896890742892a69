"""Build the model of a run and everything that trains it, with the state of its latest checkpoint."""

import dataclasses
import logging

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.dataset.row_group_reader import RowGroupReader
from train.config import TrainConfig
from train.errors import TrainError
from train.fit.background_writer import BackgroundWriter
from train.fit.checked_builds import refuse_untrainable
from train.fit.checkpoints import Checkpoints
from train.fit.forward import refuse_random_layers
from train.fit.initial_weights import describe_taken, freeze, take_weights
from train.fit.loop import Learner
from train.fit.optimizer import make_optimizer
from train.fit.train_state import TrainState
from train.fit.train_step import StepConfig
from train.fit.weight_average import WeightAverage, average_of
from train.input.cached_rows import make_reader
from train.input.class_counts import class_weights, segment_counts
from train.input.timed_stream import TimedStream
from train.input.training_stream import training_stream
from train.model.architectures import build_model
from train.model.code_file import ModelCode, code_of_run
from train.model.custom import call_builder, set_up, start_build
from train.model.normalization import Statistics, training_statistics
from train.model.strategy import make_elastic_strategy, make_strategy, resolve_precision
from train.model_names import MODELS, parse_function
from train.run import Run

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Restored:
    """A model as of its latest checkpoint, or a new one, and what it is trained with.

    Attributes:
        learner: Model and training step.
        state: Training state of the checkpoint.
        checkpoints: Checkpoints of the run.
        background: Writes them.
        reader: Reader of the dataset.
        stream: Training batches.
        example_segments: float32 [rows, features, frames], segments of the training folds.
        example_labels: int32 [rows], their class indices.
        precision: Data type in which layers compute.
    """

    learner: Learner
    state: TrainState
    checkpoints: Checkpoints
    background: BackgroundWriter
    reader: RowGroupReader
    stream: TimedStream
    example_segments: NDArray[np.float32]
    example_labels: NDArray[np.int32]
    precision: str


def restore(
    dataset: Dataset, run: Run, config: TrainConfig, scratch: Run | None = None, workers: int | None = None
) -> Restored:
    """Build the model of a run, and restore its latest checkpoint if there is one.

    Args:
        dataset: Dataset.
        run: Output folder, after `begin`.
        config: Settings.
        scratch: Output folder instead of the run's, for workers other than the chief.
        workers: Current number of workers; None for a single process.

    Raises:
        TrainError: The configured devices are missing, the model cannot be trained, or a checkpoint is broken.
    """
    strategy = (
        make_elastic_strategy(config, workers)
        if workers and config.worker_range.is_elastic
        else make_strategy(config)
    )
    precision = resolve_precision(config.precision)
    reader = make_reader(dataset, config)
    stream = training_stream(dataset, config, reader)
    statistics = training_statistics(dataset, config)
    example_segments, example_labels = stream.examples()
    shape = example_segments.shape[1:]
    code = code_of_run(run) if parse_function(config.model) else None
    batch_norm = (
        refuse_untrainable(code, config, shape, len(dataset.classes), stream.steps_per_epoch, precision)
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
    background = BackgroundWriter()
    with strategy.scope():
        model = _build(dataset, config, code, shape, statistics, precision, synchronized=not compiled)
        freeze(model, config.freeze)
        optimizer = make_optimizer(config, stream.steps_per_epoch)
        optimizer.build(model.trainable_variables)
        average = (
            average_of(model, config.average_epochs * stream.steps_per_epoch) if config.average_epochs else None
        )
        checkpoints = Checkpoints(
            run.checkpoints,
            model,
            optimizer,
            config.keep_checkpoints,
            background,
            (scratch or run).checkpoints,
            average and average.model,
        )
        state = checkpoints.restore_latest()
        if not state.step:
            _take_initial(run, model, average, dataset.classes, config.freeze, is_recorded=not scratch)
    step_config = make_step_config(config, segment_counts(dataset, config)["train"], statistics)
    learner = Learner(strategy, model, optimizer, step_config, compiled, average)
    return Restored(
        learner, state, checkpoints, background, reader, stream, example_segments, example_labels, precision
    )


def _build(
    dataset: Dataset,
    config: TrainConfig,
    code: ModelCode | None,
    shape: tuple[int, ...],
    statistics: Statistics,
    precision: str,
    *,
    synchronized: bool,
) -> keras.Model:
    """Return a new model of Earmark or of a user, in the scope of a strategy."""
    classes = len(dataset.classes)
    normalize_by = statistics if config.normalize else None
    if code:
        own = call_builder(code, shape, classes, config, precision)
        return set_up(own, normalize_by, synchronized=synchronized)
    model = build_model(
        config.model,
        dataset.info.settings.format,
        classes,
        config.dropout,
        normalize_by,
        precision,
        synchronized=synchronized,
    )
    refuse_random_layers(model)
    return model


def _take_initial(
    run: Run,
    model: keras.Model,
    average: WeightAverage | None,
    classes: list[str],
    frozen: list[str],
    *,
    is_recorded: bool,
) -> None:
    """Give a new model, and the average of its weights, those of the other run that run.json names, if it does."""
    info = run.info()
    if not (info and info.initial):
        return
    taken = take_weights(run, model, classes, frozen)
    if average:
        average.model.set_weights(model.get_weights())
    _log.info(describe_taken(taken))
    if is_recorded:
        run.write("run.json", info.model_copy(update={"initial": taken}).to_json())


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
    return config.jit_compile == "always"


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
