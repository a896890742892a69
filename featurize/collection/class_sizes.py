"""Refuse a collection whose classes are too few or too small to train a classifier and to evaluate it."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from featurize.dataset.schema import FOLDS
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

_CLASSES_SHOWN = 10


def refuse_unusable_classes(tracks: pa.Table, place: StoragePath, hint: str = "") -> None:
    """Check that there are two classes, that each has tracks to train on, and that one is in every fold.

    Classes that are missing from single folds are refused or remarked on when a model is trained.

    Args:
        tracks: Tracks with the columns label, fold and split, as in a catalog.
        place: The collection, for messages.
        hint: Sentence that follows the message on too few classes.

    Raises:
        FeaturizeError: They are not.
    """
    labels = tracks["label"]
    sizes = _count(labels)
    if len(sizes) < 2:
        raise FeaturizeError(
            f"expected at least 2 classes in {place}, found {len(sizes)}{': ' + _shown(sizes) if sizes else ''}."
            f"{hint}"
        )
    official = pc.is_in(tracks["split"], value_set=pa.array(["validation", "test"]))
    training = _count(labels.filter(pc.invert(official)))
    if held_out := {label: count for label, count in sizes.items() if label not in training}:
        raise FeaturizeError(
            f"the split of {place} has no track to train {len(held_out)} of its {len(sizes)} classes on, only "
            f"tracks to validate or test: {_shown(held_out)}. Move some of their tracks to the training part, or "
            "remove these classes."
        )
    has_test = pc.any(pc.equal(tracks["split"], "test")).as_py()
    folds_given = tracks["fold"].filter(pc.invert(official)).drop_null()
    needed = 1 if has_test else 2 if len(folds_given) else FOLDS
    if max(training.values()) < needed:
        why = "one to train on and one to test" if needed == 2 else "one for each fold"
        raise FeaturizeError(
            f"expected at least {needed} tracks in a class, {why}; found {_shown(sizes)}. Add tracks to the "
            "collection, or use labels that more tracks have."
        )


def _count(labels: pa.ChunkedArray) -> dict[str, int]:
    return {label["values"]: label["counts"] for label in pc.value_counts(labels).to_pylist()}


def _shown(sizes: Mapping[str, int]) -> str:
    """Return classes with their numbers of tracks; of many classes, the largest number and the first names."""
    named = [f"{one_line(label)}: {count}" for label, count in list(sizes.items())[:_CLASSES_SHOWN]]
    if len(sizes) <= _CLASSES_SHOWN:
        return ", ".join(named)
    return (
        f"at most {max(sizes.values())} in each of {len(sizes)} classes ({', '.join(named)} and "
        f"{len(sizes) - _CLASSES_SHOWN} more)"
    )
