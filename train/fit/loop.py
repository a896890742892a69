"""The training loop: steps, epochs, checkpoints, and the ways in which it can end."""

import dataclasses
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from train.callbacks import Callbacks, Stopped
from train.config import TrainConfig, TrainError
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


@dataclasses.dataclass
class Loop:
    """Takes a model from where its progress says to the last epoch.

    Attributes:
        config: the settings.
        run: where the history goes.
        strategy: under which model and optimizer were made.
        model: the layers.
        optimizer: with the slots of the model's variables.
        stream: what is learned from.
        lesson: how.
        held: the held-out folds by the parts that they are.
        checkpoints: of model and optimizer.
        board: TensorBoard.
        probe: float32 [rows, 40, 217], the segments whose activations are shown.
        listener: is told, and is asked whether to stop.
        compiled: whether XLA compiles what each replica does.
    """

    config: TrainConfig
    run: Run
    strategy: tf.distribute.Strategy
    model: keras.Sequential
    optimizer: keras.optimizers.Optimizer
    stream: SegmentStream
    step_config: StepConfig
    held: dict[str, HeldOut]
    checkpoints: Checkpoints
    tensorboard: TensorBoardWriter
    probe: NDArray[np.float32]
    callbacks: Callbacks
    compiled: bool

    def finish(self, progress: TrainingProgress) -> None:
        """Train until the last epoch, or until the validation fold says that it is enough.

        Raises:
            Stopped: the listener asked for it; a checkpoint is written.
            TrainError: the loss is no number any more, or a checkpoint cannot be written.
        """
        self.progress = progress
        self._predictor = Predictor(self.strategy, self.model, self._stop_if_requested)
        self._saved_at, self._recent = time.monotonic(), _Recent()
        last = self.config.epochs * self.stream.steps_per_epoch
        with DistributedBatches(self.strategy, self.stream, progress.step, last) as batches:
            step = distributed_step(
                self.strategy, self.model, self.optimizer, self.step_config, batches.spec, self.compiled
            )
            while not should_stop(progress.history, self.config):
                self._take_steps(step, batches, (len(progress.history) + 1) * self.stream.steps_per_epoch)
                self._end_epoch()
        self.checkpoints.save(progress)

    def _take_steps(self, step: Any, batches: DistributedBatches, stop: int) -> None:
        """Take the steps up to the end of the epoch."""
        progress = self.progress
        unread = None
        while progress.step < stop:
            before = time.perf_counter()
            part = next(batches)
            received = time.perf_counter()
            # A GPU is given the next step before the figures of this one are waited for.
            figures = step(part)
            self._add(unread)
            unread = (progress.step, figures)
            progress.step += 1
            if progress.step == stop or self._is_due() or self.callbacks.stop() is not None:
                self._add(unread)
                unread = None
            waited, seconds = received - before, time.perf_counter() - before
            progress.waited += waited
            progress.seconds += seconds
            self._recent.add(waited, seconds)
            self.callbacks.step(progress.step, self.config.epochs * self.stream.steps_per_epoch)
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
        self.progress.loss_sum += loss
        self.progress.correct += int(correct)

    def _end_epoch(self) -> None:
        """Judge the model, and write down what the epoch has come to."""
        progress, stream = self.progress, self.stream
        entry = EpochRecord(
            epoch=len(progress.history) + 1,
            train=TrainFigures(
                loss=progress.loss_sum / stream.steps_per_epoch, accuracy=progress.correct / stream.rows
            ),
            learning_rate=float(tf.convert_to_tensor(self.optimizer.learning_rate)),
            seconds=progress.seconds,
            examples_per_second=stream.rows / progress.seconds,
            wait_fraction=progress.waited / progress.seconds,
            **{part: _figures(fold.score(self._predictor)) for part, fold in self.held.items()},
        )
        progress.history.append(entry)
        progress.loss_sum, progress.correct, progress.seconds, progress.waited = 0.0, 0, 0.0, 0.0
        if is_best(progress.history, self.config):
            self.checkpoints.save_best(progress)
        self.run.write("history.json", [each.to_json() for each in progress.history])
        self._show_epoch(entry)
        if self._is_due(epoch_ended=True):
            self._save()
        self.callbacks.epoch(entry, self.config.epochs)

    def _stop_if_requested(self) -> None:
        """Stop if that is asked for: between two steps, or between two batches of an evaluation."""
        reason = self.callbacks.stop()
        if reason is not None:
            self.checkpoints.save(self.progress)
            raise Stopped(reason, self.progress.step)

    def _is_due(self, epoch_ended: bool = False) -> bool:
        """Say whether it is time for a checkpoint."""
        seconds = time.monotonic() - self._saved_at
        epochs = len(self.progress.history)
        return self.config.checkpoint_interval.is_due(seconds, self.progress.step, epoch_ended, epochs)

    def _save(self) -> None:
        self.tensorboard.flush()  # the curves must reach as far as the checkpoint from which they go on
        self.checkpoints.save(self.progress)
        self._saved_at = time.monotonic()

    def _not_finite(self, step: int, loss: float) -> TrainError:
        """Name the step whose loss is no number, and what was in its batch."""
        mfcc, _ = self.stream.batch(step)
        tracks = np.array(self.stream.tracks(step))
        bad = np.unique(tracks[~np.isfinite(mfcc).all(axis=(1, 2))]).tolist()
        distinct = np.unique(tracks).tolist()
        self.run.write("not-finite.json", {"step": step, "loss": str(loss), "tracks": distinct, "bad": bad})
        advice = (
            f"The features of {_few(bad)} are not finite. Delete their shards and featurize again"
            if bad
            else "Its features are all finite, so try a train.learning_rate below "
            f"{self.config.learning_rate:g}, in another --out"
        )
        return TrainError(
            f"the loss is {loss} in step {step + 1} (epoch {step // self.stream.steps_per_epoch + 1}), over "
            f"segments of {_few(distinct)}; {self.run.folder / 'not-finite.json'} names all. {advice}. "
            "The checkpoints are from before that step."
        )

    def _show_steps(self) -> None:
        """Put a point on the curves by step, now and then."""
        if self.progress.step % _STEPS_BETWEEN_POINTS == 0:
            self.tensorboard.scalars("train", self.progress.step, self._recent.points(self.config.batch_size))
            self._recent = _Recent()

    def _show_epoch(self, entry: EpochRecord) -> None:
        rates = {"learning_rate": entry.learning_rate, "examples_per_second": entry.examples_per_second}
        self.tensorboard.scalars("train", entry.epoch, {**entry.train.to_json(), **rates})
        for part, figures in entry.held_out.items():
            self.tensorboard.scalars(part, entry.epoch, figures.to_json())
        self.tensorboard.histograms(entry.epoch, self.model, self.probe)
        self.tensorboard.flush()


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
