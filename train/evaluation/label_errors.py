"""Tracks whose label is probably wrong, by confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021).

A track counts as one of class j, whatever its label, if its probability of j is at least the mean probability of j
among the tracks that are labeled j: a threshold that adapts to classes of which the model is generally unsure. The
share of the tracks of a label that count as another class is the share of wrong labels to expect there. As many
tracks are named, those whose label is least probable beside their most probable class ("prune by class").
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """Tracks whose label is probably wrong, the surest first.

    Attributes:
        tracks: int64, indices of the tracks.
        suggested: int64, class index of each of them that fits better.
        margin: float64, probability of the suggested class minus that of the label, for each of them.
    """

    tracks: NDArray[np.int64]
    suggested: NDArray[np.int64]
    margin: Float64


def find_label_errors(probabilities: Float64, labels: Int32) -> LabelErrors:
    """Find the tracks whose label is probably wrong.

    Args:
        probabilities: float64 [tracks, classes], of models that were not trained on the track.
        labels: int32 [tracks], class indices.
    """
    tracks, classes = probabilities.shape
    totals = np.bincount(labels, minlength=classes)
    thresholds = _thresholds(probabilities, labels, totals)
    passed = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted, counts = passed.argmax(axis=1), passed.max(axis=1) >= 0
    best = probabilities.argmax(axis=1)
    margin = probabilities[np.arange(tracks), best] - probabilities[np.arange(tracks), labels]
    named: list[int] = []
    for label in range(classes):
        of_label = labels == label
        wrong, all_counted = (of_label & counts & (counted != label)).sum(), (of_label & counts).sum()
        expected = round(float(wrong * totals[label] / max(all_counted, 1)))
        doubtful = np.flatnonzero(of_label & (margin > 0))
        named += doubtful[np.argsort(-margin[doubtful], kind="stable")][:expected].tolist()
    ranked = np.array(sorted(named, key=lambda track: (-margin[track], track)), np.int64)
    return LabelErrors(ranked, best[ranked], margin[ranked])


def _thresholds(probabilities: Float64, labels: Int32, totals: NDArray[np.int64]) -> Float64:
    """Return the mean probability of each class among the tracks labeled so; 2 for a class without tracks."""
    own = np.bincount(labels, probabilities[np.arange(len(labels)), labels], len(totals))
    return np.where(totals > 0, own / np.maximum(totals, 1), 2.0)
