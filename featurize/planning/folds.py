"""Which of the five folds each group of tracks belongs to: whole groups only, classes spread evenly."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.dataset.schema import FOLDS
from featurize.errors import FeaturizeError

Int64 = NDArray[np.int64]

# numpy.isclose's, by which scikit-learn calls two folds equally good
_RELATIVE, _ABSOLUTE = 1e-5, 1e-8


def resolve_folds(groups: pa.Array, labels: Int64, given: pa.Array, before: Int64) -> Int64:
    """Say which fold each track is in.

    Args:
        groups: the name of the group of each track.
        labels: int64 [tracks], class indices without gaps.
        given: the fold that a table gives for each track, all null where it gives none.
        before: int64 [tracks], the fold that a track has in the dataset as it is, -1 where it is new.

    Returns:
        int64 [tracks], 0 to FOLDS - 1: the table's, else for known groups the fold they are in, else dealt.

    Raises:
        FeaturizeError: the table divides a group, or there are fewer groups than folds.
    """
    names, group = _numbered(groups)
    if not given.null_count:
        folds: Int64 = given.to_numpy().astype(np.int64)
        _refuse_divided(folds, group, names)
        return folds
    if len(names) < FOLDS:
        raise FeaturizeError(
            f"expected at least {FOLDS} groups, one for each fold; found {len(names)}: "
            f"{', '.join(names.to_pylist())}. Groups are never divided; --set featurize.group_by=none makes each "
            "track its own group."
        )
    # Where tracks of several folds have become one group, it goes where most of them are.
    votes = np.zeros((len(names), FOLDS), np.int64)
    known = before >= 0
    np.add.at(votes, (group[known], before[known]), 1)
    kept = np.where(votes.any(axis=1), votes.argmax(axis=1), -1)
    dealt: Int64 = assign_folds(labels, group, kept)[group]
    return dealt


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


def _numbered(groups: pa.Array) -> tuple[pa.Array, Int64]:
    """Return the names of the groups in alphabetical order, and the place of each track's group among them."""
    encoded = groups.dictionary_encode()
    by_name = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(by_name), np.int64)
    rank[by_name.to_numpy()] = np.arange(len(by_name))
    return encoded.dictionary.take(by_name), rank[encoded.indices.to_numpy()]


def _refuse_divided(folds: Int64, group: Int64, names: pa.Array) -> None:
    pairs = np.unique(group * FOLDS + folds) // FOLDS
    divided = names.take(pa.array(np.unique(pairs[1:][pairs[1:] == pairs[:-1]]))).to_pylist()
    if divided:
        named = ", ".join(repr(name) for name in divided[:5])
        raise FeaturizeError(
            f"the table's fold column splits {len(divided)} groups over several folds: {named}"
            f"{', ...' if len(divided) > 5 else ''}. Give every track of a group the same fold, or leave the fold "
            "column out."
        )
