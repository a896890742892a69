"""Ray: started where it is not running, and given tasks, a bounded number of them at a time.

Ray is imported inside the functions: it reads how to authenticate when it is imported, which is after this
module has had its say.
"""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

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
_RAY_OBJECT_STORE_BYTES = 128 << 20  # rows never travel through Ray, so its smallest store will do


@contextmanager
def ray_workers(workers: int | None) -> Iterator[None]:
    """Run Ray on this machine for as long as it is needed; a Ray that already runs here is used as it is.

    Args:
        workers: how many processes at once; None for as many as this machine, or its container, has cores.
    """
    if "ray" not in sys.modules:
        # Ray listens on every interface. A token of this run's own keeps others out and, unlike the one that
        # Ray would make, is not left in the home directory.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        yield
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with _environment(_ONE_THREAD):  # which the workers inherit; sooner than by a runtime environment
        ray.init(
            address="local",
            num_cpus=workers,
            num_gpus=0,
            include_dashboard=False,
            object_store_memory=_RAY_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="ERROR",
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


class Tasks(Generic[Key]):
    """Ray tasks under way, each on one core, known by a key."""

    def __init__(self) -> None:
        """Begin with none; Ray must be running."""
        import ray

        self._ray = ray
        self._under_way: dict[Any, Key] = {}
        self._remote: dict[
            Callable[..., Any], Any
        ] = {}  # Ray sends a function to the workers once for each of these
        self._limit = _TASKS_PER_WORKER * int(ray.cluster_resources()["CPU"])

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def full(self) -> bool:
        """Whether enough are under way to keep every core at work."""
        return len(self._under_way) >= self._limit

    def share(self, value: Argument) -> Argument:
        """Put an argument of many tasks where all workers can read it; what returns stands for it."""
        shared: Argument = self._ray.put(value)
        return shared

    def submit(self, key: Key, function: Callable[..., Any], *arguments: object) -> None:
        """Start a task; where its process dies it is tried twice more."""
        if function not in self._remote:
            self._remote[function] = self._ray.remote(num_cpus=1, max_retries=2)(function)
        self._under_way[self._remote[function].remote(*arguments)] = key

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Wait for at least one task; yield each that has ended, with its result or with what it raised."""
        waiting = list(self._under_way)
        self._ray.wait(waiting, num_returns=1)
        ended, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for reference in ended:
            key = self._under_way.pop(reference)
            try:
                yield key, self._ray.get(reference)
            except Exception as error:  # whatever it is, it is the caller's to judge
                # Behind Ray's own, whose text is the worker's traceback.
                yield key, getattr(error, "cause", None) or error


def run_all(function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> list[Result]:
    """Run a function on many tuples of arguments, and return the results in order; an error of one is raised."""
    tasks: Tasks[int] = Tasks()
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
