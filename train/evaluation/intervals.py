"""Confidence intervals of scores, from predictions and the groups of the tracks of a dataset."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.dataset.dataset import Dataset
from train.evaluation.bootstrap import GroupCounts, score_intervals
from train.evaluation.calibration import ReliabilityCounts
from train.evaluation.metrics import pool_tracks
from train.evaluation.predictions import Predictions
from train.score_records import Calibration, IntervalsByPart, ScoreIntervals


class Groups:
    """The group of each track of a dataset, such as its artist; a track without one is its own group."""

    def __init__(self, dataset: Dataset) -> None:
        """Read the table of tracks."""
        table = dataset.tracks().select(["track", "group"])
        self._tracks = table["track"].combine_chunks()
        groups = table["group"].combine_chunks().dictionary_encode()
        self._group_of = groups.indices.to_numpy()
        self.count = len(groups.dictionary)

    def of(self, tracks: pa.Array) -> NDArray[np.int64]:
        """Return the index of the group of each track.

        Raises:
            ValueError: A track is not in the dataset.
        """
        positions = pc.index_in(tracks, value_set=self._tracks)
        if positions.null_count:
            raise ValueError("tracks that are not in the dataset")
        found: NDArray[np.int64] = self._group_of[positions.to_numpy()].astype(np.int64)
        return found


def first_rows(part: Predictions) -> pa.Array:
    """Return the id of each track of some predictions."""
    tracks = part.segments["track"].combine_chunks()
    return tracks.take(pa.array(np.arange(0, len(tracks), part.per_track)))


def statistics_of(
    parts: Iterable[Predictions], groups: Groups, classes: int
) -> tuple[IntervalsByPart, Calibration]:
    """Return the confidence intervals of tracks and segments, and how far confidence can be trusted.

    Args:
        parts: Predictions of one run, or of all folds of a cross-validation.
        groups: Groups of the dataset.
        classes: Number of classes.

    Raises:
        ValueError: A track is not in the dataset.
    """
    of_tracks, of_segments = GroupCounts(groups.count, classes), GroupCounts(groups.count, classes)
    confidence = ReliabilityCounts()
    for part in parts:
        group = groups.of(first_rows(part))
        pooled, labels = pool_tracks(part.probabilities, part.labels, part.per_track)
        of_tracks.add(group, labels, pooled.argmax(axis=1))
        of_segments.add(np.repeat(group, part.per_track), part.labels, part.probabilities.argmax(axis=1))
        confidence.add(pooled, labels)
    intervals = IntervalsByPart(tracks=_record(of_tracks), segments=_record(of_segments))
    return intervals, Calibration(**dataclasses.asdict(confidence.result()))


def _record(counts: GroupCounts) -> ScoreIntervals | None:
    found = score_intervals(counts)
    if found is None:
        return None
    return ScoreIntervals(
        groups=found.groups,
        accuracy=list(found.accuracy),
        macro_f1=list(found.macro_f1),
        f1=[interval and list(interval) for interval in found.f1],
    )
