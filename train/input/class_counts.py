"""Segments of each class: counts, warnings about small classes, and weights in the loss."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from featurize.display import one_line
from train.config import TrainConfig
from train.folds import fold_roles

FEW_TRACKS = 20
_LARGEST_SKEW = 4


def segment_counts(dataset: Dataset, config: TrainConfig) -> dict[str, NDArray[np.int64]]:
    """Count the segments of each class, int64 [classes], in `train` and in each held-out part, by its name."""
    parts = fold_roles(config, dataset.layout).parts
    counts = {part: np.zeros(len(dataset.classes), np.int64) for part in parts}
    for entry in dataset.info.counts:
        for part, folds in parts.items():
            if entry.fold in folds:
                counts[part][dataset.classes.index(entry.label)] += entry.segments
    return counts


def class_warnings(dataset: Dataset, config: TrainConfig) -> Iterator[str]:
    """Yield a warning for classes that are missing from a held-out fold, too small, or skewed.

    Call `train.input.missing_classes.refuse_missing_classes` first: every class must have training segments.
    """
    counts = segment_counts(dataset, config)
    held_out = fold_roles(config, dataset.layout).held_out
    for part, count in counts.items():
        if missing := _join_names(dataset.classes, count == 0):
            where = "split" if held_out[part] in dataset.layout.official.values() else "fold"
            yield f"The {part} {where} has no track of {missing}, so its scores do not cover them."
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
