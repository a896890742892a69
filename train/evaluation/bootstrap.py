"""Confidence intervals of scores, by a bootstrap over groups.

Tracks of one artist or album resemble one another, so they are not independent observations: groups are drawn with
replacement, and not tracks (the cluster bootstrap: Field and Welsh, J. R. Stat. Soc. B 69, 2007). The percentiles
are those of the expanded percentile interval (Hesterberg, Am. Stat. 69, 2015), which is wider where there are few
groups, as a t distribution is wider than a normal one.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import scipy.sparse
import scipy.stats
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CONFIDENCE = 0.95
DRAWS = 2000
_SEED = 0
# More groups than this are first put together at random, which changes neither the mean nor the variance of their
# sums, so that a million groups take a second.
_MOST_BLOCKS = 5000
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
        f1: Interval of the F1 of each class; None for a class without examples.
    """

    groups: int
    accuracy: Interval
    macro_f1: Interval
    f1: list[Interval | None]


class Difference(NamedTuple):
    """A score of one model minus that of another, on the same examples, with its confidence interval."""

    value: float
    interval: Interval


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The predictions of one model.

    Attributes:
        labels: int [examples], actual class indices.
        predicted: int [examples], predicted class indices.
        groups: int [examples], index of the group of each example, from 0.
        classes: Number of classes.
    """

    labels: NDArray[np.integer]
    predicted: NDArray[np.integer]
    groups: NDArray[np.integer]
    classes: int


def score_intervals(outcomes: Outcomes) -> ScoreIntervals | None:
    """Return the confidence intervals of the scores of a model; None if all examples are of one group.

    The same outcomes give the same intervals.
    """
    groups = int(outcomes.groups.max()) + 1
    if groups < 2:
        return None
    counts = _counts_by_group(outcomes, _blocks(outcomes.groups))
    drawn = np.concatenate([_f1_and_accuracy(_unstack(part)) for part in _resampled(counts)])
    observed = _f1_and_accuracy(_unstack(np.asarray(counts.sum(axis=0))))[0]
    level = _expanded_level(_effective_groups(outcomes.groups))
    present = np.bincount(outcomes.labels, minlength=outcomes.classes) > 0
    correct = outcomes.predicted == outcomes.labels
    f1 = [
        _percentiles(drawn[:, 2 + index], observed[2 + index], level, _groups_of(outcomes, index)) if has else None
        for index, has in enumerate(present)
    ]
    return ScoreIntervals(
        groups,
        _percentiles(drawn[:, 0], float(correct.mean()), level, groups),
        _percentiles(drawn[:, 1], observed[1], level, groups),
        f1,
    )


def paired_differences(first: Outcomes, second: Outcomes) -> dict[str, Difference] | None:
    """Return how the scores of two models differ on the same examples, first minus second.

    Args:
        first: Outcomes of one model.
        second: Outcomes of the other; labels, groups and classes are those of the first.

    Returns:
        Differences of `accuracy` and `macro_f1`; None if all examples are of one group.
    """
    if int(first.groups.max()) < 1:
        return None
    blocks = _blocks(first.groups)
    counts = scipy.sparse.hstack([_counts_by_group(each, blocks) for each in (first, second)], format="csr")
    width = counts.shape[1] // 2

    def difference(sums: Float64) -> Float64:
        return _f1_and_accuracy(_unstack(sums[:, :width])) - _f1_and_accuracy(_unstack(sums[:, width:]))

    drawn = np.concatenate([difference(part) for part in _resampled(counts)])
    observed = difference(np.atleast_2d(counts.sum(axis=0)))[0]
    level = _expanded_level(_effective_groups(first.groups))
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


def _blocks(groups: NDArray[np.integer]) -> Int64:
    """Return the block of each example: its group, or one of at most _MOST_BLOCKS sets of groups."""
    count = int(groups.max()) + 1
    if count <= _MOST_BLOCKS:
        return groups.astype(np.int64)
    block_of: Int64 = np.random.default_rng(_SEED).permutation(count) % _MOST_BLOCKS
    blocks: Int64 = block_of[groups]
    return blocks


def _counts_by_group(outcomes: Outcomes, blocks: Int64) -> scipy.sparse.csr_array:
    """Return [blocks, 3 * classes]: for each block how often each class is correct, actual and predicted."""
    correct = outcomes.labels == outcomes.predicted
    rows = np.concatenate([blocks[correct], blocks, blocks])
    columns = np.concatenate(
        [
            outcomes.labels[correct].astype(np.int64),
            outcomes.labels.astype(np.int64) + outcomes.classes,
            outcomes.predicted.astype(np.int64) + 2 * outcomes.classes,
        ]
    )
    shape = (int(blocks.max()) + 1, 3 * outcomes.classes)
    return scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _resampled(counts: scipy.sparse.csr_array) -> list[Float64]:
    """Return the sums of DRAWS samples of blocks, in parts of float64 [draws, columns]."""
    random = np.random.default_rng(_SEED)
    blocks = counts.shape[0]
    even = np.full(blocks, 1 / blocks)
    parts = []
    for _ in range(0, DRAWS, _DRAWS_AT_ONCE):
        weights = random.multinomial(blocks, even, size=_DRAWS_AT_ONCE).astype(np.float64)
        parts.append(np.asarray((counts.T @ weights.T).T))
    return parts


def _unstack(sums: Float64) -> tuple[Float64, Float64, Float64]:
    correct, actual, predicted = np.split(np.atleast_2d(sums), 3, axis=1)
    return correct, actual, predicted


def _f1_and_accuracy(sums: tuple[Float64, Float64, Float64]) -> Float64:
    """Return [draws, 2 + classes]: accuracy, macro-F1 of the classes with examples, F1 of each class or NaN."""
    correct, actual, predicted = sums
    f1 = np.where(actual > 0, 2 * correct / np.maximum(actual + predicted, 1), np.nan)
    return np.column_stack([correct.sum(axis=1) / np.maximum(actual.sum(axis=1), 1), np.nanmean(f1, axis=1), f1])


def _effective_groups(groups: NDArray[np.integer]) -> float:
    """Return the number of equally large groups that vary as much as these (Kish's effective sample size)."""
    sizes = np.bincount(groups).astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _expanded_level(groups: float) -> float:
    """Return the lower quantile of the expanded percentile interval, below 0.025."""
    freedom = max(groups - 1, 1.0)
    quantile = scipy.stats.t.ppf((1 - CONFIDENCE) / 2, freedom) * np.sqrt((freedom + 1) / freedom)
    return float(scipy.stats.norm.cdf(quantile))


def _groups_of(outcomes: Outcomes, label: int) -> int:
    """Return the number of groups with examples that are of a class or predicted as it."""
    return len(np.unique(outcomes.groups[(outcomes.labels == label) | (outcomes.predicted == label)]))


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
