"""Asynchronous successive halving (ASHA): which trials are worth training to the end.

After Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020 (arXiv:1810.05934): at each rung, a
number of epochs, a trial goes on only if it is in the best quarter of those that have got there. As in Ray Tune's
ASHAScheduler, a trial is compared when it gets to a rung and never paused.

Trials are compared in the order of their numbers and not in the order in which they arrive: a trial with those
before it. While one of these is behind, the decision waits, and the trial goes on training. So the outcome depends
on the results only: not on how many trials are trained at a time, nor on where the search was interrupted, and the
histories of the trials are all that it needs.
"""

import bisect
import dataclasses
from collections.abc import Sequence

REDUCTION = 4  # one of so many goes on
_RUNGS = 2

# The figure of the validation fold and the negative loss, as in `train.fit.early_stopping.rank`; higher is better.
Rank = tuple[float, float]
WORST: Rank = (float("-inf"), float("-inf"))


@dataclasses.dataclass(frozen=True)
class TrialProgress:
    """How far a trial has been trained.

    Attributes:
        epochs: Number of epochs to train.
        ranks: The best rank up to each finished epoch.
        trained: Whether it is trained to its end, and the model is saved.
        diverged: Whether it ended because its loss was not finite.
    """

    epochs: int
    ranks: tuple[Rank, ...] = ()
    trained: bool = False
    diverged: bool = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.trained or self.diverged


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What follows from the progress of all trials.

    Attributes:
        stops: For each trial the epoch after which it is not worth going on; None for the others.
        best: Index of the best trial, which is trained to its end; None as long as a trial may still be better,
            and if all diverged.
        extended: Index of a trial that is to be trained to its end in spite of `stops`: those that it was compared
            with have diverged since. None for none.
    """

    stops: tuple[int | None, ...]
    best: int | None = None
    extended: int | None = None


def rungs_of(epochs: int) -> list[int]:
    """Return the epochs after which trials are compared: a sixteenth and a quarter of all, rounded up."""
    steps = {-(-epochs // REDUCTION**power) for power in range(1, _RUNGS + 1)}
    return sorted(step for step in steps if step < epochs)


def outcome_of(trials: Sequence[TrialProgress], rungs: Sequence[int]) -> Outcome:
    """Return which trials stop where, and which one is the best.

    Args:
        trials: Progress of all trials, by their numbers.
        rungs: Epochs after which trials are compared, in increasing order.
    """
    stops = stops_of(trials, rungs)
    if not all(trial.is_over or stop is not None for trial, stop in zip(trials, stops, strict=True)):
        return Outcome(tuple(stops))
    counted = list(stops)  # a trial without a stop counts with all its epochs
    while True:
        remaining = [
            index for index, trial in enumerate(trials) if not (trial.diverged and counted[index] is None)
        ]
        if not remaining:
            return Outcome(tuple(stops))
        best = max(remaining, key=lambda index: (_rank(trials[index], counted[index]), -index))
        if counted[best] is None:
            return Outcome(tuple(stops), best=best)
        if not trials[best].is_over:
            return Outcome(tuple(stops), extended=best)
        counted[best] = None


def stops_of(trials: Sequence[TrialProgress], rungs: Sequence[int]) -> list[int | None]:
    """Return the epoch after which each trial is not worth going on; None if it is, or as long as it is not known.

    Arguments are those of `outcome_of`.
    """
    arrived: dict[int, list[Rank]] = {rung: [] for rung in rungs}
    first_open = float("inf")  # trials before this one may still arrive at this rung and at later ones
    stops: list[int | None] = []
    for trial in trials:
        stop = None
        for rung in rungs:
            if rung >= trial.epochs:
                break
            if len(trial.ranks) < rung:
                if not trial.is_over:
                    first_open = min(first_open, rung)
                break
            if rung >= first_open:  # whether it gets to later rungs is not known either
                break
            rank = trial.ranks[rung - 1]
            others = arrived[rung]
            bisect.insort(others, rank)
            better = len(others) - bisect.bisect_right(others, rank)
            if better >= max(1, len(others) // REDUCTION):
                stop = rung
                break
        stops.append(stop)
    return stops


def _rank(trial: TrialProgress, stop: int | None) -> Rank:
    """Return the best rank up to the epoch that counts."""
    counted = trial.ranks[:stop]
    return counted[-1] if counted else WORST
