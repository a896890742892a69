"""Train and evaluate the folds of a cross-validation in child processes, some at a time."""

import collections
import contextlib
import dataclasses
import logging
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from featurize.errors import EarmarkError
from featurize.execution.child_process import ChildProcess, Death
from featurize.storage import StoragePath
from jobs.config import JobConfig
from jobs.errors import Interrupted
from jobs.pipeline import evaluate_model, make_model
from jobs.terminal.fold_progress import FoldReporter
from jobs.terminal.log import LOGGERS
from jobs.tracking import tracked
from train.errors import TrainError
from train.records import EpochRecord
from train.score_records import Metrics

_SECONDS_BETWEEN_POLLS = 0.05
_SECONDS_BETWEEN_STEPS_SENT = 0.2

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation, with one seed.

    Attributes:
        number: Its number, from 1.
        name: What it is called in messages.
        folder: Run folder.
        config: All settings; those of training have the test fold.
        command: Arguments of `earmark`, for run.json; None if it is called from Python.
        track: Address of a tracking server, as in `jobs.tracking.tracked`; None for none.
    """

    number: int
    name: str
    folder: StoragePath
    config: JobConfig
    command: Sequence[str] | None = None
    track: str | None = None


def run_folds(
    features: StoragePath,
    folds: Sequence[Fold],
    slots: Sequence[Mapping[str, str]],
    progress: FoldReporter,
    stop: Callable[[], int | None],
) -> list[Metrics]:
    """Train and evaluate folds, at most one for each slot at a time.

    If one fails, or if a stop is requested, the others write a checkpoint and end, and no further fold begins.

    Args:
        features: Dataset folder.
        folds: Folds; finished ones are kept.
        slots: Environment variables of the process in each slot.
        progress: Shows progress.
        stop: Returns the number of the signal that asks for the end, None so far.

    Returns:
        Metrics of each fold.

    Raises:
        Interrupted: A stop was requested.
        EarmarkError: A fold failed, or its process died.
    """
    metrics: dict[int, Metrics] = {}
    failures: list[Exception] = []
    waiting = collections.deque(folds)
    free = collections.deque(slots)
    running: dict[int, tuple[ChildProcess, Mapping[str, str]]] = {}
    names = {fold.number: fold.name for fold in folds}
    signum: int | None = None
    with contextlib.ExitStack() as processes:  # whatever happens, none is left
        while waiting or running:
            if signum is None and (signum := stop()) is not None:
                waiting.clear()
                _end(running)
            while waiting and free:
                fold, slot = waiting.popleft(), free.popleft()
                _log.info("%s (%d of %d)", fold.name.capitalize(), fold.number, len(folds))
                process = ChildProcess(run_fold, features, fold, sends=True, variables=slot)
                running[fold.number] = processes.enter_context(process), slot
            for number, (process, _) in list(running.items()):
                for kind, value in arrived(process):
                    if kind == "yielded":
                        _show(names[number], number, value, progress)
                        continue
                    free.append(running.pop(number)[1])
                    if kind == "returned":
                        metrics[number] = value
                        progress.finished(number)
                    elif not failures:
                        failures.append(explain_failure(names[number], value))
                        waiting.clear()
                        _end(running)
            time.sleep(_SECONDS_BETWEEN_POLLS)
    if signum is not None:
        raise Interrupted(
            signum, f"{len(metrics)} of {len(folds)} {progress.unit} are finished, and checkpoints hold the rest"
        )
    if failures:
        raise failures[0]
    return [metrics[fold.number] for fold in folds]


def arrived(process: ChildProcess) -> Iterator[tuple[str, Any]]:
    """Yield the messages of a process that have arrived."""
    with contextlib.suppress(TimeoutError):
        while True:
            message = process.receive(0)
            yield message
            if message.kind != "yielded":
                return


def _end(running: Mapping[int, tuple[ChildProcess, Mapping[str, str]]]) -> None:
    """Ask processes to write a checkpoint and end."""
    for process, _ in running.values():
        process.send_signal(signal.SIGTERM)


def _show(name: str, number: int, value: Any, progress: FoldReporter) -> None:
    """Show a message that a process sent."""
    match value:
        case (int() as done, int() as total):
            progress.step(number, done, total)
        case (EpochRecord() as record, int() as epochs):
            progress.epoch(name, record, epochs)
        case logging.LogRecord():
            _log.log(value.levelno, "%s | %s", name, value.getMessage())


def explain_failure(what: str, value: Exception | Death) -> Exception:
    """Return the error of a process that failed or died.

    Args:
        what: What it trained, such as `fold 2`.
        value: The error that it raised, or how it died.
    """
    if not isinstance(value, Death):
        return value
    how = f"signal {-value.status}" if value.status < 0 else f"status {value.status}"
    last = f": {value.last_line}" if value.last_line else ""
    return TrainError(
        f"the process that trained {what} ended with {how}{last}. What is finished and checkpoints are kept: "
        "the same command continues from there. If there was not enough memory, add --at-once 1"
    )


def run_fold(send: Callable[[object], None], features: StoragePath, fold: Fold) -> Metrics:
    """Train and evaluate one fold, in its process.

    Args:
        send: Sends (finished steps, all steps), (epoch, all epochs) and log records to the parent.
        features: Dataset folder.
        fold: The fold.

    Raises:
        EarmarkError: As `make_model` and `evaluate_model`.
        RuntimeError: Any other error.
    """
    with sent_to_parent(send), tracked(fold.track, fold.folder) as observer:
        reporter = ProgressSender(send)
        make_model(features, fold.folder, fold.config, reporter, command=fold.command, observer=observer)
        return evaluate_model(fold.folder, features, trust_code=fold.config.train.is_users_model)


@contextmanager
def sent_to_parent(send: Callable[[object], None]) -> Iterator[None]:
    """Send the log to the parent, and raise errors in a form that can be sent.

    Raises:
        RuntimeError: An error that is no EarmarkError, with its traceback: it may have no picklable parts.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(_LogSender(send))
        logger.propagate = False
    try:
        yield
    except (EarmarkError, OSError):
        raise
    except Exception:
        raise RuntimeError(traceback.format_exc()) from None


class _LogSender(logging.Handler):
    """Sends log records, with their message in place of its arguments."""

    def __init__(self, send: Callable[[object], None]) -> None:
        super().__init__(logging.INFO)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(logging.makeLogRecord({"levelno": record.levelno, "msg": record.getMessage()}))


class ProgressSender:
    """Reporter of a process that sends the progress of training, a few times a second."""

    def __init__(self, send: Callable[[object], None]) -> None:
        self._send = send

    @contextmanager
    def training(self) -> Iterator[tuple[Callable[[int, int], None], Callable[[EpochRecord, int], None]]]:
        """Yield functions that send steps and epochs."""
        sent = 0.0

        def on_step(done: int, total: int) -> None:
            nonlocal sent
            now = time.monotonic()
            if done == total or now - sent >= _SECONDS_BETWEEN_STEPS_SENT:
                sent = now
                self._send((done, total))

        yield on_step, lambda record, epochs: self._send((record, epochs))
