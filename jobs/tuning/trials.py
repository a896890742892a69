"""Train the trials of a search in child processes, some at a time, and stop those that are not worth going on."""

import collections
import contextlib
import dataclasses
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from featurize.dataset.dataset import Dataset
from featurize.display import one_line
from featurize.execution.child_process import ChildProcess, Death
from featurize.storage import StoragePath
from jobs.config import JobConfig
from jobs.errors import Interrupted
from jobs.fold_processes import ProgressSender, arrived, explain_failure, sent_to_parent
from jobs.pipeline import make_model
from jobs.terminal.fold_progress import TrialReporter
from jobs.tuning.halving import WORST, Outcome, Rank, TrialProgress, outcome_of
from jobs.tuning.space import Trial, describe_values
from train.config import TrainConfig
from train.errors import TrainError
from train.fit.early_stopping import is_trained, rank
from train.records import EpochRecord
from train.run import Run
from train.run_checks import refuse_other_settings

_SECONDS_BETWEEN_POLLS = 0.05
_MAY_NOT_CHANGE = ("epochs", "patience", "evaluate_every")  # although they may in a run that resumes

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Running:
    """A process that trains a trial.

    Attributes:
        process: The process.
        slot: Its environment variables.
        is_stopping: Whether it was asked to write a checkpoint and end.
    """

    process: ChildProcess
    slot: Mapping[str, str]
    is_stopping: bool = False

    def stop(self) -> None:
        """Ask it to write a checkpoint and end, unless that was done before."""
        if not self.is_stopping:
            self.is_stopping = True
            self.process.send_signal(signal.SIGTERM)


class TrialRuns:
    """The runs of all trials: how far they are, and the processes that train some of them."""

    def __init__(
        self,
        features: StoragePath,
        out: StoragePath,
        trials: Sequence[Trial],
        rungs: Sequence[int],
        reporter: TrialReporter,
        command: Sequence[str] | None,
    ) -> None:
        """Read how far the trials have been trained by an earlier command.

        Args:
            features: Dataset folder.
            out: Output folder; each trial has a run in it.
            trials: All trials.
            rungs: Epochs after which trials are compared.
            reporter: Shows progress.
            command: Arguments of `earmark`, for run.json; None if it is called from Python.
        """
        self._command = command
        self._features = features
        self._trials = trials
        self._rungs = rungs
        self._reporter = reporter
        self._runs = [Run(trial_folder(out, trial.number)) for trial in trials]
        self._progress = [
            read_progress(run, trial.config.train) for run, trial in zip(self._runs, trials, strict=True)
        ]
        self._outcome = outcome_of(self._progress, rungs)
        self._running: dict[int, _Running] = {}
        self._failure: Exception | None = None

    @property
    def progress(self) -> list[TrialProgress]:
        """How far each trial is."""
        return self._progress

    @property
    def outcome(self) -> Outcome:
        """What follows from it."""
        return self._outcome

    def train(self, slots: Sequence[Mapping[str, str]], stop: Callable[[], int | None]) -> None:
        """Train until the best trial is known, at most one trial for each slot at a time.

        If a process fails, or if a stop is requested, the others write a checkpoint and end.

        Args:
            slots: Environment variables of the process in each slot.
            stop: Returns the number of the signal that asks for the end, None so far.

        Raises:
            Interrupted: A stop was requested.
            EarmarkError: A trial failed for another reason than a loss that is not finite, or its process died.
        """
        free = collections.deque(slots)
        signum: int | None = None
        with contextlib.ExitStack() as processes:  # whatever happens, none is left
            self._reporter.done(self._over, len(self._trials))
            while True:
                signum = stop() if signum is None else signum
                if signum is not None or self._failure:
                    for running in self._running.values():
                        running.stop()
                else:
                    self._stop_those_left_behind()
                    while free and (index := self._next()) is not None:
                        self._start(index, free.popleft(), processes)
                if not self._running:
                    break
                for index, running in list(self._running.items()):
                    if not self._receive(index, running):
                        free.append(self._running.pop(index).slot)
                time.sleep(_SECONDS_BETWEEN_POLLS)
        if self._failure:
            raise self._failure
        if signum is not None:
            raise Interrupted(
                signum, f"{self._over} of {len(self._trials)} trials are finished, and checkpoints hold the rest"
            )

    @property
    def _over(self) -> int:
        """Number of trials in which nothing is left to train."""
        pairs = zip(self._progress, self._outcome.stops, strict=True)
        return sum(progress.is_over or stop is not None for progress, stop in pairs)

    def _next(self) -> int | None:
        """Return the index of the first trial to train that is not being trained; None if there is none."""
        if self._outcome.extended is not None:
            return self._outcome.extended if self._outcome.extended not in self._running else None
        for index, (progress, stop) in enumerate(zip(self._progress, self._outcome.stops, strict=True)):
            if not progress.is_over and stop is None and index not in self._running:
                return index
        return None

    def _start(self, index: int, slot: Mapping[str, str], processes: contextlib.ExitStack) -> None:
        trial = self._trials[index]
        _log.info("Trial %d of %d: %s", trial.number, len(self._trials), one_line(describe_values(trial.values)))
        arguments = (self._features, self._runs[index].folder, trial.config, self._command)
        process = ChildProcess(run_trial, *arguments, sends=True, variables=slot)
        self._running[index] = _Running(processes.enter_context(process), slot)

    def _stop_those_left_behind(self) -> None:
        for index, running in self._running.items():
            if (stop := self._outcome.stops[index]) is None or index == self._outcome.extended:
                continue
            if not running.is_stopping:
                _log.info("Trial %d ends after epoch %d: others are better.", index + 1, stop)
            running.stop()

    def _receive(self, index: int, running: _Running) -> bool:
        """Read the messages of a process, and return whether it goes on."""
        for kind, value in arrived(running.process):
            if kind == "yielded":
                self._show(index, value)
                continue
            self._update(index, read_progress(self._runs[index], self._trials[index].config.train))
            if self._progress[index].diverged:
                _log.warning("Trial %d: its loss is not finite, so it ends here.", index + 1)
            elif kind != "returned" and not self._is_end_of_stop(running, value) and not self._failure:
                self._failure = explain_failure(f"trial {index + 1}", value)
            return False
        return True

    def _is_end_of_stop(self, running: _Running, value: Exception | Death) -> bool:
        """Return whether a process ended because it was asked to: also in its imports, where SIGTERM kills it."""
        if isinstance(value, Death):
            return running.is_stopping and value.status == -signal.SIGTERM
        return running.is_stopping and isinstance(value, Interrupted)

    def _show(self, index: int, value: Any) -> None:
        """Show a message that a process sent."""
        match value:
            case (EpochRecord() as record, int() as epochs):
                self._reporter.epoch(index + 1, record, epochs)
                progress, config = self._progress[index], self._trials[index].config.train
                if record.epoch == len(progress.ranks) + 1:  # not an epoch that was trained again after a kill
                    ranks = (*progress.ranks, *_best_so_far([record], config, progress.ranks))
                    self._update(index, dataclasses.replace(progress, ranks=ranks))
            case logging.LogRecord():
                _log.log(value.levelno, "trial %d | %s", index + 1, value.getMessage())

    def _update(self, index: int, progress: TrialProgress) -> None:
        self._progress[index] = progress
        self._outcome = outcome_of(self._progress, self._rungs)
        self._reporter.done(self._over, len(self._trials))


def trial_folder(out: StoragePath, number: int) -> StoragePath:
    """Return the run folder of a trial."""
    return out / f"trial={number}"


def read_progress(run: Run, config: TrainConfig) -> TrialProgress:
    """Return how far a trial has been trained, from the files of its run.

    Raises:
        TrainError: A file of the run is broken.
    """
    history = run.history()
    return TrialProgress(
        config.epochs,
        tuple(_best_so_far(history, config, ())),
        trained=is_trained(run, config),
        diverged=_has_diverged(run),
    )


def refuse_other_trial(run: Run, dataset: Dataset, config: TrainConfig) -> None:
    """Check that the run of a trial, if it has begun, is one of the same search.

    Args:
        run: Run of the trial.
        dataset: Dataset.
        config: Settings of the trial, as a run records them.

    Raises:
        TrainError: It has other settings or another dataset.
    """
    if not run.info():
        return
    refuse_other_settings(run, dataset, config)
    before = run.config()
    for name in _MAY_NOT_CHANGE:
        if (there := getattr(before, name)) != (now := getattr(config, name)):
            raise TrainError(
                f"{run.folder} holds a trial with train.{name} = {there}, and {now} now, so it cannot be compared "
                "with the others. Give another --out, or the same settings to continue this search."
            )


def run_trial(
    send: Callable[[object], None],
    features: StoragePath,
    folder: StoragePath,
    config: JobConfig,
    command: Sequence[str] | None,
) -> None:
    """Train one trial, in its process. It is not evaluated: that would use the test fold.

    Args:
        send: Sends (epoch, all epochs) and log records to the parent.
        features: Dataset folder.
        folder: Run folder.
        config: All settings.
        command: As in `make_model`.

    Raises:
        EarmarkError: As `make_model`.
        RuntimeError: Any other error.
    """
    with sent_to_parent(send):
        make_model(features, folder, config, ProgressSender(send), command=command)


def _best_so_far(history: Sequence[EpochRecord], config: TrainConfig, before: Sequence[Rank]) -> Iterator[Rank]:
    """Yield the best rank up to each epoch.

    Args:
        history: Epochs.
        config: Settings.
        before: The best rank up to each earlier epoch.
    """
    best = before[-1] if before else WORST
    for record in history:
        if record.validation:
            best = max(best, rank(record, config))
        yield best


def _has_diverged(run: Run) -> bool:
    """Return whether a loss was not finite although the features of its batch are."""
    found = run.read("not-finite.json")
    return isinstance(found, dict) and found.get("bad") == []
