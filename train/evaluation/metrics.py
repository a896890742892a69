"""Scores of predictions, for segments and for whole tracks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray

from train.score_records import ClassScores, Scores

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


def softmax(logits: NDArray[np.float32]) -> Float64:
    """Convert logits to probabilities.

    Args:
        logits: float32 [rows, classes].

    Returns:
        float64 [rows, classes]; each row sums to 1.
    """
    probabilities: Float64 = scipy.special.softmax(logits.astype(np.float64), axis=1)
    return probabilities


def pool_tracks(probabilities: Float64, labels: Int32, per_track: int) -> tuple[Float64, Int32]:
    """Average the probabilities of each track's segments.

    Args:
        probabilities: float64 [tracks * per_track, classes]; the segments of a track are adjacent.
        labels: int32 [tracks * per_track], class indices.
        per_track: Number of segments of each track.

    Returns:
        Probabilities of tracks, float64 [tracks, classes], and their labels, int32 [tracks].
    """
    return probabilities.reshape(-1, per_track, probabilities.shape[1]).mean(axis=1), labels[::per_track]


def confusion_of(predicted: NDArray[Any], labels: Int32, classes: int) -> Int64:
    """Count pairs of classes.

    Args:
        predicted: int [rows], class indices.
        labels: int32 [rows], class indices.
        classes: Number of classes.

    Returns:
        int64 [actual class, predicted class].
    """
    pairs = labels.astype(np.int64) * classes + predicted
    counts: Int64 = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return counts


def loss_of(probabilities: Float64, labels: Int32) -> float:
    """Return the sum of the cross-entropies of rows, in nats.

    Args:
        probabilities: float64 [rows, classes].
        labels: int32 [rows], class indices.
    """
    likelihood = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).sum())


def score_confusion(confusion: Int64, classes: Sequence[str]) -> Scores:
    """Score predicted classes; precision, recall and F1 are 0 where they are not defined.

    Args:
        confusion: int64 [actual class, predicted class], counts of rows, at least one.
        classes: Class names.
    """
    correct, actual, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = _divide(correct, predicted), _divide(correct, actual)
    f1 = _divide(2 * correct, actual + predicted)
    return Scores(
        count=int(actual.sum()),
        accuracy=float(correct.sum() / actual.sum()),
        macro_f1=float(f1[actual > 0].mean()),
        per_class=[
            ClassScores(
                label=label,
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                count=int(actual[i]),
            )
            for i, label in enumerate(classes)
        ],
        confusion=confusion.tolist(),
    )


def score_predicted(predicted: NDArray[Any], labels: Int32, classes: Sequence[str]) -> Scores:
    """Score predicted classes against labels.

    Args:
        predicted: int [rows], class indices.
        labels: int32 [rows], class indices.
        classes: Class names.
    """
    return score_confusion(confusion_of(predicted, labels, len(classes)), classes)


def _divide(parts: Int64, wholes: Int64) -> Float64:
    """Divide counts; 0 where the divisor is 0."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)
