"""An SVM on the mean and the standard deviation of each feature, as a baseline for the networks."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featurize.dataset.dataset import Dataset
from featurize.dataset.reader import Shard, read_row_group, read_track_ids
from train.evaluation.metrics import score_predicted
from train.score_records import Scores

# The columns of `Tracks` for one shard: vectors, labels, folds, copied, ids.
ShardVectors = tuple[
    NDArray[np.float32], NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_], NDArray[np.object_]
]

_MAX_TRAINING_TRACKS = 20_000  # the training time of an SVM grows with the square


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Summary statistics of every track in the training folds of a dataset.

    Attributes:
        vectors: float32 [tracks, 2 * features], the means and then the standard deviations of the features.
        labels: int32 [tracks], class indices.
        folds: int64 [tracks].
        copied: bool [tracks], True for a track with an exact duplicate in another fold.
        ids: object [tracks], the id of each track, a str.
        classes: Class names.
    """

    vectors: NDArray[np.float32]
    labels: NDArray[np.int32]
    folds: NDArray[np.int64]
    copied: NDArray[np.bool_]
    ids: NDArray[np.object_]
    classes: list[str]


def shards_to_describe(dataset: Dataset) -> list[tuple[Shard, int, frozenset[str]]]:
    """Return the arguments of `describe_shard` for each shard of the training folds, without official splits."""
    folds = dataset.layout.training
    copies = set().union(*(dataset.copies_across(fold) for fold in folds))
    tracks = dataset.tracks().select(["track", "shard"])
    copied = tracks.filter(pc.is_in(tracks["track"], value_set=pa.array(sorted(copies), pa.string())))
    by_shard: dict[str, set[str]] = {}
    for row in copied.to_pylist():
        by_shard.setdefault(row["shard"], set()).add(row["track"])
    return [
        (shard, dataset.segments_per_track, frozenset(by_shard.get(shard.name, ())))
        for shard in dataset.in_folds(folds)
    ]


def describe_shard(shard: Shard, segments: int, copies: frozenset[str]) -> ShardVectors:
    """Reduce each track of a shard to two numbers a feature.

    Args:
        shard: A shard with rows.
        segments: Number of rows of each track.
        copies: Ids of its tracks that have an exact duplicate in another fold.
    """
    vectors, labels = [], []
    for index in range(len(shard.row_groups)):
        mfcc, row_labels = read_row_group(shard, index)
        tracks = mfcc.reshape(-1, segments, *shard.format.shape)
        vectors.append(np.concatenate([tracks.mean(axis=(1, 3)), tracks.std(axis=(1, 3))], axis=1))
        labels.append(row_labels[::segments])
    ids = read_track_ids(shard, segments)
    copied = np.array([name in copies for name in ids], np.bool_)
    folds = np.full(len(ids), shard.fold)
    return np.concatenate(vectors), np.concatenate(labels), folds, copied, np.array(ids, np.object_)


def join_shards(described: Iterable[ShardVectors], classes: list[str]) -> Tracks:
    """Join the results of `describe_shard`, which are in the order of `shards_to_describe`."""
    vectors, labels, folds, copied, ids = (np.concatenate(column) for column in zip(*described, strict=True))
    return Tracks(vectors, labels, folds, copied, ids, classes)


def predict_svm(tracks: Tracks, test_fold: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Train an SVM on all training folds except one, and predict the tracks of that fold.

    Returns:
        int64 [predicted tracks], their indices, without those that have a copy in another fold; and int32, their
        predicted classes.

    scikit-learn's StandardScaler and SVC with default settings: radial basis functions, C = 1. With more than
    20,000 training tracks, 20,000 evenly spaced ones are used.
    """
    train = np.flatnonzero(tracks.folds != test_fold)
    train = train[np.linspace(0, len(train) - 1, min(len(train), _MAX_TRAINING_TRACKS)).astype(np.int64)]
    test = np.flatnonzero((tracks.folds == test_fold) & ~tracks.copied)
    svm = make_pipeline(StandardScaler(), SVC())
    svm.fit(tracks.vectors[train], tracks.labels[train])
    return test, svm.predict(tracks.vectors[test])


def score_svm(tracks: Tracks, test: NDArray[np.int64], predicted: NDArray[np.int32]) -> Scores:
    """Return the scores of what `predict_svm` returned."""
    return score_predicted(predicted, tracks.labels[test], tracks.classes)
