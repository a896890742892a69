"""Tasks whose data goes to actors, from one process of Ray to the other: the driver holds references only.

A task returns a small result and its data. The data stays in Ray's object store until an actor, which holds what
takes long to load, such as a model, has made the final result from it.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from featurize.execution.ray_tasks import Key, RayTaskPool, on_cluster

# Fewer tasks than where nothing stays in memory: each may leave its data in the object store.
TASKS_PER_CORE, TASKS_AT_LEAST = 2, 4
# An autoscaler starts nodes for the tasks that wait.
_TASKS_AT_LEAST_ON_CLUSTER = 128
_CALLS_PER_ACTOR = 2  # running or queued, where actors are all that runs
_CALLS_TOO_MANY = 3  # waiting for each actor, for so many seconds: the actors are too few
_SECONDS_TOO_MANY = 10.0
_SECONDS_BETWEEN_MESSAGES = 30.0
_RETRIES = 5  # of a call whose actor dies

_log = logging.getLogger(__name__)


class RayActors:
    """Actors of one class, each in its own process; more are started while calls wait."""

    def __init__(self, kind: type, arguments: tuple[Any, ...], options: dict[str, Any], most: int) -> None:
        """Create a pool without actors; Ray must be running.

        Args:
            kind: Class with the methods `work`, and `prepare`, which loads what takes long and whose errors are
                ignored, because `work` raises them again. Its constructor loads nothing, so that it cannot fail.
            arguments: Arguments of the constructor.
            options: What each actor requests of Ray, such as `num_gpus`.
            most: Maximum number of actors.
        """
        import ray

        self._ray = ray
        self._remote = ray.remote(max_restarts=-1, max_task_retries=_RETRIES, **options)(kind)
        self._arguments = arguments
        self._most = most
        self._calls: dict[Any, int] = {}  # of each actor
        self._actor_of: dict[Any, Any] = {}  # by reference
        self._ended = 0
        self._enough_at = self._message_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._calls)

    def add(self) -> None:
        """Start an actor."""
        actor = self._remote.remote(*self._arguments)
        actor.prepare.remote()
        self._calls[actor] = 0

    def call(self, *arguments: Any) -> Any:
        """Start a call of `work` on the actor with the fewest calls; return the reference of its result."""
        if not self._calls:
            self.add()
        actor = min(self._calls, key=lambda actor: self._calls[actor])
        self._calls[actor] += 1
        reference = actor.work.remote(*arguments)
        self._actor_of[reference] = actor
        return reference

    def end(self, reference: Any) -> None:
        """Count a call as ended, if the reference is that of a call."""
        if reference in self._actor_of:
            self._calls[self._actor_of.pop(reference)] -= 1
            self._ended += 1

    def grow(self) -> None:
        """Start another actor if calls have been waiting for a while; log that none has ended yet."""
        now = time.monotonic()
        waiting = len(self._actor_of)
        if not self._ended:
            self._enough_at = now
            if waiting and now - self._message_at > _SECONDS_BETWEEN_MESSAGES:
                self._message_at = now
                _log.info("Waiting for the first process with the model.")
            return
        if waiting < _CALLS_TOO_MANY * len(self._calls):
            self._enough_at = now
        elif now - self._enough_at > _SECONDS_TOO_MANY and len(self._calls) < self._most:
            self._enough_at = now
            self.add()

    def map(self, calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call `work` with each tuple of arguments, on as many actors as there may be.

        Yields:
            Results, in the order in which they are ready; None from time to time while none is.

        Raises:
            Exception: As the first call that failed raised it.
        """
        waiting = iter(calls)
        while True:
            while len(self._actor_of) < _CALLS_PER_ACTOR * max(len(self), 1) and (call := next(waiting, None)):
                self.call(*call)
                if len(self) < min(self._most, len(self._actor_of)):
                    self.add()
            if not self._actor_of:
                return
            ended, _ = self._ray.wait(list(self._actor_of), num_returns=1, timeout=2.0)
            if not ended:
                yield None
            for reference in ended:
                self.end(reference)
                try:
                    yield self._ray.get(reference)
                except self._ray.exceptions.RayTaskError as error:
                    raise (error.cause or error) from None


class RayPipeline(RayTaskPool[Key]):
    """A pool of tasks like `RayTaskPool`, where the data of one function goes to actors."""

    def __init__(self, workers: int | None, function: Callable[..., Any], actors: RayActors) -> None:
        """Create an empty pool; Ray must be running.

        Args:
            workers: As in `RayTaskPool`.
            function: Returns a result, which is ignored, and data. An actor is called with the function's first
                argument and the data, and its result is that of the task. Other functions run as in `RayTaskPool`.
            actors: The actors.
        """
        super().__init__(workers)
        self._function = function
        self._actors = actors
        self._data: dict[Any, tuple[Any, Any]] = {}  # first argument, and reference of the data, by reference
        self._per_core, self._at_least = TASKS_PER_CORE, TASKS_AT_LEAST
        if on_cluster():
            self._at_least = _TASKS_AT_LEAST_ON_CLUSTER

    def submit(self, key: Key, function: Callable[..., Any], *arguments: object) -> None:
        """Start a task, as in `RayTaskPool`."""
        if function is not self._function:
            super().submit(key, function, *arguments)
            return
        if function not in self._remote:
            self._remote[function] = self._ray.remote(num_returns=2, **self._options)(function)
        remote = self._remote[function]

        def start() -> Any:
            result, data = remote.remote(*arguments)
            self._data[result] = arguments[0], data
            return result

        self._start(key, start)

    def finished(self) -> Iterator[tuple[Key, Any]]:
        """Wait as in `RayTaskPool`; yield what actors have made, and the errors of tasks and actors."""
        self._actors.grow()
        yield from super().finished()

    def _follow_up(self, reference: Any) -> Callable[[], Any] | None:
        self._actors.end(reference)
        if reference not in self._data:
            return None
        first, data = self._data.pop(reference)
        return lambda: self._actors.call(first, data)


def total_resources() -> dict[str, float]:
    """Return the resources of all nodes of the cluster, such as CPU and GPU; Ray must be running."""
    import ray

    total: dict[str, float] = ray.cluster_resources()
    return total
