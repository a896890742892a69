"""The channel between training workers and the driver: an actor beside the driver that both sides call.

The chief worker posts its log messages and progress; the driver fetches them and passes on a request to stop, or a
request to write a checkpoint and end, so that all workers are started anew. Each start of the workers has its own
channel.
"""

import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from train.callbacks import Callbacks
from train.errors import Stopped, TrainError
from train.run import Run

RESTART = 0  # in the place of a signal: the workers should end after a checkpoint, to be started anew
_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_BETWEEN_MESSAGES = 30.0
_SECONDS_TO_ANSWER = 10.0  # within which a chief that is at work notices a request to stop
_SECONDS_TO_START = 300.0  # within which workers load TensorFlow and connect to one another
_LOGGERS = ("featurize", "train")

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class ProgressChannel:
    """Actor that relays progress and stop requests.

    Attributes:
        messages: Posted and not fetched yet: kind (`started`, `log`, `step`, `epoch`, `preempted`, `stopped`,
            `failed`), arguments.
        stop: Signal that asks for a stop, or RESTART; None so far.
        last_contact: When the chief called last, on the monotonic clock.
    """

    messages: list[tuple[str, Any]] = dataclasses.field(default_factory=list)
    stop: int | None = None
    last_contact: float = dataclasses.field(default_factory=time.monotonic)

    def post(self, kind: str, content: Any) -> None:
        """Keep a message until the driver fetches it."""
        self.messages.append((kind, content))

    def fetch(self, stop: int | None) -> tuple[list[tuple[str, Any]], float]:
        """Return the messages, and the seconds since the chief called; pass on a request to stop."""
        self.stop = stop
        messages, self.messages = self.messages, []
        return messages, time.monotonic() - self.last_contact

    def requested_stop(self) -> int | None:
        """Return the signal that asks for a stop, or RESTART; None so far. The chief calls this."""
        self.last_contact = time.monotonic()
        return self.stop


def start_progress_channel() -> Any:
    """Start the channel on the driver's own node, so that it is lost only together with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(ProgressChannel).remote()


class RemoteCallbacks(Callbacks):
    """Training callbacks of the chief: post progress to the channel, and poll it for a request to stop."""

    def __init__(self, channel: Any, measured: Callable[[int, float, float], None]) -> None:
        last_post = 0.0
        requested: list[int] = []

        def step(done: int, total: int) -> None:
            nonlocal last_post
            if time.monotonic() - last_post > _SECONDS_BETWEEN_POLLS:
                last_post = time.monotonic()
                channel.post.remote("step", (done, total))

        def poll() -> None:
            while not requested:
                time.sleep(_SECONDS_BETWEEN_POLLS)
                if (stop := ray.get(channel.requested_stop.remote())) is not None:
                    requested.append(stop)

        threading.Thread(target=poll, daemon=True).start()
        super().__init__(
            step=step,
            measured=measured,
            epoch=lambda record, epochs: channel.post.remote("epoch", (record, epochs)),
            stop=lambda: requested[0] if requested else None,
        )


@contextmanager
def logging_to(channel: Any) -> Iterator[None]:
    """Post what Earmark's packages log in this process to the channel."""
    handler = _ChannelHandler(channel)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _ChannelHandler(logging.Handler):
    def __init__(self, channel: Any) -> None:
        super().__init__(logging.INFO)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._channel.post.remote("log", (record.name, record.levelno, record.getMessage()))


@dataclasses.dataclass(frozen=True)
class AttemptEnd:
    """How an attempt to train, between two starts of the workers, has ended.

    Attributes:
        error: Error that Ray Train ended with; None if all workers have finished.
        announced: Whether the workers were asked to end, because a node was about to be lost or more workers are
            available.
    """

    error: BaseException | None
    announced: bool


def relay_progress(
    channel: Any,
    ended: "queue.Queue[BaseException | None]",
    callbacks: Callbacks,
    run: Run,
    wait_minutes: float,
    should_grow: Callable[[], bool],
) -> AttemptEnd:
    """Log and call back what the chief posts, until Ray Train has ended.

    Args:
        channel: Channel of this start of the workers.
        ended: Receives what Ray Train ended with.
        callbacks: Training callbacks; may request a stop.
        run: Run folder.
        wait_minutes: `train.wait_minutes`.
        should_grow: Returns whether training should go on with more workers; called once the workers have started.

    Raises:
        Stopped: The chief has stopped because the callbacks asked for it, or no chief is at work.
        TrainError: A worker has raised it, or the workers do not report.
    """
    over, error, started, announced = False, None, False, False
    next_message = _SECONDS_BETWEEN_MESSAGES
    while not over:
        try:
            error = ended.get(timeout=_SECONDS_BETWEEN_POLLS)
            over = True
        except queue.Empty:
            pass
        announced = announced or (started and not over and should_grow())
        stop = callbacks.stop()
        request = RESTART if stop is None and announced else stop
        messages, silence = ray.get(channel.fetch.remote(request))
        for kind, content in messages:
            started |= kind == "started"
            announced |= kind == "preempted"
            _relay(kind, content, callbacks)
        if stop is not None and silence > _SECONDS_TO_ANSWER:
            raise Stopped(stop, run.latest_step())
        if silence < _SECONDS_BETWEEN_MESSAGES:
            next_message = _SECONDS_BETWEEN_MESSAGES
        elif silence > 60 * wait_minutes + _SECONDS_TO_START:
            raise TrainError(
                f"the training workers have not reported for {silence / 60:.0f} minutes: {describe_cluster()}. If "
                "nodes were lost, start others. Checkpoints are kept: the same command continues from the latest."
            )
        elif silence >= next_message:
            _log.info("Waiting for the training workers (%.0f s): %s.", silence, describe_cluster())
            next_message = silence + _SECONDS_BETWEEN_MESSAGES
    return AttemptEnd(error, announced)


def _relay(kind: str, content: Any, callbacks: Callbacks) -> None:
    match kind:
        case "stopped":
            raise Stopped(*content)
        case "failed":
            raise TrainError(content)
        case "preempted":
            _log.warning("%s: a training worker will be lost. All restart after a checkpoint.", content)
        case "log":
            name, level, message = content
            logging.getLogger(name).log(level, "%s", message)
        case "step":
            callbacks.step(*content)
        case "epoch":
            callbacks.epoch(*content)


def describe_cluster() -> str:
    """Describe a cluster's nodes, and how many of its CPUs and GPUs are free."""
    nodes = sum(node["Alive"] for node in ray.nodes())
    have, free = ray.cluster_resources(), ray.available_resources()
    parts = [f"{free.get(kind, 0):g} of {have.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")]
    return f"it has {nodes} node{'s' if nodes > 1 else ''}, {' and '.join(parts)}"
