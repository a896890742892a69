"""Confidence intervals of scores, by a bootstrap over groups.

Tracks of one artist or album resemble one another, so they are not independent observations: groups are drawn with
replacement, and not tracks (the cluster bootstrap: Field and Welsh, J. R. Stat. Soc. B 69, 2007). The percentiles
are those of the expanded percentile interval (Hesterberg, Am. Stat. 69, 2015), which is wider where there are few
groups, as a t distribution is wider than a normal one.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

CONFIDENCE = 0.95
DRAWS = 2000
_SEED = 0
# More groups than this are put together at random, which changes neither the mean nor the variance of their sums.
_MOST_BLOCKS = 5000
_MOST_COUNTS = 1 << 24
_DRAWS_AT_ONCE = 200


class Interval(NamedTuple):
    """A 95 % confidence interval, ends included."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ScoreIntervals:
    """Confidence intervals of the scores of one model.

    Attributes:
        groups: Number of groups.
        accuracy: Interval of the accuracy.
        macro_f1: Interval of the mean F1 of the classes that have examples.
        f1: Interval of the F1 of each class; None for a class whose examples are of one group, or that has none.
    """

    groups: int
    accuracy: Interval
    macro_f1: Interval
    f1: list[Interval | None]


class Difference(NamedTuple):
    """A score of one model minus that of another, on the same examples, with its confidence interval."""

    value: float
    interval: Interval


class GroupCounts:
    """How often each class is correct, actual and predicted in each group; predictions are added part by part.

    Memory does not grow with the number of predictions. Beyond 5,000 groups (fewer with very many classes) groups
    are put together at random.
    """

    def __init__(self, groups: int, classes: int) -> None:
        """Count nothing yet.

        Args:
            groups: Number of groups.
            classes: Number of classes.
        """
        self.groups, self.classes = groups, classes
        blocks = min(groups, max(min(_MOST_BLOCKS, _MOST_COUNTS // (3 * classes)), 2))
        order = np.arange(groups) if blocks == groups else np.random.default_rng(_SEED).permutation(groups)
        self._block_of = order % blocks
        self.sizes = np.zeros(groups, np.int64)
        self.counts = np.zeros((blocks, 3 * classes), np.int64)

    def add(
        self, groups: NDArray[np.integer], labels: NDArray[np.integer], predicted: NDArray[np.integer]
    ) -> None:
        """Add predictions.

        Args:
            groups: int [examples], index of the group of each example.
            labels: int [examples], actual class indices.
            predicted: int [examples], predicted class indices.
        """
        self.sizes += np.bincount(groups, minlength=self.groups)
        rows = self._block_of[groups] * self.counts.shape[1]
        correct = labels == predicted
        for part, chosen, indices in (
            (0, correct, labels),
            (1, slice(None), labels),
            (2, slice(None), predicted),
        ):
            cells = rows[chosen] + part * self.classes + indices[chosen]
            self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    @property
    def groups_present(self) -> int:
        """Number of groups with examples."""
        return int((self.sizes > 0).sum())


def score_intervals(counts: GroupCounts) -> ScoreIntervals | None:
    """Return the confidence intervals of the scores of a model; None if all examples are of one group.

    The same predictions give the same intervals, in whatever order they were added.
    """
    if counts.groups_present < 2:
        return None
    drawn = np.concatenate([_f1_and_accuracy(part) for part in _resampled(counts.counts)])
    observed = _f1_and_accuracy(counts.counts.sum(axis=0, keepdims=True).astype(np.float64))[0]
    level = _expanded_level(_effective_groups(counts.sizes))
    actual, predicted = (counts.counts[:, part * counts.classes :][:, : counts.classes] for part in (1, 2))
    # One group does not show how the F1 varies between groups.
    several = (actual > 0).sum(axis=0) > 1
    with_class = ((actual > 0) | (predicted > 0)).sum(axis=0)
    f1 = [
        _percentiles(drawn[:, 2 + index], float(observed[2 + index]), level, int(with_class[index]))
        if several[index]
        else None
        for index in range(counts.classes)
    ]
    groups = counts.groups_present
    return ScoreIntervals(
        groups,
        _percentiles(drawn[:, 0], float(observed[0]), level, groups),
        _percentiles(drawn[:, 1], float(observed[1]), level, groups),
        f1,
    )


def paired_differences(first: GroupCounts, second: GroupCounts) -> dict[str, Difference] | None:
    """Return how the scores of two models differ on the same examples, first minus second.

    Args:
        first: Counts of one model.
        second: Counts of the other; examples, labels and groups are those of the first.

    Returns:
        Differences of `accuracy` and `macro_f1`; None if all examples are of one group.
    """
    if first.groups_present < 2:
        return None
    counts = np.concatenate([first.counts, second.counts], axis=1)
    width = first.counts.shape[1]

    def difference(sums: Float64) -> Float64:
        return _f1_and_accuracy(sums[:, :width]) - _f1_and_accuracy(sums[:, width:])

    drawn = np.concatenate([difference(part) for part in _resampled(counts)])
    observed = difference(counts.sum(axis=0, keepdims=True).astype(np.float64))[0]
    level = _expanded_level(_effective_groups(first.sizes))
    return {
        name: Difference(
            float(observed[column]), Interval(*np.quantile(drawn[:, column], [level, 1 - level]).tolist())
        )
        for column, name in enumerate(("accuracy", "macro_f1"))
    }


def mcnemar(first_correct: NDArray[np.bool_], second_correct: NDArray[np.bool_]) -> float:
    """Return the p value of McNemar's exact test: whether two models are right equally often on the same examples.

    It takes examples as independent (McNemar, Psychometrika 12, 1947; exact by the binomial distribution).

    Args:
        first_correct: bool [examples].
        second_correct: bool [examples].
    """
    only_first = int((first_correct & ~second_correct).sum())
    only_second = int((second_correct & ~first_correct).sum())
    if not only_first + only_second:
        return 1.0
    return float(scipy.stats.binomtest(only_first, only_first + only_second).pvalue)


def _resampled(counts: NDArray[np.int64]) -> Iterator[Float64]:
    """Yield the sums of DRAWS samples of the blocks that have examples, in parts of float64 [draws, columns]."""
    random = np.random.default_rng(_SEED)
    filled = counts[counts.any(axis=1)].astype(np.float64)
    even = np.full(len(filled), 1 / len(filled))
    for _ in range(0, DRAWS, _DRAWS_AT_ONCE):
        yield random.multinomial(len(filled), even, size=_DRAWS_AT_ONCE).astype(np.float64) @ filled


def _f1_and_accuracy(sums: Float64) -> Float64:
    """Return [draws, 2 + classes]: accuracy, macro-F1 of the classes with examples, F1 of each class or NaN.

    Args:
        sums: float64 [draws, 3 * classes]: how often each class is correct, actual and predicted.
    """
    correct, actual, predicted = np.split(sums, 3, axis=1)
    f1 = np.where(actual > 0, 2 * correct / np.maximum(actual + predicted, 1), np.nan)
    accuracy = correct.sum(axis=1) / np.maximum(actual.sum(axis=1), 1)
    return np.column_stack([accuracy, np.nanmean(f1, axis=1), f1])


def _effective_groups(sizes: NDArray[np.int64]) -> float:
    """Return the number of equally large groups that vary as much as these (Kish's effective sample size)."""
    return float(sizes.sum() ** 2 / (sizes.astype(np.float64) ** 2).sum())


def _expanded_level(groups: float) -> float:
    """Return the lower quantile of the expanded percentile interval, below 0.025."""
    freedom = max(groups - 1, 1.0)
    quantile = scipy.stats.t.ppf((1 - CONFIDENCE) / 2, freedom) * np.sqrt((freedom + 1) / freedom)
    return float(scipy.stats.norm.cdf(quantile))


def _percentiles(drawn: Float64, observed: float, level: float, groups: int) -> Interval:
    """Return the interval of drawn values; where all are 0 or all are 1, Wilson's for that many groups.

    A bootstrap of a score without any variation says that it has none, which is wrong for few groups.
    """
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.quantile(drawn, [level, 1 - level]).tolist()
    if observed in (0.0, 1.0):
        wilson = scipy.stats.binomtest(round(observed * groups), groups).proportion_ci(CONFIDENCE, "wilson")
        low, high = min(low, wilson.low), max(high, wilson.high)
    return Interval(min(low, observed), max(high, observed))
