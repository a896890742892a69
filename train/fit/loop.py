"""The training loop: steps, epochs, checkpoints, and how training ends."""

import dataclasses
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.callbacks import Callbacks
from train.config import TrainConfig
from train.errors import Stopped, TrainError
from train.evaluation.held_out import HeldOut, HeldOutScores
from train.evaluation.predictor import Predictor
from train.fit.checkpoints import Checkpoints, TrainingProgress
from train.fit.early_stopping import is_best, should_stop
from train.fit.tensorboard import TensorBoardWriter
from train.fit.train_step import StepConfig, distributed_step
from train.input.batches import SegmentStream
from train.input.distributed import DistributedBatches
from train.records import EpochRecord, HeldOutFigures, TrainFigures
from train.run import Run

_STEPS_BETWEEN_POINTS = 50
_TRACKS_NAMED = 10


@dataclasses.dataclass
class _Recent:
    """The steps since the last point on the curves by step."""

    steps: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, waited: float, seconds: float) -> None:
        """Count a step, of which some seconds went by in waiting."""
        self.steps += 1
        self.seconds += seconds
        self.waited += waited

    def points(self, batch_size: int) -> dict[str, float]:
        """Return what there is to show."""
        return {
            "steps/loss": self.loss,
            "steps/examples_per_second": self.steps * batch_size / self.seconds,
            "input/wait_fraction": self.waited / self.seconds,
        }


@dataclasses.dataclass(frozen=True)
class Learner:
    """The model being trained, and what a training step needs beside a batch.

    Attributes:
        strategy: Strategy under which the model and the optimizer were made.
        model: Chain of layers.
        optimizer: Optimizer, with the slots of the model's variables.
        step_config: Loss and augmentation settings.
        compiled: Whether XLA compiles what each replica computes.
    """

    strategy: tf.distribute.Strategy
    model: keras.Sequential
    optimizer: keras.optimizers.Optimizer
    step_config: StepConfig
    compiled: bool

    def step_function(self, spec: Any) -> Any:
        """Return the training step for batches of a spec; see `distributed_step`."""
        return distributed_step(
            self.strategy, self.model, self.optimizer, self.step_config, spec, compiled=self.compiled
        )


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Where a training run is written.

    Attributes:
        run: Folder of the history.
        checkpoints: Checkpoints of the model and the optimizer.
        tensorboard: Event files.
        probe: float32 [rows, 40, 217], the segments whose activations TensorBoard shows.
    """

    run: Run
    checkpoints: Checkpoints
    tensorboard: TensorBoardWriter
    probe: NDArray[np.float32]


class Loop:
    """Trains a model from the step that its progress names to the last epoch."""

    def __init__(
        self,
        config: TrainConfig,
        progress: TrainingProgress,
        *,
        learner: Learner,
        stream: SegmentStream,
        held: dict[str, HeldOut],
        outputs: Outputs,
        callbacks: Callbacks,
    ) -> None:
        """Take everything that training needs; nothing is computed yet.

        Args:
            config: Settings.
            progress: State of training, from the latest checkpoint or new; updated in place.
            learner: Model and step.
            stream: Training batches.
            held: Held-out folds by name: `test`, and `validation` where there is one.
            outputs: Where the run is written.
            callbacks: Receive progress; may request a stop.
        """
        self._config = config
        self._progress = progress
        self._learner = learner
        self._stream = stream
        self._held = held
        self._outputs = outputs
        self._callbacks = callbacks
        self._last_step = config.epochs * stream.steps_per_epoch
        self._predictor = Predictor(learner.strategy, learner.model, self._stop_if_requested)
        self._recent = _Recent()
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Train until the last epoch, or until `patience` epochs have brought no better one.

        Raises:
            Stopped: A callback requested it; a checkpoint is written.
            TrainError: The loss is not finite, or a checkpoint cannot be written.
        """
        progress, steps_per_epoch = self._progress, self._stream.steps_per_epoch
        with DistributedBatches(self._learner.strategy, self._stream, progress.step, self._last_step) as batches:
            step = self._learner.step_function(batches.spec)
            while not should_stop(progress.history, self._config):
                self._train_epoch(step, batches, (len(progress.history) + 1) * steps_per_epoch)
                self._end_epoch()
        self._outputs.checkpoints.save(progress)

    def _train_epoch(self, step: Any, batches: DistributedBatches, stop: int) -> None:
        """Take the steps up to `stop`, the end of the epoch."""
        progress = self._progress
        unread = None
        while progress.step < stop:
            before = time.perf_counter()
            part = next(batches)
            received = time.perf_counter()
            # Start the next step before waiting for the results of this one, so that a GPU has work meanwhile.
            figures = step(part)
            self._add(unread)
            unread = (progress.step, figures)
            progress.step += 1
            if progress.step == stop or self._is_due() or self._callbacks.stop() is not None:
                self._add(unread)
                unread = None
            waited, seconds = received - before, time.perf_counter() - before
            progress.waited += waited
            progress.seconds += seconds
            self._recent.add(waited, seconds)
            self._callbacks.step(progress.step, self._last_step)
            self._show_steps()
            if unread is None:
                self._stop_if_requested()
                if self._is_due():
                    self._save()

    def _add(self, unread: tuple[int, tuple[tf.Tensor, tf.Tensor]] | None) -> None:
        """Add the figures of a step to those of its epoch, once they are there."""
        if unread is None:
            return
        number, (loss_tensor, correct) = unread
        loss = float(loss_tensor)
        if not np.isfinite(loss):
            raise self._not_finite(number, loss)
        self._recent.loss = loss
        self._progress.loss_sum += loss
        self._progress.correct += int(correct)

    def _end_epoch(self) -> None:
        """Judge the model, and write down what the epoch has come to."""
        progress, stream = self._progress, self._stream
        record = EpochRecord(
            epoch=len(progress.history) + 1,
            train=TrainFigures(
                loss=progress.loss_sum / stream.steps_per_epoch, accuracy=progress.correct / stream.rows
            ),
            learning_rate=float(tf.convert_to_tensor(self._learner.optimizer.learning_rate)),
            seconds=progress.seconds,
            examples_per_second=stream.rows / progress.seconds,
            wait_fraction=progress.waited / progress.seconds,
            **{part: _figures(fold.score(self._predictor)) for part, fold in self._held.items()},
        )
        progress.history.append(record)
        progress.loss_sum, progress.correct, progress.seconds, progress.waited = 0.0, 0, 0.0, 0.0
        if is_best(progress.history, self._config):
            self._outputs.checkpoints.save_best(progress)
        self._outputs.run.write("history.json", [each.to_json() for each in progress.history])
        self._show_epoch(record)
        if self._is_due(epoch_ended=True):
            self._save()
        self._callbacks.epoch(record, self._config.epochs)

    def _stop_if_requested(self) -> None:
        """Stop if that is asked for: between two steps, or between two batches of an evaluation."""
        reason = self._callbacks.stop()
        if reason is not None:
            self._outputs.checkpoints.save(self._progress)
            raise Stopped(reason, self._progress.step)

    def _is_due(self, epoch_ended: bool = False) -> bool:
        """Say whether it is time for a checkpoint."""
        seconds = time.monotonic() - self._saved_at
        epochs = len(self._progress.history)
        return self._config.checkpoint_interval.is_due(seconds, self._progress.step, epoch_ended, epochs)

    def _save(self) -> None:
        self._outputs.tensorboard.flush()  # the curves must reach as far as the checkpoint from which they go on
        self._outputs.checkpoints.save(self._progress)
        self._saved_at = time.monotonic()

    def _not_finite(self, step: int, loss: float) -> TrainError:
        """Name the step whose loss is no number, and what was in its batch."""
        mfcc, _ = self._stream.batch(step)
        tracks = np.array(self._stream.tracks(step))
        bad = np.unique(tracks[~np.isfinite(mfcc).all(axis=(1, 2))]).tolist()
        distinct = np.unique(tracks).tolist()
        self._outputs.run.write(
            "not-finite.json", {"step": step, "loss": str(loss), "tracks": distinct, "bad": bad}
        )
        advice = (
            f"The features of {_few(bad)} are not finite. Delete their shards and featurize again"
            if bad
            else "Its features are all finite, so try a train.learning_rate below "
            f"{self._config.learning_rate:g}, in another --out"
        )
        return TrainError(
            f"the loss is {loss} in step {step + 1} (epoch {step // self._stream.steps_per_epoch + 1}), over "
            f"segments of {_few(distinct)}; {self._outputs.run.folder / 'not-finite.json'} names all. {advice}. "
            "The checkpoints are from before that step."
        )

    def _show_steps(self) -> None:
        """Put a point on the curves by step, now and then."""
        if self._progress.step % _STEPS_BETWEEN_POINTS == 0:
            self._outputs.tensorboard.scalars(
                "train", self._progress.step, self._recent.points(self._config.batch_size)
            )
            self._recent = _Recent()

    def _show_epoch(self, record: EpochRecord) -> None:
        rates = {"learning_rate": record.learning_rate, "examples_per_second": record.examples_per_second}
        self._outputs.tensorboard.scalars("train", record.epoch, {**record.train.to_json(), **rates})
        for part, figures in record.held_out.items():
            self._outputs.tensorboard.scalars(part, record.epoch, figures.to_json())
        self._outputs.tensorboard.histograms(record.epoch, self._learner.model, self._outputs.probe)
        self._outputs.tensorboard.flush()


def _figures(scores: HeldOutScores) -> HeldOutFigures:
    """Reduce the scores of a held-out fold to what the history keeps."""
    return HeldOutFigures(
        loss=scores.segments.loss,
        accuracy=scores.segments.accuracy,
        track_accuracy=scores.tracks.accuracy,
        track_macro_f1=scores.tracks.macro_f1,
    )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _TRACKS_NAMED} more" if len(names) > _TRACKS_NAMED else ""
    return ", ".join(names[:_TRACKS_NAMED]) + more
