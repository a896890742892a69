"""Ray: attached to, or started on this machine, and given tasks, a bounded number of them at a time.

Ray is imported inside the functions: it reads how to authenticate when it is imported, which is after this
module has had its say.
"""

import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from featurize.errors import FeaturizeError

Key = TypeVar("Key")
Argument = TypeVar("Argument")
Result = TypeVar("Result")

# Ray spreads the work over processes; threads inside them would only fight over the same cores. Read by the
# libraries when they load, hence in the environment of the worker and not in its code.
_ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB")
}
# Enough in Ray's queue that no worker waits for the driver, few enough that the driver's memory is bounded.
_TASKS_PER_WORKER = 3
# Where a cluster has no workers yet, what waits is what makes it start some.
_TASKS_AT_LEAST = 16
WORKER_BYTES = 400 << 20  # a worker's peak is 320 MB, whatever the length of its tracks
_NODES_LOST = 20  # to one task, before the task itself is suspected
_SECONDS_BETWEEN_LOOKS = 2.0
# Of a node that goes Ray tells by a page of its internals; the number of nodes stands in every line of ours.
_NOT_SHOWN = "Raylet is terminated|marked dead|retries remaining"
OBJECT_STORE_BYTES = 128 << 20  # a dataset's rows never travel through Ray: its smallest store will do
_TRIES, _TRY_SECONDS, _SECONDS_BETWEEN_TRIES = 3, 3.0, 0.5  # at a cluster's port


def on_cluster() -> bool:
    """Say whether the environment names a Ray cluster to work on, as it does in a job that was submitted to one.

    Raises:
        FeaturizeError: it names one in a way that only `earmark submit` can use.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if "://" in address:
        raise FeaturizeError(
            f"RAY_ADDRESS = {address} names a cluster from afar. Send the work there: earmark submit --address "
            "http://HEAD:8265 -- run ... To work on this machine alone: unset RAY_ADDRESS"
        )
    return address not in ("", "local")


def refuse_silent(address: str) -> None:
    """Refuse a cluster where nothing answers, which Ray itself would try for two minutes.

    Args:
        address: as in RAY_ADDRESS; one without a port, as `auto`, is left to Ray.

    Raises:
        FeaturizeError: nothing listens there.
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
                why = getattr(error, "strerror", None) or error
                raise _unusable(address, f"nothing answers there ({why})") from error
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _unusable(address: str, why: str) -> FeaturizeError:
    return FeaturizeError(
        f"the Ray cluster at RAY_ADDRESS = {address} cannot be used: {why.rstrip('.')}. To work on this machine "
        "alone: unset RAY_ADDRESS"
    )


@contextmanager
def ray_workers(workers: int | None) -> Iterator[None]:
    """Attach to the cluster that the environment names, or run Ray on this machine for as long as it is needed.

    A Ray that this process already uses is used as it is.

    Args:
        workers: how many processes at once on this machine; None for as many as it, or its container, has cores.

    Raises:
        FeaturizeError: the cluster cannot be attached to.
    """
    attached = on_cluster()
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _NOT_SHOWN)
    if "ray" not in sys.modules and not attached:
        # Ray listens on every interface. A token of this run's own keeps others out and, unlike the one that
        # Ray would make, is not left in the home directory.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        yield
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if attached:
        address = os.environ["RAY_ADDRESS"]
        refuse_silent(address)
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _unusable(address, str(error).splitlines()[0]) from error
    else:
        with _environment(_ONE_THREAD):  # which the workers inherit; sooner than by a runtime environment
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in the place of the caller's
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for what is started in the meantime."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class RayTaskPool(Generic[Key]):
    """Ray tasks under way, each on one core, known by a key."""

    def __init__(self, workers: int | None = None) -> None:
        """Begin with none; Ray must be running. On a cluster `workers` bounds how many run at once."""
        import ray

        self._ray = ray
        self._under_way: dict[Any, tuple[Key, Callable[[], Any]]] = {}
        self._lost: dict[Any, int] = {}
        self._remote: dict[
            Callable[..., Any], Any
        ] = {}  # Ray sends a function to the workers once for each of these
        self._options: dict[str, Any] = {"num_cpus": 1, "max_retries": 2}
        self._most = None
        if on_cluster():
            self._options |= {
                "scheduling_strategy": "SPREAD",
                "memory": WORKER_BYTES,
                "runtime_env": {"env_vars": _ONE_THREAD},
            }
            self._most = workers
        self._looked_at = -_SECONDS_BETWEEN_LOOKS
        self._limit = self.nodes = 0

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def full(self) -> bool:
        """Whether enough are under way to keep every core at work, those of nodes that have joined as well."""
        self._look()
        return len(self._under_way) >= self._limit

    def _look(self) -> None:
        """Count the nodes and cores, now and then."""
        if time.monotonic() - self._looked_at < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked_at = time.monotonic()
        cores = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        self.nodes = sum(1 for count in cores if count)
        self._limit = self._most or max(_TASKS_PER_WORKER * int(sum(cores)), _TASKS_AT_LEAST)

    def share(self, value: Argument) -> Argument:
        """Put an argument of many tasks where all workers can read it; what returns stands for it."""
        shared: Argument = self._ray.put(value)
        return shared

    def submit(self, key: Key, function: Callable[..., Any], *arguments: object) -> None:
        """Start a task; where its process dies it is tried twice more, where its node goes more often."""
        if function not in self._remote:
            self._remote[function] = self._ray.remote(**self._options)(function)
        remote = self._remote[function]
        self._start(key, lambda: remote.remote(*arguments))

    def _start(self, key: Key, start: Callable[[], Any]) -> Any:
        reference = start()
        self._under_way[reference] = key, start
        return reference

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Wait a while for a task to end; yield each that has, with its result or with what it raised."""
        waiting = list(self._under_way)
        self._ray.wait(waiting, num_returns=1, timeout=_SECONDS_BETWEEN_LOOKS)
        ended, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for reference in ended:
            key, start = self._under_way.pop(reference)
            lost = self._lost.pop(reference, 0)
            try:
                yield key, self._ray.get(reference)
            except self._ray.exceptions.NodeDiedError as error:
                if lost >= _NODES_LOST:
                    yield key, error
                else:  # spot machines go; that says nothing about the task
                    self._lost[self._start(key, start)] = lost + 1
            except Exception as error:  # whatever it is, it is the caller's to judge
                # Behind Ray's own, whose text is the worker's traceback.
                yield key, getattr(error, "cause", None) or error


def run_all(function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> list[Result]:
    """Run a function on many tuples of arguments, and return the results in order; an error of one is raised."""
    tasks: RayTaskPool[int] = RayTaskPool()
    results: dict[int, Result] = {}
    waiting = enumerate(calls)
    while True:
        while not tasks.full and (following := next(waiting, None)):
            tasks.submit(following[0], function, *following[1])
        if not len(tasks):
            return [results[index] for index in sorted(results)]
        for index, result in tasks.finished():
            if isinstance(result, BaseException):
                raise result
            results[index] = result


def run_on_every_node(function: Callable[..., Result], *arguments: object) -> dict[str, Result]:
    """Run a function once on each node, on no core of it; return the results by the nodes' addresses.

    A node that goes in the meantime has none.
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
