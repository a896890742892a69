"""Remarks on the folds of a plan: the official split, and groups that it or the given folds divide."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.dataset.info import FoldLayout
from featurize.display import one_line
from featurize.planning.folds import GivenFolds, PreviousFolds

_NAMES_SHOWN = 5
_PURPOSES = {"train": "to train", "validation": "to validate", "test": "to test"}
_PARTS = tuple(_PURPOSES)


def fold_remarks(
    groups: pa.Array,
    given: GivenFolds,
    folds: NDArray[np.int32],
    layout: FoldLayout,
    previous: PreviousFolds | None,
) -> Iterator[str]:
    """Yield remarks for the log, a sentence or two each.

    Groups that a published split or the fold column divides are a remark and no error: both are used as published,
    because scores are compared with others' on the same split; the report of a run names these groups, too.

    Args:
        groups: Group of each track, string [tracks].
        given: Splits and folds that the collection gives.
        folds: int32 [tracks], resolved folds.
        layout: What the folds are for.
        previous: Folds in the previous plan; None without one.
    """
    was_official = previous is not None and bool(previous.layout.official)
    if not (layout.official or was_official) and given.fold.null_count == len(given.fold):
        return
    parts = _parts(folds, layout)
    if layout.official:
        counts = np.bincount(parts, minlength=len(_PARTS)).tolist()
        count_of = {part: count for part, count in zip(_PARTS, counts, strict=True) if count}
        sizes = [f"{count_of[part]} tracks {purpose}" for part, purpose in _PURPOSES.items() if part in count_of]
        yield f"The collection has an official split: {', '.join(sizes)}. Training uses the first part only."
        yield from _divided(groups, parts, "in more than one part of the official split")
    training = parts == 0
    if given.fold.filter(pa.array(training)).null_count < training.sum():
        inside = groups.filter(pa.array(training))
        yield from _divided(inside, folds[training], "in more than one fold, as the fold column says")
    if ignored := len(given.fold.filter(pa.array(~training)).drop_null()):
        yield f"{ignored} tracks of the official split have a fold as well: the split counts, not the fold."
    if previous:
        yield from _changes(parts, previous)


def _divided(groups: pa.Array, places: NDArray[np.generic], where: str) -> Iterator[str]:
    """Yield a remark on the groups that are in more than one place."""
    names = groups.dictionary_encode()
    pairs = pa.table({"group": names.indices, "place": places}).group_by("group").aggregate(
        [("place", "count_distinct")]
    )  # fmt: skip
    several = pairs.filter(pc.greater(pairs["place_count_distinct"], 1))["group"].combine_chunks()
    if not len(several):
        return
    shown = sorted(names.dictionary.take(several).to_pylist())
    more = f" and {len(shown) - _NAMES_SHOWN} more" if len(shown) > _NAMES_SHOWN else ""
    yield (
        f"{len(shown)} groups are {where}, which is used as it is: "
        f"{', '.join(map(one_line, shown[:_NAMES_SHOWN]))}{more}. The scores may be too good, because a model "
        "can recognize a group, such as an artist, instead of a genre."
    )


def _parts(folds: NDArray[np.int32], layout: FoldLayout) -> NDArray[np.int8]:
    """Return the part of the official split that each track is in, an index into _PARTS, int8 [tracks]."""
    parts = np.zeros(len(folds), np.int8)
    for part, number in layout.official.items():
        parts[folds == number] = _PARTS.index(part)
    return parts


def _changes(parts: NDArray[np.int8], previous: PreviousFolds) -> Iterator[str]:
    """Yield a remark if tracks of an earlier plan have entered or left an official split."""
    before = _parts(previous.fold, previous.layout)
    changed = (before != parts) & (previous.fold >= 0)
    if moved := int((changed & (parts != 0)).sum()):
        yield f"The official split has changed: it moved {moved} tracks of an earlier run, which are now held out."
    if moved := int((changed & (parts == 0)).sum()):
        yield f"{moved} tracks are no longer in an official split, and have been assigned to folds."
