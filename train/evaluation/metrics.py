"""Scores of predictions, for segments and for whole tracks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from train.records import ClassScores, ProbabilityScores, Scores

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]


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


def score(probabilities: Float64, labels: Int32, classes: Sequence[str]) -> ProbabilityScores:
    """Score predicted probabilities against labels.

    Args:
        probabilities: float64 [rows, classes].
        labels: int32 [rows], class indices.
        classes: Class names.
    """
    likelihood = probabilities[np.arange(len(labels)), labels]
    return ProbabilityScores(
        **dict(score_predicted(probabilities.argmax(axis=1), labels, classes)),
        loss=float(-np.log(np.maximum(likelihood, np.finfo(np.float64).tiny)).mean()),
    )


def score_predicted(predicted: NDArray[Any], labels: Int32, classes: Sequence[str]) -> Scores:
    """Score predicted classes against labels.

    Args:
        predicted: int [rows], class indices.
        labels: int32 [rows], class indices.
        classes: Class names.
    """
    indices = np.arange(len(classes))
    precision, recall, f1, count = precision_recall_fscore_support(
        labels, predicted, labels=indices, zero_division=0.0
    )
    return Scores(
        count=len(labels),
        accuracy=float(np.mean(predicted == labels)),
        macro_f1=float(f1[count > 0].mean()),
        per_class=[
            ClassScores(
                label=label,
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
                count=int(count[i]),
            )
            for i, label in enumerate(classes)
        ],
        confusion=confusion_matrix(labels, predicted, labels=indices).tolist(),
    )


def score_both(
    probabilities: Float64, labels: Int32, per_track: int, classes: Sequence[str]
) -> tuple[ProbabilityScores, ProbabilityScores]:
    """Return the scores of segments, and of tracks by the mean of the probabilities of their segments."""
    return (
        score(probabilities, labels, classes),
        score(*pool_tracks(probabilities, labels, per_track), classes),
    )
