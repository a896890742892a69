"""Process plans until all are done, even if some tracks crash the worker processes.

If the process of a plan dies even after Ray's retries, `find_crashing_tracks` loads the tracks of the plan one
after another in a child process. The tracks that crash it are excluded, and the plan is processed without them.

A plan that runs much longer than others while workers have nothing to do is started a second time (`stragglers`).
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from featurize.display import one_line
from featurize.errors import CollectionLostError, EarmarkError, FeaturizeError, Reject
from featurize.execution.crash_isolation import find_crashing_tracks
from featurize.execution.stragglers import Stragglers
from featurize.planning.shard_plan import ShardPlan

_MAX_FAILURES = 3  # of one plan; Ray has tried each attempt up to three times


@dataclasses.dataclass(eq=False)
class PlanAttempts:
    """A plan in progress.

    Attributes:
        plan: Tracks and settings.
        excluded: Tracks to leave out, a Reject by track ID.
        failures: Number of failed attempts.
        isolating: Whether the next task searches for crashing tracks.
        twin: The same plan, while it runs twice.
    """

    plan: ShardPlan
    excluded: dict[str, Reject] = dataclasses.field(default_factory=dict)
    failures: int = 0
    isolating: bool = False
    twin: "PlanAttempts | None" = None


class TaskPool(Protocol):
    """Runs functions in other processes: a `RayTaskPool` or a `SubprocessTask`."""

    def __len__(self) -> int:
        """Return the number of running tasks."""

    @property
    def full(self) -> bool:
        """Whether the pool takes no more tasks at present."""

    @property
    def idle(self) -> int:
        """Number of workers without a task."""

    def cancel(self, key: PlanAttempts) -> None:
        """Stop a task, or let it run on unnoticed; it is not yielded."""

    def submit(self, key: PlanAttempts, function: Callable[..., Any], *arguments: object) -> None:
        """Start a task."""

    def finished(self) -> Iterator[tuple[PlanAttempts, Any]]:
        """Wait a limited time; yield the key and the result or error of each ended task."""


def run_with_retries(
    pool: TaskPool,
    plans: Iterator[ShardPlan],
    track_timeout: float,
    function: Callable[..., Any],
    *arguments: object,
    on_wait: Callable[[], None],
) -> Iterator[Any]:
    """Call a function on each plan, a bounded number at a time.

    Args:
        pool: Runs the calls.
        plans: Plans; the next one is taken when the pool has room.
        track_timeout: Maximum time for one track, in seconds.
        function: Called with a plan, `arguments`, `track_timeout` and the excluded tracks (a Reject by track ID),
            which it must not load.
        arguments: The same for all calls.
        on_wait: Called before each wait for results: after the first calls have been started, after results, and
            at regular intervals without results.

    Yields:
        Results in the order in which they are ready.

    Raises:
        FeaturizeError: A plan failed three times.
        EarmarkError: Raised by the function.
        OSError: Raised by the function.
    """
    stragglers: Stragglers[PlanAttempts] = Stragglers()

    def submit(attempts: PlanAttempts) -> None:
        if attempts.twin is None:
            stragglers.start(attempts)
        if attempts.isolating:
            pool.submit(attempts, find_crashing_tracks, attempts.plan, track_timeout)
        else:
            pool.submit(attempts, function, attempts.plan, *arguments, track_timeout, attempts.excluded)

    while True:
        while not pool.full and (plan := next(plans, None)):
            submit(PlanAttempts(plan))
        if not len(pool):
            return
        on_wait()
        for attempts in stragglers.choose(pool.idle):
            if not attempts.isolating:
                attempts.twin = dataclasses.replace(attempts, twin=attempts)
                submit(attempts.twin)
        for attempts, outcome in pool.finished():
            twin = attempts.twin
            if twin is not None and isinstance(outcome, Exception):
                twin.twin = None  # the other copy goes on: this is no failure of the plan
                stragglers.start(twin)
            elif isinstance(outcome, Exception):
                _record_failure(attempts, outcome)
                submit(attempts)
            elif attempts.isolating:
                attempts.excluded.update(outcome)
                attempts.isolating = False
                submit(attempts)
            else:
                if twin is not None:
                    pool.cancel(twin)
                stragglers.end(attempts)
                yield outcome


def _record_failure(attempts: PlanAttempts, error: Exception) -> None:
    """Count a failure and choose the next task of the plan; raise the error if another attempt cannot help."""
    attempts.failures += 1
    lost = isinstance(error, CollectionLostError)
    if isinstance(error, OSError | EarmarkError) and (not lost or attempts.failures >= _MAX_FAILURES):
        raise error
    if attempts.failures >= _MAX_FAILURES:
        first, last = attempts.plan.tracks[0].id, attempts.plan.tracks[-1].id
        raise FeaturizeError(
            f"workers failed {attempts.failures} times on {attempts.plan.name} ({first} to {last}), although each "
            f"of its other tracks can be decoded alone. The last error: {one_line(error)}"
        ) from error
    attempts.isolating = not lost
