"""Work on the tracks of many plans until all of it is done, whatever some tracks do to the processes at work.

A plan whose process dies again and again has its tracks loaded apart, one after another; those that are the end of
a process are condemned, and the work is done without them.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from featurize.errors import CollectionLostError, FeaturizeError, Reject
from featurize.execution.crash_isolation import find_crashing_tracks
from featurize.planning.shard_plan import ShardPlan

_ATTEMPTS = 3  # at a plan, each of them up to three times in Ray's hands


@dataclasses.dataclass
class PlanAttempts:
    """A plan on its way: what was found out about its tracks, and how often it has failed."""

    plan: ShardPlan
    excluded: dict[str, Reject] = dataclasses.field(default_factory=dict)
    failures: int = 0
    isolating: bool = False


class TaskPool(Protocol):
    """Where functions run: a `RayTaskPool` or a `SubprocessTask`."""

    def __len__(self) -> int:
        """Return how many are under way."""

    @property
    def full(self) -> bool:
        """Whether all hands are busy."""

    def submit(self, key: PlanAttempts, function: Callable[..., Any], *arguments: object) -> None:
        """Start a function."""

    def finished(self) -> Iterator[tuple[PlanAttempts, Any]]:
        """Wait a while; yield what has ended, with its result or with what it raised."""


def run_with_retries(
    pool: TaskPool,
    plans: Iterator[ShardPlan],
    track_timeout: float,
    function: Callable[..., Any],
    *arguments: object,
    on_wait: Callable[[], None],
) -> Iterator[Any]:
    """Have a function called on each plan, a bounded number at a time.

    Args:
        pool: Runs the calls.
        plans: taken one by one, when there is a hand for them.
        track_timeout: seconds that one track may take.
        function: called with a plan, `arguments`, `track_timeout` and a dict of condemned tracks (a Reject by
            the track's id), which it must not touch.
        arguments: the same for all calls.
        on_wait: called before each wait for results: when the first calls are started, after results, and
            whenever some time has gone by without any.

    Yields:
        the results as they come.

    Raises:
        FeaturizeError: a plan cannot be worked on.
        OSError: what the function raised.
    """

    def submit(work: PlanAttempts) -> None:
        if work.isolating:
            pool.submit(work, find_crashing_tracks, work.plan, track_timeout)
        else:
            pool.submit(work, function, work.plan, *arguments, track_timeout, work.excluded)

    while True:
        while not pool.full and (plan := next(plans, None)):
            submit(PlanAttempts(plan))
        if not len(pool):
            return
        on_wait()
        for work, outcome in pool.finished():
            if isinstance(outcome, Exception):
                _after_failure(work, outcome)
                submit(work)
            elif work.isolating:
                work.excluded.update(outcome)
                work.isolating = False
                submit(work)
            else:
                yield outcome


def _after_failure(work: PlanAttempts, error: Exception) -> None:
    """Say what comes next for a plan that could not be worked on, or raise what there is no way around."""
    work.failures += 1
    lost = isinstance(error, CollectionLostError)
    if isinstance(error, OSError | FeaturizeError) and (not lost or work.failures >= _ATTEMPTS):
        raise error
    if work.failures >= _ATTEMPTS:
        first, last = work.plan.tracks[0].id, work.plan.tracks[-1].id
        raise FeaturizeError(
            f"workers failed {work.failures} times on {work.plan.name} ({first} to {last}), though each of its "
            f"other tracks can be decoded alone. The last of it: {error}"
        ) from error
    work.isolating = not lost
