"""Which of the five folds each group of tracks belongs to: whole groups only, classes spread evenly."""

import math

import numpy as np
from numpy.typing import NDArray

from featurize.dataset import FOLDS

Int64 = NDArray[np.int64]

# numpy.isclose's, by which scikit-learn calls two folds equally good
_RELATIVE, _ABSOLUTE = 1e-5, 1e-8


def assign_folds(labels: Int64, groups: Int64, kept: Int64) -> Int64:
    """Deal groups into folds so that no group is split and every fold looks like the whole.

    The method is that of scikit-learn's `StratifiedGroupKFold`: groups, the most uneven first, go to the fold
    that keeps the class shares most alike, of equals to the one with the fewest tracks (which scikit-learn
    leaves to rounding). Written again here for two reasons: groups that are in a fold already stay there, and
    a million groups take seconds, because only the classes that a group holds are looked at.

    Args:
        labels: int64 [tracks], class indices without gaps.
        groups: int64 [tracks], group indices without gaps.
        kept: int64 [groups], the fold that a group has already, -1 where it has none.

    Returns:
        int64 [groups], 0 to FOLDS - 1. It depends only on which labels each group holds and on the order of
        the groups' indices, not on the order of the tracks.
    """
    n_classes, n_groups = int(labels.max()) + 1, len(kept)
    pairs, counts = np.unique(groups * n_classes + labels, return_counts=True)
    owner, label = np.divmod(pairs, n_classes)
    first = np.searchsorted(owner, np.arange(n_groups + 1))
    # The standard deviation of a group's counts over all classes, zeros included.
    squares, sums = np.bincount(owner, counts**2), np.bincount(owner, counts)
    unevenness = np.sqrt(np.maximum(squares / n_classes - (sums / n_classes) ** 2, 0))
    folds = kept.copy()
    filled = np.zeros((n_classes, FOLDS), np.int64)
    known = kept[owner] >= 0
    np.add.at(filled, (label[known], kept[owner[known]]), counts[known])
    sizes = filled.sum(axis=0).tolist()
    # Lists of integers: NumPy's calls would cost more than these few numbers.
    totals, held_by = np.bincount(label, counts).tolist(), filled.tolist()
    spreads = [_spread(row, total) for row, total in zip(held_by, totals, strict=True)]
    bounds, members = first.tolist(), list(zip(label.tolist(), counts.tolist(), strict=True))
    for group in np.argsort(-unevenness, kind="stable").tolist():
        if kept[group] >= 0:
            continue
        held = members[bounds[group] : bounds[group + 1]]
        others = sum(spreads) - sum(spreads[c] for c, _ in held)
        best, least, fewest = 0, math.inf, math.inf
        for fold in range(FOLDS):
            spread = others
            for c, count in held:
                held_by[c][fold] += count
                spread += _spread(held_by[c], totals[c])
                held_by[c][fold] -= count
            spread /= n_classes
            close = abs(spread - least) <= _ABSOLUTE + _RELATIVE * least
            if (not close and spread < least) or (close and sizes[fold] < fewest):
                best, least, fewest = fold, spread, sizes[fold]
        folds[group] = best
        for c, count in held:
            sizes[best] += count
            held_by[c][best] += count
            spreads[c] = _spread(held_by[c], totals[c])
    return folds


def _spread(counts: list[int], total: float) -> float:
    """Return the standard deviation over the folds of the share of a class that each holds."""
    mean = sum(counts) / FOLDS
    return math.sqrt(sum((count - mean) ** 2 for count in counts) / FOLDS) / total
