"""Which plans are started a second time: the last ones, if they run much longer than the others did.

A machine may be slow, or a disk may hang, and then one shard keeps a whole run waiting. Both copies of a plan make
the same bytes under the same name, so the first to finish wins.
"""

import statistics
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_TIMES_MEDIAN = 4.0
_LEAST_SECONDS = 30.0
_FEWEST_ENDED = 3  # plans that must have ended for a median


class Stragglers(Generic[Key]):
    """Times of the plans of a run.

    A plan may wait in Ray's queue for the plans before it, so its time counts from the moment at which a worker
    was free; the times of plans that have ended include the wait, which makes the median larger.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Create an empty record; `clock` returns seconds."""
        self._clock = clock
        self._started: dict[Key, float] = {}
        self._seconds: list[float] = []
        self._idle_since: float | None = None

    def start(self, key: Key) -> None:
        """Record that a plan was started, or started again after a failure."""
        self._started[key] = self._clock()

    def end(self, key: Key) -> None:
        """Record that a plan has ended with a result; one that was started a second time does not count."""
        if key in self._started:
            self._seconds.append(self._clock() - self._started.pop(key))

    def choose(self, idle: int) -> list[Key]:
        """Return the plans to start a second time, the oldest first; each is returned once.

        Args:
            idle: Number of workers without work; none is free while plans wait.
        """
        if idle <= 0:
            self._idle_since = None
            return []
        now = self._clock()
        if self._idle_since is None:
            self._idle_since = now
        if len(self._seconds) < _FEWEST_ENDED:
            return []
        most = max(_LEAST_SECONDS, _TIMES_MEDIAN * statistics.median(self._seconds))
        late = [key for key, started in self._started.items() if now - max(started, self._idle_since) > most]
        for key in late[:idle]:
            del self._started[key]
        return late[:idle]
