"""The training loop: steps, epochs, checkpoints and early stopping."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.callbacks import Callbacks
from train.config import TrainConfig
from train.errors import Stopped
from train.evaluation.held_out import HeldOut, HeldOutScores
from train.evaluation.predictor import Predictor
from train.fit.background_writer import BackgroundWriter
from train.fit.call_length import STEPS_BETWEEN_POINTS, CallLength, mean_over_workers
from train.fit.checkpoints import Checkpoints
from train.fit.divergence import diverged, recorded_divergence
from train.fit.early_stopping import is_best, should_stop
from train.fit.profiler import StepProfiler
from train.fit.tensorboard import TensorBoardWriter
from train.fit.train_state import TrainState
from train.fit.train_step import StepConfig, StepResults, distributed_steps
from train.fit.weight_average import WeightAverage
from train.input.distributed import DistributedBatches
from train.input.timed_stream import TimedStream, seconds_waited
from train.record_base import LARGEST_FIGURE
from train.records import EpochRecord, TrainFigures
from train.run import Run
from train.run_checks import refuse_removed


@dataclasses.dataclass
class _StepAverages:
    """Loss, speed and waiting time of the steps since TensorBoard's last point by step."""

    steps: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, steps: int, waited: float, seconds: float) -> None:
        """Count some steps that took `seconds`, of which they waited `waited` for their batches."""
        self.steps += steps
        self.seconds += seconds
        self.waited += waited

    def scalars(self, batch_rows: float) -> dict[str, float]:
        """Return the values to write, by their tags, if a batch has `batch_rows` rows on average."""
        return {
            "steps/loss": self.loss,
            "steps/examples_per_second": self.steps * batch_rows / self.seconds,
            "input/wait_fraction": self.waited / self.seconds,
        }


@dataclasses.dataclass(frozen=True)
class Learner:
    """Everything that a training step needs besides a batch.

    Attributes:
        strategy: Strategy in whose scope the model and the optimizer were built.
        model: Model.
        optimizer: Optimizer, built for the variables of the model.
        step_config: Loss and augmentation settings.
        compiled: Whether XLA compiles the computation of each replica.
        average: Average of the weights of the model; None without one.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    step_config: StepConfig
    compiled: bool
    average: WeightAverage | None = None

    @property
    def evaluated(self) -> keras.Model:
        """The model that is evaluated and saved: the average of the weights, if there is one."""
        return self.average.model if self.average else self.model

    def steps_function(self) -> Callable[[Any, tf.Tensor], StepResults]:
        """Return the function that trains on the next batches; see `distributed_steps`."""
        return distributed_steps(
            self.strategy, self.model, self.optimizer, self.step_config, self.compiled, self.average
        )


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs of a training run.

    Attributes:
        begun: Folder of the run that was begun; training ends if it is removed.
        run: Folder for the history; a temporary one in workers other than the chief.
        checkpoints: Checkpoints of the model and the optimizer.
        tensorboard: Writer of event files.
        background: Writes the files of both.
        example_segments: float32 [rows, features, frames], fixed segments whose activations TensorBoard shows.
    """

    begun: Run
    run: Run
    checkpoints: Checkpoints
    tensorboard: TensorBoardWriter
    background: BackgroundWriter
    example_segments: NDArray[np.float32]


class Loop:
    """Trains a model from a restored or new state to the last epoch."""

    def __init__(
        self,
        config: TrainConfig,
        state: TrainState,
        *,
        learner: Learner,
        stream: TimedStream,
        held_out_folds: dict[str, HeldOut],
        outputs: Outputs,
        callbacks: Callbacks,
    ) -> None:
        """Prepare to train; nothing is computed yet.

        Args:
            config: Settings.
            state: Training state, restored from the latest checkpoint or new; updated in place.
            learner: Model and training step.
            stream: Training batches.
            held_out_folds: Held-out folds to evaluate in training, by name: `validation` if there is one, and
                `test` if `best_epoch_on_test` is set.
            outputs: Outputs of the run.
            callbacks: Training callbacks.
        """
        self._config = config
        self._state = state
        self._learner = learner
        self._stream = stream
        self._held_out_folds = held_out_folds
        self._outputs = outputs
        self._callbacks = callbacks
        self._last_step = config.epochs * stream.steps_per_epoch
        self._predictor = Predictor(learner.strategy, learner.evaluated, self._stop_if_requested)
        self._averages = _StepAverages()
        agree = [mean_over_workers(learner.strategy)] if config.needs_workers else []
        self._call_length = CallLength(config, *agree)
        self._profiler = StepProfiler(config.profiled, outputs.tensorboard.profile_folder)
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Train until the last epoch, or until `patience` epochs bring no improvement.

        Raises:
            Stopped: A callback requested a stop; a checkpoint was written.
            TrainError: The loss is not finite or too large, or a checkpoint cannot be written.
        """
        state, steps_per_epoch = self._state, self._stream.steps_per_epoch
        with (
            DistributedBatches(self._learner.strategy, self._stream, state.step, self._last_step) as batches,
            contextlib.closing(self._profiler),
        ):
            train_steps = self._learner.steps_function()
            while not should_stop(state.history, self._config):
                self._train_epoch(train_steps, batches, (len(state.history) + 1) * steps_per_epoch)
                self._end_epoch()
        self._outputs.checkpoints.save(state)
        self._outputs.background.finish()

    def _train_epoch(
        self, train_steps: Callable[[Any, tf.Tensor], StepResults], batches: DistributedBatches, stop: int
    ) -> None:
        """Train from the current step to the step `stop`, the end of the epoch."""
        state = self._state
        while state.step < stop:
            self._profiler.start_or_stop(state.step)
            steps = self._call_length.steps(state.step, stop, self._profiler.steps_to_border(state.step))
            start = time.perf_counter()
            self._add_results(state.step, batches.run(train_steps, steps))
            end = time.perf_counter()
            waited = seconds_waited(start, end, self._stream.take_times(state.step, state.step + steps))
            state.step += steps
            state.waited += waited
            state.seconds += end - start
            self._averages.add(steps, waited, end - start)
            self._call_length.measure(steps, end - start)
            self._callbacks.step(state.step, self._last_step)
            self._callbacks.measured(state.step, self._averages.loss, waited / (end - start))
            self._outputs.background.check()
            self._write_step_scalars()
            self._stop_if_requested()
            if self._is_due():
                self._save()

    def _add_results(self, first_step: int, results: StepResults) -> None:
        """Wait for the losses and the correct rows of the steps of a call, and add them to the epoch's sums.

        Raises:
            TrainError: A loss is not finite, or larger than one that is recorded.
        """
        losses = results.losses.numpy()
        usable = losses <= LARGEST_FIGURE  # False for NaN
        if not usable.all():
            index = int(np.argmin(usable))
            step, loss = first_step + index, float(losses[index])
            raise diverged(self._outputs.run, self._stream, self._config, step, loss)
        self._averages.loss = float(losses[-1])
        for loss in losses.tolist():  # one by one, so that the sum does not depend on the steps of a call
            self._state.loss_sum += loss
        self._state.correct += int(results.correct.numpy().sum())

    def _end_epoch(self) -> None:
        """Evaluate the model on the held-out folds if it is due, and record the epoch."""
        state, stream = self._state, self._stream
        self._profiler.start_or_stop(state.step)
        epoch = len(state.history) + 1
        folds = self._held_out_folds if self._config.is_evaluated_after(epoch) else {}
        with recorded_divergence(self._outputs.begun, state.step - 1):  # others' shares may be finite
            scores = {part: fold.score(self._predictor) for part, fold in folds.items()}
        record = EpochRecord(
            epoch=epoch,
            train=TrainFigures(loss=state.loss_sum / stream.steps_per_epoch, accuracy=state.correct / stream.rows),
            learning_rate=float(tf.convert_to_tensor(self._learner.optimizer.learning_rate)),
            seconds=state.seconds,
            examples_per_second=stream.rows / state.seconds,
            wait_fraction=state.waited / state.seconds,
            **{part: of_part.figures for part, of_part in scores.items()},
        )
        refuse_removed(self._outputs.begun)
        state.history.append(record)
        state.loss_sum, state.correct, state.seconds, state.waited = 0.0, 0, 0.0, 0.0
        if is_best(state.history, self._config):
            self._outputs.checkpoints.save_best(state)
        self._outputs.run.write("history.json", [each.to_json() for each in state.history])
        self._write_epoch(record, scores)
        if self._is_due(epoch_ended=True):
            self._save()
        self._callbacks.epoch(record, self._config.epochs)

    def _stop_if_requested(self) -> None:
        """Save a checkpoint and raise `Stopped` if a callback requests it; evaluation calls this as well."""
        signal = self._callbacks.stop()
        if signal is not None:
            refuse_removed(self._outputs.begun)
            self._outputs.checkpoints.save(self._state)
            self._outputs.background.finish()
            raise Stopped(signal, self._state.step)

    def _is_due(self, epoch_ended: bool = False) -> bool:
        """Return whether a checkpoint is due."""
        seconds = time.monotonic() - self._saved_at
        epochs = len(self._state.history)
        return self._config.checkpoint_interval.is_due(seconds, self._state.step, epoch_ended, epochs)

    def _save(self) -> None:
        refuse_removed(self._outputs.begun)
        self._outputs.tensorboard.flush()  # a run that resumes here needs the curves up to this step
        self._outputs.checkpoints.save(self._state)
        self._saved_at = time.monotonic()

    def _write_step_scalars(self) -> None:
        """Write the averages of the latest steps to TensorBoard, once every STEPS_BETWEEN_POINTS steps."""
        if self._state.step % STEPS_BETWEEN_POINTS == 0:
            scalars = self._averages.scalars(self._stream.rows / self._stream.steps_per_epoch)
            self._outputs.tensorboard.scalars("train", self._state.step, scalars)
            self._averages = _StepAverages()

    def _write_epoch(self, record: EpochRecord, scores: dict[str, HeldOutScores]) -> None:
        """Write the scalars, confusion matrices and histograms of an epoch to TensorBoard."""
        rates = {"learning_rate": record.learning_rate, "examples_per_second": record.examples_per_second}
        self._outputs.tensorboard.scalars("train", record.epoch, {**record.train.to_json(), **rates})
        for part, figures in record.held_out.items():
            self._outputs.tensorboard.scalars(part, record.epoch, figures.to_json())
            confusion, classes = scores[part].tracks.confusion, self._held_out_folds[part].classes
            self._outputs.tensorboard.confusion(part, record.epoch, confusion, classes)
        self._outputs.tensorboard.histograms(record.epoch, self._learner.evaluated, self._outputs.example_segments)
        self._outputs.tensorboard.flush()
