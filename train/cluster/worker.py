"""What runs in the process of a training worker.

Ray Train starts `train_here` in a thread of each worker. One worker, the chief, writes files and reports progress.
"""

import ctypes
import dataclasses
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pyarrow as pa
import ray
import ray.train
from ray.train.tensorflow.config import TensorflowConfig, _TensorflowBackend
from ray.train.v2._internal.execution.context import get_train_context

from featurize.dataset.dataset import open_dataset
from featurize.errors import DatasetError
from featurize.storage import StoragePath
from train.callbacks import Callbacks
from train.cluster.progress_channel import RESTART, RemoteCallbacks, logging_to
from train.cluster.training_metrics import report_to_ray
from train.config import TrainConfig
from train.errors import Stopped, TrainError
from train.run import Run

_SECONDS_BETWEEN_POLLS = 1.0
_terminated = threading.Event()  # set when this process receives SIGTERM


class Restarting(Exception):  # noqa: N818 - not an error: it was requested
    """The chief has written a checkpoint, and all workers end, to be started anew."""


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What a worker trains.

    Attributes:
        features: Dataset folder.
        run: Run folder.
        config: Train settings.
        channel: Actor of `train.cluster.progress_channel`.
        metrics: Whether workers report metrics to Ray.
    """

    features: StoragePath
    run: StoragePath
    config: TrainConfig
    channel: Any
    metrics: bool


class _Setup(_TensorflowBackend):
    """Ray Train's setup of TensorFlow's workers, after which they notice SIGTERM.

    Python handles signals in the main thread only, where Ray Train calls this, and not in the thread that trains.
    """

    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        super().on_training_start(worker_group, backend_config)
        worker_group.execute(_notice_sigterm)


class WorkerConfig(TensorflowConfig):
    """Ray Train's settings of TensorFlow's workers, with `_Setup`."""

    @property
    def backend_cls(self) -> type[_Setup]:
        """Class that sets up the workers."""
        return _Setup


class _SigtermHandler:
    """Python's handler of SIGTERM, which a library may have replaced without Python's `signal`.

    TensorFlow does when workers connect: its handler notifies a service of TensorFlow, which nothing here uses.
    """

    def __init__(self) -> None:
        self._handler: int | None = None
        self._signal = ctypes.CDLL(None).signal
        self._signal.restype, self._signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)

    def install(self, handle: Callable[[], None]) -> None:
        """Call a function at SIGTERM, from now on; the main thread calls this."""
        signal.signal(signal.SIGTERM, lambda number, frame: handle())
        self._handler = self._signal(signal.SIGTERM, None)  # that of Python, for which SIG_DFL stands a moment
        self.restore()

    def restore(self) -> None:
        """Put the handler back in its place; any thread may call this."""
        if self._handler is not None:
            self._signal(signal.SIGTERM, self._handler)


_handler = _SigtermHandler()


def _notice_sigterm() -> None:
    """Keep training at SIGTERM: the chief must write a checkpoint, and then Ray Train ends all workers."""
    _handler.install(_terminated.set)


def train_here(assignment: Assignment) -> None:
    """Train, in a thread of the process of a worker.

    Raises:
        Restarting: A restart was requested, and a checkpoint was written.
        TrainError, DatasetError: As `learn`; they are posted as well.
    """
    from train.fit.trainer import learn

    read_on_all_cores()
    channel, config = assignment.channel, assignment.config
    context, run = ray.train.get_context(), Run(assignment.run)
    rank = context.get_world_rank()
    is_chief = rank == 0
    measured = report_to_ray(str(run.folder), rank) if assignment.metrics else Callbacks().measured
    if is_chief:
        channel.post.remote("started", context.get_world_size())
    threading.Thread(target=_report_preemption, args=(channel,), daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch, logging_to(channel) if is_chief else nullcontext():
        try:
            if not run.info():
                raise TrainError(
                    f"{run.folder} does not exist on {socket.gethostname()}, a node that should train. Mount "
                    "it on every node at the same path, or use a URI."
                )
            learn(
                open_dataset(assignment.features),
                run,
                config,
                RemoteCallbacks(channel, measured) if is_chief else Callbacks(measured=measured),
                scratch=None if is_chief else Run(scratch),
                workers=context.get_world_size(),
            )
        except Stopped as stopped:
            if stopped.signal == RESTART:
                # Ends the other workers, which wait for this one. As the cause, the exception keeps TensorFlow's
                # objects alive: they would wait for the other workers, too, almost a minute.
                raise Restarting from stopped
            ray.get(channel.post.remote("stopped", (stopped.signal, stopped.step)))
        except (TrainError, DatasetError) as error:
            ray.get(channel.post.remote("failed", str(error)))
            raise


def _report_preemption(channel: Any) -> None:
    """Post once that a node of the workers is about to be preempted, or that this process received SIGTERM.

    `ray.train.get_preemption_info` gives the first, but waits until all workers have called it, between two steps.
    """
    preemption = get_train_context().preemption_context
    while not (preemption.preemption_info or _terminated.wait(_SECONDS_BETWEEN_POLLS)):
        _handler.restore()
    reason = "SIGTERM" if _terminated.is_set() else "a notice from Ray"
    ray.get(channel.post.remote("preempted", f"{socket.gethostname()} received {reason}"))


def read_on_all_cores() -> None:
    """Give Arrow all cores again: for workers, Ray limits all libraries to the CPUs that they ask for."""
    pa.set_cpu_count(os.cpu_count() or 1)
