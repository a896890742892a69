"""Word from the training workers to the driver, and back: an actor beside the driver, which both sides call.

The chief of the workers says what it does; the driver fetches it and leaves word when it wants an end.
"""

import dataclasses
import queue
import threading
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from train.callbacks import Callbacks, Stopped
from train.config import TrainError
from train.run import Run

_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_BETWEEN_SENTENCES = 30.0
_SECONDS_TO_ANSWER = 10.0  # that a chief may take to hear that it is to stop
_SECONDS_TO_START = 300.0  # that workers may take to load TensorFlow and to find one another


@dataclasses.dataclass
class ProgressChannel:
    """What the chief says, until the driver fetches it; whether it is to stop; and when it was heard last."""

    said: list[tuple[str, Any]] = dataclasses.field(default_factory=list)
    failed: bool = False
    stop: int | None = None
    heard: float = dataclasses.field(default_factory=time.monotonic)

    def post(self, kind: str, content: Any) -> None:
        """Take a call of the listener's (`remark`, `step`, `epoch`), or the end: `stopped` or `failed`."""
        self.failed |= kind == "failed"
        self.said.append((kind, content))

    def fetch(self, stop: int | None) -> tuple[list[tuple[str, Any]], float]:
        """Return what was said, and the seconds since the chief was heard."""
        self.stop = stop
        said, self.said = self.said, []
        return said, time.monotonic() - self.heard

    def has_failed(self) -> bool:
        """Say whether a worker has met what no new start can mend."""
        return self.failed

    def asked_to_stop(self) -> int | None:
        """Return the signal that asks for an end, None so far."""
        self.heard = time.monotonic()
        return self.stop


def start_progress_channel() -> Any:
    """Start the office on the driver's own node, with which it may go."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(ProgressChannel).remote()


class RemoteCallbacks(Callbacks):
    """Tells the office, and asks it now and then whether to stop."""

    def __init__(self, channel: Any) -> None:
        told = 0.0
        asked: list[int] = []

        def step(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > _SECONDS_BETWEEN_POLLS:
                told = time.monotonic()
                channel.post.remote("step", (done, total))

        def ask() -> None:
            while not asked:
                time.sleep(_SECONDS_BETWEEN_POLLS)
                if (stop := ray.get(channel.asked_to_stop.remote())) is not None:
                    asked.append(stop)

        threading.Thread(target=ask, daemon=True).start()
        super().__init__(
            remark=lambda text: channel.post.remote("remark", (text,)),
            step=step,
            epoch=lambda entry, epochs: channel.post.remote("epoch", (entry, epochs)),
            stop=lambda: asked[0] if asked else None,
        )


def relay_progress(
    channel: Any, ended: "queue.Queue[BaseException | None]", callbacks: Callbacks, run: Run, wait_minutes: float
) -> BaseException | None:
    """Pass on what the chief says until training has ended.

    Returns:
        what Ray Train ended with, None if with all workers' ends.

    Raises:
        Stopped: the chief has stopped, as the listener asked, or there is none at work.
        TrainError: a worker has raised it, or there is no room any more for workers that were lost.
    """
    over, error = False, None
    next_sentence = _SECONDS_BETWEEN_SENTENCES
    while not over:
        try:
            error = ended.get(timeout=_SECONDS_BETWEEN_POLLS)
            over = True
        except queue.Empty:
            pass
        stop = callbacks.stop()
        said, silent = ray.get(channel.fetch.remote(stop))
        for kind, content in said:
            if kind == "stopped":
                raise Stopped(*content)
            if kind == "failed":
                raise TrainError(content)
            getattr(callbacks, kind)(*content)
        if stop is not None and silent > _SECONDS_TO_ANSWER:
            raise Stopped(stop, run.latest_step())
        if silent < _SECONDS_BETWEEN_SENTENCES:
            next_sentence = _SECONDS_BETWEEN_SENTENCES
        elif silent > 60 * wait_minutes + _SECONDS_TO_START:
            raise TrainError(
                f"nothing was heard of the training workers for {silent / 60:.0f} minutes: {cluster_in_words()}. "
                "If nodes were lost, start others. Checkpoints are kept: the same command goes on from the latest."
            )
        elif silent >= next_sentence:
            callbacks.remark(f"Waiting for the training workers ({silent:.0f} s): {cluster_in_words()}.")
            next_sentence = silent + _SECONDS_BETWEEN_SENTENCES
    return error


def cluster_in_words() -> str:
    """Say what a cluster has and how much of it is free."""
    nodes = sum(node["Alive"] for node in ray.nodes())
    have, free = ray.cluster_resources(), ray.available_resources()
    parts = [f"{free.get(kind, 0):g} of {have.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU")]
    return f"it has {nodes} node{'s' if nodes > 1 else ''}, {' and '.join(parts)}"
