"""Assign groups of tracks to five folds: groups are never split, and classes are spread evenly."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.dataset.schema import FOLDS
from featurize.errors import FeaturizeError

Int64 = NDArray[np.int64]

# tolerances of numpy.isclose, which scikit-learn uses to compare folds
_RELATIVE, _ABSOLUTE = 1e-5, 1e-8


def resolve_folds(groups: pa.Array, labels: Int64, given: pa.Array, previous: Int64) -> Int64:
    """Return the fold of each track.

    A fold column of the table takes precedence; then groups of the previous plan keep their fold; all other groups
    are assigned by `assign_folds`.

    Args:
        groups: Name of the group of each track, string [tracks].
        labels: int64 [tracks], class indices without gaps.
        given: Fold of each track in the collection's table; all null if the table has no fold column.
        previous: int64 [tracks], fold of each track in the previous plan, -1 for new tracks.

    Returns:
        int64 [tracks], 0 to FOLDS - 1.

    Raises:
        FeaturizeError: The table splits a group, or there are fewer groups than folds.
    """
    names, group = _numbered(groups)
    if not given.null_count:
        folds: Int64 = given.to_numpy().astype(np.int64)
        _refuse_split_groups(folds, group, names)
        return folds
    if len(names) < FOLDS:
        raise FeaturizeError(
            f"expected at least {FOLDS} groups, one for each fold; found {len(names)}: "
            f"{', '.join(names.to_pylist())}. Groups are never split; --set featurize.group_by=none makes each "
            "track its own group."
        )
    # A group whose tracks were in several folds goes to the fold with most of them.
    votes = np.zeros((len(names), FOLDS), np.int64)
    known = previous >= 0
    np.add.at(votes, (group[known], previous[known]), 1)
    fixed = np.where(votes.any(axis=1), votes.argmax(axis=1), -1)
    folds_of_tracks: Int64 = assign_folds(labels, group, fixed)[group]
    return folds_of_tracks


def assign_folds(labels: Int64, groups: Int64, fixed: Int64) -> Int64:
    """Assign groups to folds so that every fold has about the same class distribution.

    The algorithm is that of scikit-learn's `StratifiedGroupKFold`: groups, in descending order of the standard
    deviation of their class counts, go to the fold that makes the class shares most even. Ties go to the fold with
    the fewest tracks (scikit-learn leaves ties to rounding). It is implemented here for two reasons: groups that
    already have a fold keep it, and a million groups take seconds because only the classes present in a group are
    evaluated.

    Args:
        labels: int64 [tracks], class indices without gaps.
        groups: int64 [tracks], group indices without gaps.
        fixed: int64 [groups], fold that a group keeps, -1 for groups to assign.

    Returns:
        int64 [groups], 0 to FOLDS - 1. The result depends on the labels of each group and on the group indices,
        not on the order of the tracks.
    """
    n_classes, n_groups = int(labels.max()) + 1, len(fixed)
    pairs, counts = np.unique(groups * n_classes + labels, return_counts=True)
    owner, label = np.divmod(pairs, n_classes)
    first = np.searchsorted(owner, np.arange(n_groups + 1))
    # Standard deviation of a group's class counts, zeros included.
    squares, sums = np.bincount(owner, counts**2), np.bincount(owner, counts)
    unevenness = np.sqrt(np.maximum(squares / n_classes - (sums / n_classes) ** 2, 0))
    folds = fixed.copy()
    filled = np.zeros((n_classes, FOLDS), np.int64)
    known = fixed[owner] >= 0
    np.add.at(filled, (label[known], fixed[owner[known]]), counts[known])
    sizes = filled.sum(axis=0).tolist()
    # Python lists: for so few numbers, NumPy's call overhead would dominate.
    totals, held_by = np.bincount(label, counts).tolist(), filled.tolist()
    spreads = [_spread(row, total) for row, total in zip(held_by, totals, strict=True)]
    bounds, members = first.tolist(), list(zip(label.tolist(), counts.tolist(), strict=True))
    for group in np.argsort(-unevenness, kind="stable").tolist():
        if fixed[group] >= 0:
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
    """Return the standard deviation, over the folds, of the share of a class in each fold."""
    mean = sum(counts) / FOLDS
    return math.sqrt(sum((count - mean) ** 2 for count in counts) / FOLDS) / total


def _numbered(groups: pa.Array) -> tuple[pa.Array, Int64]:
    """Return the group names in alphabetical order, and the index of each track's group, int64 [tracks]."""
    encoded = groups.dictionary_encode()
    by_name = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(by_name), np.int64)
    rank[by_name.to_numpy()] = np.arange(len(by_name))
    return encoded.dictionary.take(by_name), rank[encoded.indices.to_numpy()]


def _refuse_split_groups(folds: Int64, group: Int64, names: pa.Array) -> None:
    pairs = np.unique(group * FOLDS + folds) // FOLDS
    split = names.take(pa.array(np.unique(pairs[1:][pairs[1:] == pairs[:-1]]))).to_pylist()
    if split:
        named = ", ".join(repr(name) for name in split[:5])
        raise FeaturizeError(
            f"the table's fold column splits {len(split)} groups across several folds: {named}"
            f"{', ...' if len(split) > 5 else ''}. Give every track of a group the same fold, or leave the fold "
            "column out."
        )
