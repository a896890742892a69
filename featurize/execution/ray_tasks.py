"""Connect to a Ray cluster or start Ray on this machine, and run a bounded number of tasks at a time.

Ray is imported inside the functions: it reads its authentication settings from the environment on import, and
`ray_workers` sets them before.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from featurize.errors import FeaturizeError
from featurize.execution.import_path import job_config
from featurize.execution.local_ray import OBJECT_STORE_BYTES, ONE_THREAD, keep_private, local_ray

Key = TypeVar("Key")
Argument = TypeVar("Argument")
Result = TypeVar("Result")

# Enough queued tasks that no worker waits for the driver, few enough to bound the driver's memory.
_TASKS_PER_WORKER = 3
_TASKS_AT_LEAST = 16
# An autoscaler starts nodes for the tasks that wait. With three per core, a cluster would grow by a factor of
# three in the time that a node takes to start. `ray.autoscaler.sdk.request_resources` is no alternative: the
# request of a driver that is killed stays, and keeps its nodes.
TASKS_AT_LEAST_ON_CLUSTER = 1024
WORKER_BYTES = 400 << 20  # a worker's peak is 320 MB, independent of the length of its tracks
_MAX_NODES_LOST = 20  # under one task, before the task fails
_SECONDS_BETWEEN_CHECKS = 2.0
# Ray reports a lost node with a page of internals; Earmark's progress lines show the number of nodes.
_NOT_SHOWN = "Raylet is terminated|marked dead|retries remaining"
_TRIES, _TRY_SECONDS, _SECONDS_BETWEEN_TRIES = 3, 3.0, 0.5  # to connect to a cluster's port


def on_cluster() -> bool:
    """Return whether RAY_ADDRESS names a Ray cluster to connect to, as in a job that was submitted to one.

    Raises:
        FeaturizeError: RAY_ADDRESS is a URL, which only `earmark submit` can use.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if "://" in address:
        raise FeaturizeError(
            f"RAY_ADDRESS = {address} names a remote cluster. Submit the command to it: earmark submit --address "
            "http://HEAD:8265 -- run ... To work on this machine alone: unset RAY_ADDRESS"
        )
    return address not in ("", "local")


def refuse_silent(address: str) -> None:
    """Check that a cluster accepts connections; Ray itself would try for two minutes.

    Args:
        address: Value of RAY_ADDRESS. Without a port, as in `auto`, it is not checked.

    Raises:
        FeaturizeError: No connection could be made.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    for attempt in range(_TRIES):
        try:
            socket.create_connection((host.strip("[]"), int(port)), _TRY_SECONDS).close()
            return
        except (OSError, OverflowError) as error:
            if attempt == _TRIES - 1:
                reason = getattr(error, "strerror", None) or error
                raise _unusable(address, f"nothing answers there ({reason})") from error
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _unusable(address: str, reason: str) -> FeaturizeError:
    return FeaturizeError(
        f"the Ray cluster at RAY_ADDRESS = {address} cannot be used: {reason.rstrip('.')}. To work on this "
        "machine alone: unset RAY_ADDRESS"
    )


@contextmanager
def ray_workers(workers: int | None, object_store_bytes: int = OBJECT_STORE_BYTES) -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or start Ray on this machine, until exit.

    If this process already uses Ray, nothing is started or stopped.

    Args:
        workers: Number of worker processes on this machine; None for one per core of the machine or container.
            Ignored on a cluster.
        object_store_bytes: Memory for what tasks pass to each other on this machine.

    Raises:
        FeaturizeError: The cluster cannot be used.
    """
    attached = on_cluster()
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _NOT_SHOWN)
    if "ray" not in sys.modules and not attached:
        keep_private()
    import ray

    if ray.is_initialized():
        yield
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with _attached() if attached else local_ray(workers, object_store_bytes):
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray has replaced the caller's handler
        yield


@contextmanager
def _attached() -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names until exit."""
    import ray
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    address = os.environ["RAY_ADDRESS"]
    refuse_silent(address)
    try:
        # A submitted job has a config: its code is in its working_dir, and so is nothing else.
        config = None if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ else job_config()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", job_config=config)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unusable(address, str(error).splitlines()[0]) from error
    try:
        yield
    finally:
        ray.shutdown()


def free_resources() -> dict[str, float]:
    """Return the resources of the cluster that nothing uses, such as CPU and GPU; Ray must be running."""
    import ray

    free: dict[str, float] = ray.available_resources()
    return free


class RayTaskPool(Generic[Key]):
    """Running Ray tasks, each on one core and identified by a key."""

    def __init__(self, workers: int | None = None) -> None:
        """Create an empty pool; Ray must be running.

        Args:
            workers: Maximum number of tasks at a time on a cluster; None to follow its number of cores. Ignored
                on this machine, where `ray_workers` sets it.
        """
        import ray

        self._ray = ray
        self._running: dict[Any, tuple[Key, Callable[[], Any]]] = {}
        self._nodes_lost: dict[Any, int] = {}
        # One remote function for each function: Ray sends each remote function to the workers once.
        self._remote: dict[Callable[..., Any], Any] = {}
        self._options: dict[str, Any] = {"num_cpus": 1, "max_retries": 2}
        self._max_tasks = None
        self._per_core, self._at_least = _TASKS_PER_WORKER, _TASKS_AT_LEAST
        if on_cluster():
            self._options |= {
                "scheduling_strategy": "SPREAD",
                "memory": WORKER_BYTES,
                "runtime_env": {"env_vars": ONE_THREAD},
            }
            self._max_tasks = workers
            self._at_least = TASKS_AT_LEAST_ON_CLUSTER
        self._checked_at = -_SECONDS_BETWEEN_CHECKS
        self._limit = self._cores = self.nodes = 0

    def __len__(self) -> int:
        return len(self._running)

    @property
    def full(self) -> bool:
        """Whether enough tasks are running or queued to keep every core busy, including those of new nodes."""
        self._count_cores()
        return len(self._running) >= self._limit

    def _count_cores(self) -> None:
        """Update the number of nodes and the limit, at most once every two seconds."""
        if time.monotonic() - self._checked_at < _SECONDS_BETWEEN_CHECKS:
            return
        self._checked_at = time.monotonic()
        cores = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        self.nodes = sum(1 for count in cores if count)
        self._cores = int(sum(cores))
        self._limit = self._max_tasks or max(self._per_core * self._cores, self._at_least)

    @property
    def idle(self) -> int:
        """Number of cores without a task."""
        self._count_cores()
        return max(min(self._cores, self._limit) - len(self._running), 0)

    def cancel(self, key: Key) -> None:
        """Interrupt the task of a key; it is not yielded. One that is in native code goes on, unnoticed."""
        for reference, (running, _) in list(self._running.items()):
            if running is key:
                del self._running[reference]
                self._nodes_lost.pop(reference, None)
                self._follow_up(reference)
                self._ray.cancel(reference)

    def share(self, value: Argument) -> Argument:
        """Put an argument of many tasks into Ray's object store; pass the returned reference instead of it."""
        shared: Argument = self._ray.put(value)
        return shared

    def submit(self, key: Key, function: Callable[..., Any], *arguments: object) -> None:
        """Start a task; Ray retries it twice if its process dies, and up to 20 more times if its node is lost."""
        if function not in self._remote:
            self._remote[function] = self._ray.remote(**self._options)(function)
        remote = self._remote[function]
        self._start(key, lambda: remote.remote(*arguments))

    def _start(self, key: Key, start: Callable[[], Any]) -> Any:
        reference = start()
        self._running[reference] = key, start
        return reference

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Wait at most two seconds for a task to end; yield the key and the result or error of each ended task."""
        running = list(self._running)
        self._ray.wait(running, num_returns=1, timeout=_SECONDS_BETWEEN_CHECKS)
        ended, _ = self._ray.wait(running, num_returns=len(running), timeout=0)
        for reference in ended:
            if reference not in self._running:  # cancelled meanwhile
                continue
            key, start = self._running.pop(reference)
            nodes_lost = self._nodes_lost.pop(reference, 0)
            follow = self._follow_up(reference)
            try:
                result = self._ray.get(reference)
                if follow is None:
                    yield key, result
                else:
                    self._start(key, follow)
            except self._ray.exceptions.NodeDiedError as error:
                if nodes_lost >= _MAX_NODES_LOST:
                    yield key, error
                else:  # most likely not the task's fault: spot machines can be lost at any time
                    self._nodes_lost[self._start(key, start)] = nodes_lost + 1
            except Exception as error:
                # The task's own error is the cause of Ray's, whose text is the worker's traceback.
                yield key, getattr(error, "cause", None) or error

    def _follow_up(self, reference: Any) -> Callable[[], Any] | None:
        """Return what starts the second part of a task whose first has ended; None without one."""
        return None


def run_all(function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Result]]:
    """Call a function in Ray tasks; the first error is raised.

    Args:
        function: Module-level function.
        calls: Arguments of each call.

    Yields:
        The index of a call and its result, in the order in which they are ready.
    """
    pool: RayTaskPool[int] = RayTaskPool()
    waiting = enumerate(calls)
    while True:
        while not pool.full and (call := next(waiting, None)):
            pool.submit(call[0], function, *call[1])
        if not len(pool):
            return
        for index, result in pool.finished():
            if isinstance(result, BaseException):
                raise result
            yield index, result


def run_on_every_node(function: Callable[..., Result], *arguments: object) -> dict[str, Result]:
    """Call a function once on each node, without reserving a core; return the results by node address.

    A node that is lost in the meantime is left out.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote = ray.remote(num_cpus=0)(function)
    started = {
        node["NodeManagerAddress"]: remote.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(*arguments)
        for node in ray.nodes()
        if node["Alive"]
    }
    results = {}
    for address, reference in started.items():
        try:
            results[address] = ray.get(reference)
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError):
            continue
    return results
