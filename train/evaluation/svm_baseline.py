"""An SVM on the mean and the standard deviation of each MFCC, as a baseline for the networks."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import Shard, in_threads, read_row_group, read_track_ids
from featurize.dataset.schema import MFCC_SHAPE
from train.evaluation.metrics import score_predicted
from train.records import Scores

_MAX_TRAINING_TRACKS = 20_000  # the training time of an SVM grows with the square


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Summary statistics of every track in the training folds of a dataset.

    Attributes:
        vectors: float32 [tracks, 80], the means and then the standard deviations of the 40 coefficients.
        labels: int32 [tracks], class indices.
        folds: int64 [tracks].
        copied: bool [tracks], True for a track with an exact duplicate in another fold.
        classes: Class names.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int32]
    folds: NDArray[np.int64]
    copied: NDArray[np.bool_]
    classes: list[str]


def describe_tracks(dataset: Dataset) -> Tracks:
    """Read the training folds once, and reduce each track to 80 numbers; official splits are left out."""
    folds = dataset.layout.training
    copies = set().union(*(dataset.copies_across(fold) for fold in folds))
    segments = dataset.segments_per_track

    def describe(shard: Shard) -> tuple[NDArray[Any], ...]:
        vectors, labels = [], []
        for index in range(len(shard.row_groups)):
            mfcc, row_labels = read_row_group(shard, index)
            tracks = mfcc.reshape(-1, segments, *MFCC_SHAPE)
            vectors.append(np.concatenate([tracks.mean(axis=(1, 3)), tracks.std(axis=(1, 3))], axis=1))
            labels.append(row_labels[::segments])
        names = read_track_ids(shard, segments)
        fold = np.full(len(names), shard.fold)
        return np.concatenate(vectors), np.concatenate(labels), fold, np.array([n in copies for n in names])

    described = in_threads(describe, dataset.in_folds(folds))
    vectors, labels, fold_of_tracks, copied = (np.concatenate(column) for column in zip(*described, strict=True))
    return Tracks(vectors, labels, fold_of_tracks, copied, dataset.classes)


def evaluate_svm(tracks: Tracks, test_fold: int) -> Scores:
    """Train an SVM on all training folds except one, and evaluate it on that fold.

    scikit-learn's StandardScaler and SVC with default settings: radial basis functions, C = 1. With more than
    20,000 training tracks, 20,000 evenly spaced ones are used.
    """
    train = np.flatnonzero(tracks.folds != test_fold)
    train = train[np.linspace(0, len(train) - 1, min(len(train), _MAX_TRAINING_TRACKS)).astype(np.int64)]
    test = np.flatnonzero((tracks.folds == test_fold) & ~tracks.copied)
    svm = make_pipeline(StandardScaler(), SVC())
    svm.fit(tracks.vectors[train], tracks.labels[train])
    predicted = svm.predict(tracks.vectors[test])
    return score_predicted(predicted, tracks.labels[test], tracks.classes)
