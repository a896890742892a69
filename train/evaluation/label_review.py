"""What to look at in the labels of a collection, from a finished cross-validation and the features.

Every track is predicted by the model of the fold that it was not trained on, so a label that the model contradicts
is either an error of the model or one of the label; `label_errors` says which tracks to look at first.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from featurize.dataset.dataset import Dataset
from featurize.dataset.output_folder import refuse_foreign_run_folder
from featurize.dataset.reader import in_threads
from featurize.errors import EarmarkError
from train.errors import TrainError
from train.evaluation.cross_validation import run_folder
from train.evaluation.label_errors import Float64, Int32, find_label_errors
from train.evaluation.metrics import pool_tracks
from train.evaluation.near_copies import MOST_TRACKS, describe_tracks, families, find_near_copies
from train.evaluation.prediction_parts import read_predictions
from train.run import Run
from train.run_checks import refuse_other_runs

_NEIGHBORS = 5
_FAR = 6.0  # robust standard deviations


@dataclasses.dataclass(frozen=True)
class Predicted:
    """The tracks of a cross-validation, each predicted by a model that was not trained on it.

    Attributes:
        tracks: Ids of the tracks.
        labels: int32 [tracks], class indices.
        probabilities: float64 [tracks, classes], the mean over the segments of a track.
        timelines: Predicted class index of each segment of each track.
        classes: Class names.
    """

    tracks: list[str]
    labels: Int32
    probabilities: Float64
    timelines: list[list[int]]
    classes: list[str]


@dataclasses.dataclass(frozen=True)
class DoubtfulLabel:
    """A track whose label is probably wrong.

    Attributes:
        track: Id of the track.
        label, suggested: Class names.
        label_probability, suggested_probability: Probabilities of both.
    """

    track: str
    label: str
    suggested: str
    label_probability: float
    suggested_probability: float


@dataclasses.dataclass(frozen=True)
class Copies:
    """Tracks that are one recording.

    Attributes:
        tracks: Ids of the tracks.
        labels: Class name of each.
        exact: Whether their rows are identical; else they are other encodings of it.
    """

    tracks: list[str]
    labels: list[str]
    exact: bool

    @property
    def disagree(self) -> bool:
        """Whether the copies have different labels, so that at least one of them is wrong."""
        return len(set(self.labels)) > 1


@dataclasses.dataclass(frozen=True)
class Outlier:
    """A track that resembles no other one.

    Attributes:
        track: Id of the track.
        label: Class name.
        distance: Mean distance to its nearest tracks, in robust standard deviations above the median.
    """

    track: str
    label: str
    distance: float


def fold_runs(folder: Run) -> list[Run]:
    """Return the runs of a finished cross-validation, with several seeds those of the first.

    Raises:
        TrainError: The folder holds none.
    """
    summary = folder.cross_validation()
    if summary is None:
        raise TrainError(
            f"{folder.folder} holds no finished cross-validation: crossval.json is missing. "
            f"{_how_to_cross_validate(folder)}"
        )
    return [Run(run_folder(folder.folder, fold.fold)) for fold in summary.folds]


def _how_to_cross_validate(folder: Run) -> str:
    """Return what to type for a folder that was expected to hold a cross-validation."""
    try:
        refuse_foreign_run_folder(folder.folder)
        refuse_other_runs(folder, "fold")
    except EarmarkError:
        return "Type: earmark crossval FEATURES --out FOLDS, with a new FOLDS, then earmark labels FOLDS"
    return f"Type: earmark crossval FEATURES --out {folder.folder.quoted}"


def read_folds(runs: Sequence[Run]) -> Predicted:
    """Read the predictions of all folds of a cross-validation.

    Args:
        runs: From `fold_runs`.

    Raises:
        TrainError: A fold has no predictions, or other classes than the first.
    """
    classes: list[str] = []
    tracks: list[str] = []
    timelines: list[list[int]] = []
    labels, probabilities = [], []
    for run in runs:
        for part in read_predictions(run):
            if part.classes != (classes := classes or part.classes):
                raise TrainError(
                    f"{run.folder} has other classes than the other folds. Type: "
                    f"earmark evaluate {run.folder.quoted}"
                )
            pooled, of_tracks = pool_tracks(part.probabilities, part.labels, part.per_track)
            predicted = part.probabilities.argmax(axis=1).reshape(-1, part.per_track)
            timelines += predicted.tolist()
            tracks += part.segments["track"].to_pylist()[:: part.per_track]
            labels.append(of_tracks)
            probabilities.append(pooled)
    return Predicted(tracks, np.concatenate(labels), np.concatenate(probabilities), timelines, classes)


def doubtful_labels(predicted: Predicted) -> list[DoubtfulLabel]:
    """Return the tracks whose label is probably wrong, the surest first."""
    found = find_label_errors(predicted.probabilities, predicted.labels)
    return [
        DoubtfulLabel(
            predicted.tracks[track],
            predicted.classes[predicted.labels[track]],
            predicted.classes[suggested],
            float(predicted.probabilities[track, predicted.labels[track]]),
            float(predicted.probabilities[track, suggested]),
        )
        for track, suggested in zip(found.tracks.tolist(), found.suggested.tolist(), strict=True)
    ]


def find_copies(dataset: Dataset) -> list[Copies] | None:
    """Return the tracks that are one recording, those with different labels first.

    Returns:
        None if there are more tracks than can be compared; exact copies are found all the same by `exact_copies`.
    """
    shards = [shard for shard in dataset.shards if shard.rows]
    if sum(shard.rows for shard in shards) // dataset.segments_per_track > MOST_TRACKS:
        return None
    described = list(in_threads(lambda shard: describe_tracks(shard, dataset.segments_per_track), shards))
    names = [name for of_shard, _ in described for name in of_shard]
    label_of = _labels(dataset)
    exact = exact_copies(dataset)
    known = [set(copies.tracks) for copies in exact]
    near = []
    for family in families(find_near_copies(np.concatenate([part for _, part in described]))):
        tracks = [names[index] for index in family]
        if not any(set(tracks) <= each for each in known):
            near.append(Copies(tracks, [label_of[track] for track in tracks], exact=False))
    return sorted([*exact, *near], key=lambda copies: (not copies.disagree, copies.tracks))


def exact_copies(dataset: Dataset) -> list[Copies]:
    """Return the tracks whose rows are identical, those with different labels first."""
    label_of = _labels(dataset)
    by_digest: dict[str, list[str]] = {}
    for row in dataset.duplicates().select(["digest", "track"]).to_pylist():
        by_digest.setdefault(row["digest"], []).append(row["track"])
    found = [
        Copies(sorted(tracks), [label_of[track] for track in sorted(tracks)], exact=True)
        for tracks in by_digest.values()
    ]
    return sorted(found, key=lambda copies: (not copies.disagree, copies.tracks))


def find_outliers(vectors: NDArray[np.float32], tracks: Sequence[str], labels: Sequence[str]) -> list[Outlier]:
    """Return the tracks that are far from all others, the farthest first.

    Args:
        vectors: float32 [tracks, numbers], from `train.evaluation.svm_baseline.describe_shard`.
        tracks: Ids of the tracks.
        labels: Class names of the tracks.
    """
    count = min(_NEIGHBORS, len(tracks) - 1)
    if count < 1:
        return []
    scaled = StandardScaler().fit_transform(vectors)
    distances, _ = NearestNeighbors(n_neighbors=count + 1).fit(scaled).kneighbors(scaled)
    mean = distances[:, 1:].mean(axis=1)
    middle = float(np.median(mean))
    spread = 1.4826 * float(np.median(np.abs(mean - middle)))  # of a normal distribution, its standard deviation
    if spread == 0:
        return []
    scores = (mean - middle) / spread
    order = np.argsort(-scores, kind="stable")
    return [
        Outlier(tracks[track], labels[track], float(scores[track]))
        for track in order.tolist()
        if scores[track] >= _FAR
    ]


def _labels(dataset: Dataset) -> dict[str, str]:
    table = dataset.tracks().select(["track", "label"])
    return dict(zip(table["track"].to_pylist(), table["label"].to_pylist(), strict=True))
