"""A plain classifier to compare networks with: an SVM on what each coefficient does over a whole track."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import Shard, in_threads, read_row_group, read_track_ids
from featurize.dataset.schema import FOLDS, MFCC_SHAPE
from train.evaluation.metrics import score_predicted
from train.records import Scores

_MOST_TRACKS = 20_000  # an SVM's time grows with their square


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Every track in few numbers.

    Attributes:
        vectors: float32 [tracks, 80], the mean and then the deviation of each coefficient.
        labels: int32 [tracks].
        folds: int64 [tracks].
        copied: bool [tracks], True where another fold has the very rows as well.
        classes: the class names.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int32]
    folds: NDArray[np.int64]
    copied: NDArray[np.bool_]
    classes: list[str]


def describe_tracks(dataset: Dataset) -> Tracks:
    """Read a whole dataset once, and keep 80 numbers of each track."""
    copies = set().union(*(dataset.copies_across(fold) for fold in range(FOLDS)))
    segments = dataset.segments_per_track

    def describe(shard: Shard) -> tuple[NDArray[Any], ...]:
        vectors, labels = [], []
        for index in range(len(shard.row_groups)):
            mfcc, row_labels = read_row_group(shard, index)
            tracks = mfcc.reshape(-1, segments, *MFCC_SHAPE)
            vectors.append(np.concatenate([tracks.mean(axis=(1, 3)), tracks.std(axis=(1, 3))], axis=1))
            labels.append(row_labels[::segments])
        names = read_track_ids(shard, segments)
        folds = np.full(len(names), shard.fold)
        return np.concatenate(vectors), np.concatenate(labels), folds, np.array([n in copies for n in names])

    described = in_threads(describe, [shard for shard in dataset.shards if shard.rows])
    vectors, labels, folds, copied = (np.concatenate(column) for column in zip(*described, strict=True))
    return Tracks(vectors, labels, folds, copied, dataset.classes)


def evaluate_svm(tracks: Tracks, test_fold: int) -> Scores:
    """Train an SVM on all folds but one and judge it on that.

    scikit-learn's StandardScaler and SVC as they come: radial basis functions, C = 1. Of more than 20,000 tracks
    it learns from so many, drawn evenly.
    """
    learned = np.flatnonzero(tracks.folds != test_fold)
    learned = learned[np.linspace(0, len(learned) - 1, min(len(learned), _MOST_TRACKS)).astype(np.int64)]
    judged = np.flatnonzero((tracks.folds == test_fold) & ~tracks.copied)
    svm = make_pipeline(StandardScaler(), SVC())
    svm.fit(tracks.vectors[learned], tracks.labels[learned])
    predicted = svm.predict(tracks.vectors[judged])
    return score_predicted(predicted, tracks.labels[judged], tracks.classes)
