"""Sums of an evaluation, from which its scores follow: they are as large for a million rows as for ten."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from train.evaluation.metrics import Float64, Int32, confusion_of, loss_of, pool_tracks, score_confusion
from train.score_records import ProbabilityScores


class Totals:
    """Confusion matrix and loss of rows, which are segments or tracks.

    Counts do not depend on the order in which they are added. The losses of each lane are added in its order, and
    the sums of the lanes in theirs, so that the result has the same bits for any number of workers.
    """

    def __init__(self, classes: int, lanes: int) -> None:
        """Begin without rows."""
        self.confusion = np.zeros((classes, classes), np.int64)
        self.losses = np.zeros(lanes)

    def add(self, lane: int, probabilities: Float64, labels: Int32) -> None:
        """Add rows of a lane: float64 [rows, classes] and int32 [rows]."""
        self.confusion += confusion_of(probabilities.argmax(axis=1), labels, len(self.confusion))
        self.losses[lane] += loss_of(probabilities, labels)

    def scores(self, classes: Sequence[str]) -> ProbabilityScores:
        """Return the scores of the rows; at least one was added."""
        scores = score_confusion(self.confusion, classes)
        return ProbabilityScores(**dict(scores), loss=sum(self.losses.tolist()) / scores.count)


class FoldTotals:
    """Totals of the segments and of the tracks of a fold, which are added batch by batch."""

    def __init__(self, classes: int, per_track: int, lanes: int) -> None:
        """Begin without segments.

        Args:
            classes: Number of classes.
            per_track: Number of segments of each track.
            lanes: Number of lanes of the fold.
        """
        self.segments = Totals(classes, lanes)
        self.tracks = Totals(classes, lanes)
        self._per_track = per_track
        self._unfinished: tuple[list[Float64], list[Int32]] = (
            [],
            [],
        )  # segments of a track that is cut by a batch

    def add(self, lane: int, probabilities: Float64, labels: Int32) -> None:
        """Add segments of a lane, in stored order; a lane has whole tracks.

        Args:
            lane: Index of the lane.
            probabilities: float64 [segments, classes].
            labels: int32 [segments], class indices.
        """
        self.segments.add(lane, probabilities, labels)
        parts, labels_of_parts = self._unfinished
        parts.append(probabilities)
        labels_of_parts.append(labels)
        count = sum(map(len, labels_of_parts))
        if whole := count // self._per_track * self._per_track:
            joined, joined_labels = np.concatenate(parts), np.concatenate(labels_of_parts)
            self.tracks.add(lane, *pool_tracks(joined[:whole], joined_labels[:whole], self._per_track))
            self._unfinished = ([joined[whole:]], [joined_labels[whole:]])

    def scores(self, classes: Sequence[str]) -> tuple[ProbabilityScores, ProbabilityScores]:
        """Return the scores of segments and of tracks; of tracks by the mean of the probabilities of segments."""
        return self.segments.scores(classes), self.tracks.scores(classes)

    def to_numbers(self) -> NDArray[np.float64]:
        """Return all sums in one array, to be added to those of other workers."""
        parts = (self.segments, self.tracks)
        return np.concatenate([sums for part in parts for sums in (part.confusion.ravel(), part.losses)])

    def set_numbers(self, numbers: NDArray[np.float64]) -> None:
        """Replace all sums by those of an array as `to_numbers` returns it."""
        for part, values in zip((self.segments, self.tracks), np.split(numbers, 2), strict=True):
            part.confusion = values[: part.confusion.size].astype(np.int64).reshape(part.confusion.shape)
            part.losses = values[part.confusion.size :]
