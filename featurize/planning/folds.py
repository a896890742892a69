"""Assign tracks to folds: given splits and folds are kept, other groups stay whole, classes are spread evenly."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.column_file import is_ascending
from featurize.dataset.info import FoldLayout
from featurize.dataset.schema import FOLDS
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.planning.groups import Groups

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

# tolerances of numpy.isclose, which scikit-learn uses to compare folds
_RELATIVE, _ABSOLUTE = 1e-5, 1e-8
_GROUPS_AT_ONCE = 100_000


@dataclasses.dataclass(frozen=True)
class GivenFolds:
    """What the collection says about the folds of its tracks.

    Attributes:
        split: `validation`, `test`, or `train` or null for the training part, string [tracks].
        fold: Fold of each track from 0, null if none is given, int32 [tracks]. Those of tracks outside the
            training part are ignored: each official split is a fold.
    """

    split: pa.Array
    fold: pa.Array

    @property
    def training(self) -> NDArray[np.bool_]:
        """Whether each track is in the training part, bool [tracks]."""
        official = pc.is_in(self.split, value_set=pa.array(["validation", "test"]))
        return ~np.asarray(official.to_numpy(zero_copy_only=False), np.bool_)

    @property
    def has_test(self) -> bool:
        """Whether the collection has an official test split."""
        return bool(pc.any(pc.equal(self.split, "test")).as_py())


@dataclasses.dataclass(frozen=True)
class PreviousFolds:
    """Folds of the tracks in the previous plan.

    Attributes:
        fold: int32 [tracks], -1 for new tracks, or if the groups came from another source.
        layout: What the folds were for.
    """

    fold: Int32
    layout: FoldLayout


def resolve_folds(
    groups: Groups, labels: Int32, given: GivenFolds, previous: PreviousFolds | None
) -> tuple[Int32, FoldLayout]:
    """Return the fold of each track, and what the folds are for.

    The official validation and test splits are a fold each, whatever the groups of their tracks. In the training
    part, a given fold takes precedence. Other tracks of its group follow it, and go to the fold with most of them
    if there are several. Then groups of the previous plan keep their fold. All other groups are assigned by
    `assign_folds`.

    Args:
        groups: Group of each track.
        labels: int32 [tracks], class indices.
        given: Splits and folds that the collection gives.
        previous: Folds in the previous plan; None without one.

    Returns:
        int32 [tracks], and the layout.

    Raises:
        FeaturizeError: There are too few groups or folds.
    """
    training = given.training
    fold = np.where(training, given.fold.fill_null(-1).to_numpy(), np.int32(-1))
    names, group = _numbered(groups.groups if training.all() else groups.groups.filter(pa.array(training)))
    is_given = bool((fold >= 0).any())
    numbers = _training_folds(given, fold[training], len(names), previous)
    if not (is_given or given.has_test) and len(names) < len(numbers):
        raise FeaturizeError(_too_few_groups(names.to_pylist(), len(numbers), groups.grouping))
    before = np.full(len(group), -1, np.int32)
    if previous:
        before = np.where(np.isin(previous.fold, previous.layout.training), previous.fold, np.int32(-1))[training]
    folds = np.full(len(fold), -1, np.int32)
    folds[training] = _deal(labels[training], group, fold[training], before, np.array(numbers, np.int32))
    if is_given or given.has_test:
        numbers = np.unique(folds[training]).tolist()
    if len(numbers) < 2 and not given.has_test:
        raise FeaturizeError(
            f"expected at least 2 folds, found 1: {numbers[0]} is the only fold that the table gives. Give other "
            "tracks another fold, or leave the fold column out."
        )
    layout = _layout(numbers, given, previous)
    for part, number in layout.official.items():
        folds[pc.fill_null(pc.equal(given.split, part), False).to_numpy(zero_copy_only=False)] = number
    return folds, layout


def _training_folds(given: GivenFolds, fold: Int32, groups: int, previous: PreviousFolds | None) -> list[int]:
    """Return the numbers of the folds that the training part may be in.

    Args:
        given: Splits and folds that the collection gives.
        fold: int32 [tracks of the training part], given folds, -1 for none.
        groups: Number of groups in the training part.
        previous: Folds in the previous plan.
    """
    present = np.unique(fold[fold >= 0])
    if len(present) and (fold >= 0).all():
        return list(present.tolist())
    if len(present):
        # A number that is skipped is a fold in which no track is given yet, unless it is an official split.
        elsewhere = set(given.fold.drop_null().unique().to_pylist()) - set(present.tolist())
        return [number for number in range(int(present[-1]) + 1) if number not in elsewhere]
    if previous:
        return previous.layout.training
    return list(range(min(FOLDS, groups) if given.has_test else FOLDS))


def _layout(numbers: list[int], given: GivenFolds, previous: PreviousFolds | None) -> FoldLayout:
    """Return the layout: official splits keep their numbers, new ones get the next after the training folds."""
    parts = [part for part in ("validation", "test") if pc.any(pc.equal(given.split, part)).as_py()]
    known = previous.layout.official if previous else {}
    official = {part: known[part] for part in parts if known.get(part, numbers[0]) not in numbers}
    for part in parts:
        if part not in official:
            taken = {*numbers, *official.values()}
            official[part] = next(number for number in itertools.count(numbers[-1] + 1) if number not in taken)
    return FoldLayout(training=numbers, **official)


def _deal(labels: Int32, group: Int32, given: Int32, previous: Int32, numbers: Int32) -> Int32:
    """Return the fold of each track of the training part, int32 [tracks].

    Args:
        labels: int32 [tracks], class indices.
        group: int32 [tracks], group indices without gaps.
        given: int32 [tracks], given folds, -1 for none.
        previous: int32 [tracks], folds in the previous plan, -1 for none.
        numbers: int32 [folds], numbers of the folds, ascending.
    """
    if (given >= 0).all():
        return given
    count = len(numbers)
    own = _positions(given, numbers)
    kept = _majority(group, own, count)
    kept = np.where(kept >= 0, kept, _majority(group, _positions(previous, numbers), count))
    # Tracks of a group that are given another fold than the rest are a separate unit, so that their classes
    # count in that fold.
    if (own >= 0).any():
        units, unit = np.unique(group * np.int64(count + 1) + own + 1, return_inverse=True)
        unit = unit.astype(np.int32)
        owner, own_of_unit = np.divmod(units, count + 1)
        fixed = np.where(own_of_unit > 0, own_of_unit - 1, kept[owner])
    else:
        unit, fixed = group, kept
    present = np.bincount(labels) > 0
    without_gaps = (np.cumsum(present) - 1).astype(np.int32)[labels]
    folds: Int32 = numbers[assign_folds(without_gaps, unit, fixed, count)[unit]]
    return folds


def _positions(folds: Int32, numbers: Int32) -> Int32:
    """Return the position of each fold in `numbers`, -1 if it is not there."""
    positions = np.minimum(np.searchsorted(numbers, folds), len(numbers) - 1).astype(np.int32)
    return np.where(numbers[positions] == folds, positions, np.int32(-1))


def _majority(group: Int32, folds: Int32, count: int) -> Int64:
    """Return the fold with most tracks of each group, the first of equals, int64 [groups]; -1 if there is none."""
    votes = np.zeros((int(group.max()) + 1, count), np.int64)
    known = folds >= 0
    np.add.at(votes, (group[known], folds[known]), 1)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


def assign_folds(labels: Int32, groups: Int32, fixed: Int64, n_folds: int = FOLDS) -> Int64:
    """Assign groups to folds so that every fold has about the same class distribution.

    The algorithm is that of scikit-learn's `StratifiedGroupKFold`: groups, in descending order of the standard
    deviation of their class counts, go to the fold that makes the class shares most even. Ties go to the fold with
    the fewest tracks (scikit-learn leaves ties to rounding). It is implemented here for two reasons: groups that
    already have a fold keep it, and a million groups take seconds because only the classes present in a group are
    evaluated.

    Args:
        labels: int32 [tracks], class indices without gaps.
        groups: int32 [tracks], group indices without gaps.
        fixed: int64 [groups], fold that a group keeps, -1 for groups to assign.
        n_folds: Number of folds.

    Returns:
        int64 [groups], 0 to n_folds - 1. The result depends on the labels of each group and on the group indices,
        not on the order of the tracks.
    """
    n_classes, n_groups = int(labels.max()) + 1, len(fixed)
    pairs, counts = np.unique(groups * np.int64(n_classes) + labels, return_counts=True)
    owner, label = np.divmod(pairs, n_classes)
    first = np.searchsorted(owner, np.arange(n_groups + 1))
    # Standard deviation of a group's class counts, zeros included.
    squares, sums = np.bincount(owner, counts**2), np.bincount(owner, counts)
    unevenness = np.sqrt(np.maximum(squares / n_classes - (sums / n_classes) ** 2, 0))
    folds = fixed.copy()
    filled = np.zeros((n_classes, n_folds), np.int64)
    known = fixed[owner] >= 0
    np.add.at(filled, (label[known], fixed[owner[known]]), counts[known])
    sizes = filled.sum(axis=0).tolist()
    # Python lists: for so few numbers, NumPy's call overhead would dominate.
    totals, held_by = np.bincount(label, counts).tolist(), filled.tolist()
    spreads = [_spread(row, total) for row, total in zip(held_by, totals, strict=True)]
    order = np.argsort(-unevenness, kind="stable")
    for group, held in _members(order[fixed[order] < 0], first, label, counts):
        others = sum(spreads) - sum(spreads[c] for c, _ in held)
        best, least, fewest = 0, math.inf, math.inf
        for fold in range(n_folds):
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


def _members(
    groups: Int64, first: Int64, label: Int64, counts: Int64
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield groups with their classes and the counts of these; Python objects are made for some at a time.

    Args:
        groups: int64, the groups to yield, in this order.
        first: int64 [all groups + 1], bounds of each group in `label` and `counts`.
        label: int64, class of each pair of a group and a class.
        counts: int64, number of tracks of each pair.
    """
    for begin in range(0, len(groups), _GROUPS_AT_ONCE):
        some = groups[begin : begin + _GROUPS_AT_ONCE]
        stops = np.cumsum(first[some + 1] - first[some])
        rows = np.arange(stops[-1]) + np.repeat(first[some + 1] - stops, first[some + 1] - first[some])
        members = list(zip(label[rows].tolist(), counts[rows].tolist(), strict=True))
        start = 0
        for group, stop in zip(some.tolist(), stops.tolist(), strict=True):
            yield group, members[start:stop]
            start = stop


def _spread(counts: list[int], total: float) -> float:
    """Return the standard deviation, over the folds, of the share of a class in each fold."""
    mean = sum(counts) / len(counts)
    return math.sqrt(sum((count - mean) ** 2 for count in counts) / len(counts)) / total


def _numbered(groups: pa.Array) -> tuple[pa.Array, Int32]:
    """Return the group names in alphabetical order, and the index of each track's group, int32 [tracks]."""
    if is_ascending(groups):  # as where each track is its own group
        return groups, np.arange(len(groups), dtype=np.int32)
    encoded = groups.dictionary_encode()
    by_name = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(by_name), np.int32)
    rank[by_name.to_numpy()] = np.arange(len(by_name), dtype=np.int32)
    return encoded.dictionary.take(by_name), rank[encoded.indices.to_numpy()]


def _too_few_groups(names: Sequence[str], folds: int, grouping: str) -> str:
    """Return the message on fewer groups than folds; what can be done depends on where the groups come from."""
    advice = {
        "none": "Add tracks to the collection.",
        "table": "Add tracks of other groups to the table; or leave its group column out and type --set "
        "featurize.group_by=none, which makes each track its own group.",
    }.get(grouping, "--set featurize.group_by=none makes each track its own group.")
    return (
        f"expected at least {folds} groups, one for each fold; found {len(names)}: "
        f"{', '.join(one_line(name) for name in names)}. Groups are never split. {advice}"
    )
