"""Segments of each class: counts, checks for missing and small classes, and weights in the loss."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.display import one_line
from train.config import TrainConfig
from train.errors import TrainError

FEW_TRACKS = 20
_LARGEST_SKEW = 4


def segment_counts(dataset: Dataset, config: TrainConfig) -> dict[str, NDArray[np.int64]]:
    """Count the segments of each class, int64 [classes], in `train` and in each held-out fold, by its name."""
    counts = {part: np.zeros(len(dataset.classes), np.int64) for part in ("train", *config.held_out)}
    folds = {fold: part for part, fold in config.held_out.items()}
    for entry in dataset.info.counts:
        part = folds.get(entry.fold, "train")
        counts[part][dataset.classes.index(entry.label)] += entry.segments
    return counts


def refuse_missing_classes(dataset: Dataset, config: TrainConfig) -> None:
    """Check that every class has training tracks and every held-out fold has tracks.

    Raises:
        TrainError: A class has no tracks to learn from, or a held-out fold is empty.
    """
    counts = segment_counts(dataset, config)
    empty = [part for part, count in counts.items() if not count.sum()]
    unlearned = _join_names(dataset.classes, counts["train"] == 0)
    if empty or unlearned:
        raise TrainError(
            (
                f"no tracks are left for {' and '.join(empty)}. "
                if empty
                else f"no track to learn {unlearned} from. "
            )
            + "Groups are never divided over folds, so a class from very few artists can fall into one fold. "
            "Choose another train.test_fold or train.validation_fold=none, or featurize with "
            "featurize.group_by=none."
        )


def class_warnings(dataset: Dataset, config: TrainConfig) -> Iterator[str]:
    """Yield a warning for classes that are missing from a held-out fold, too small, or skewed.

    Call `refuse_missing_classes` first: every class must have training segments.
    """
    counts = segment_counts(dataset, config)
    for part, count in counts.items():
        if missing := _join_names(dataset.classes, count == 0):
            yield f"The {part} fold has no track of {missing}, so its scores do not cover them."
    if small := small_classes(dataset):
        named = ", ".join(f"{label} ({tracks})" for label, tracks in small.items())
        yield f"Fewer than {FEW_TRACKS} tracks: {named}. Their scores are unreliable: too few tracks."
    skew = counts["train"].max() / counts["train"].min()
    if skew > _LARGEST_SKEW and config.class_weights == "none" and config.sampling == "natural":
        yield (
            f"The largest class has {skew:.1f} times the segments of the smallest, which the model will tend to "
            "neglect. To give each class the same weight: --set train.class_weights=balanced, or "
            "--set train.sampling=balanced, with another --out"
        )


def small_classes(dataset: Dataset) -> dict[str, int]:
    """Return the number of tracks of each class that has fewer than FEW_TRACKS."""
    tracks = dict.fromkeys(dataset.classes, 0)
    for entry in dataset.info.counts:
        tracks[entry.label] += entry.tracks
    return {label: count for label, count in tracks.items() if count < FEW_TRACKS}


def class_weights(counts: NDArray[np.int64], config: TrainConfig) -> NDArray[np.float32]:
    """Return the weight of each class in the loss, float32 [classes]; the mean over all segments is 1."""
    if config.class_weights == "none" or config.sampling == "balanced":
        return np.ones(len(counts), np.float32)
    weights: NDArray[np.float32] = (counts.sum() / (len(counts) * counts)).astype(np.float32)
    return weights


def _join_names(classes: Sequence[str], mask: NDArray[np.bool_]) -> str:
    return ", ".join(one_line(name) for name, chosen in zip(classes, mask, strict=True) if chosen)
