"""Calibration: whether a probability of 0.8 is right in 80 of 100 cases, and the temperature that makes it so."""

import dataclasses

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

BINS = 15
_COLDEST, _HOTTEST = 0.05, 20.0


@dataclasses.dataclass(frozen=True)
class Reliability:
    """How often predictions are right, by their confidence.

    Attributes:
        count: Number of predictions in each of BINS bins of equal width of the confidence, from 0 to 1.
        confidence: Mean confidence in each bin; 0 in an empty one.
        accuracy: Share of correct predictions in each bin; 0 in an empty one.
        error: Expected calibration error: the mean difference between confidence and accuracy, weighted by the
            count (Naeini et al., AAAI 2015; Guo et al., ICML 2017).
    """

    count: list[int]
    confidence: list[float]
    accuracy: list[float]
    error: float


class ReliabilityCounts:
    """Counts of predictions by their confidence; they are added part by part."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._count = np.zeros(BINS, np.int64)
        self._confidence = np.zeros(BINS)
        self._correct = np.zeros(BINS, np.int64)

    def add(self, probabilities: Float64, labels: NDArray[np.integer]) -> None:
        """Add predictions.

        Args:
            probabilities: float64 [examples, classes].
            labels: int [examples], actual class indices.
        """
        confidence = probabilities.max(axis=1)
        bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        self._count += np.bincount(bins, minlength=BINS)
        self._confidence += np.bincount(bins, confidence, BINS)
        self._correct += np.bincount(bins[probabilities.argmax(axis=1) == labels], minlength=BINS)

    def result(self) -> Reliability:
        """Compare the confidence of the predictions with their accuracy; there must be at least one."""
        filled = np.maximum(self._count, 1)
        confidence, accuracy = self._confidence / filled, self._correct / filled
        error = float((self._count * np.abs(confidence - accuracy)).sum() / self._count.sum())
        return Reliability(self._count.tolist(), confidence.tolist(), accuracy.tolist(), error)


def fit_temperature(probabilities: Float64, labels: NDArray[np.integer], per_track: int) -> float:
    """Return the temperature by which logits are divided so that the probabilities of tracks fit best.

    The probabilities of a track are the mean of those of its segments; the temperature minimizes their
    cross-entropy (temperature scaling: Guo et al., ICML 2017). It never changes which class of a segment is the
    most probable one.

    Args:
        probabilities: float64 [tracks * per_track, classes], at temperature 1; the segments of a track are
            adjacent. Examples that the model was not trained on.
        labels: int [tracks * per_track], actual class indices.
        per_track: Number of segments of each track.

    Returns:
        A number from 0.05 to 20.
    """
    log_probabilities = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    of_tracks = np.asarray(labels[::per_track])
    tracks = np.arange(len(of_tracks))

    def cross_entropy(log_temperature: float) -> float:
        segments = scipy.special.softmax(log_probabilities / np.exp(log_temperature), axis=1)
        means = segments.reshape(len(of_tracks), per_track, -1).mean(axis=1)
        likelihood = means[tracks, of_tracks]
        return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean())

    found = scipy.optimize.minimize_scalar(
        cross_entropy, bounds=(np.log(_COLDEST), np.log(_HOTTEST)), method="bounded", options={"xatol": 1e-4}
    )
    return float(np.exp(found.x))
