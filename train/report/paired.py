"""Two runs compared on the tracks that both were evaluated on: the difference, its interval, and who is right."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.dataset.dataset import open_dataset
from featurize.errors import EarmarkError
from train.errors import TrainError
from train.evaluation.bootstrap import Difference, GroupCounts, mcnemar, paired_differences
from train.evaluation.intervals import Groups, first_rows
from train.evaluation.metrics import pool_tracks
from train.evaluation.prediction_parts import read_predictions
from train.run import Run

_MOST_LISTED = 200


@dataclasses.dataclass(frozen=True)
class TrackResults:
    """The predicted class of each evaluated track of a run, or of all folds of a cross-validation.

    Attributes:
        tracks: Ids of the tracks.
        labels: int32 [tracks], indices of the actual classes.
        predicted: int64 [tracks], indices of the predicted classes.
        classes: Class names.
    """

    tracks: list[str]
    labels: NDArray[np.int32]
    predicted: NDArray[np.int64]
    classes: list[str]


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """A track on which exactly one of two runs is right; the fields after the track are class names."""

    track: str
    actual: str
    first: str
    second: str


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two runs on their common tracks.

    Attributes:
        first, second: Indices of the runs in the comparison.
        tracks: Number of common tracks.
        groups: Number of their groups.
        differences: `accuracy` and `macro_f1` of tracks, first minus second; None if all are of one group.
        only_first, only_second: Numbers of tracks on which only one of them is right.
        p_value: McNemar's exact test.
        classes: For each class its name, its tracks, and how many of them each run predicts correctly.
        disagreements: The tracks on which exactly one is right, at most 200.
    """

    first: int
    second: int
    tracks: int
    groups: int
    differences: dict[str, Difference] | None
    only_first: int
    only_second: int
    p_value: float
    classes: list[tuple[str, int, int, int]]
    disagreements: list[Disagreement]

    @property
    def sentence(self) -> str:
        """What to conclude, in one sentence."""
        names = f"Run {self.first + 1} against run {self.second + 1}, on {self.tracks} common tracks"
        if self.differences is None:
            return f"{names}: all are of one group, so there is no confidence interval."
        value, (low, high) = self.differences["accuracy"]
        verdict = (
            "the interval contains 0: no difference is shown" if low <= 0 <= high else "the interval excludes 0"
        )
        return (
            f"{names} of {self.groups} groups: accuracy differs by {value:+.3f} (95% confidence interval "
            f"{low:+.3f} to {high:+.3f}; {verdict}). McNemar's test: p = {self.p_value:.3g}."
        )


def read_results(runs: Sequence[Run]) -> TrackResults:
    """Read the predicted class of each track of a run, or of the folds of a cross-validation.

    Raises:
        TrainError: Predictions are missing or broken.
    """
    tracks: list[str] = []
    labels, predicted, classes = [], [], []
    for run in runs:
        for part in read_predictions(run):
            pooled, of_tracks = pool_tracks(part.probabilities, part.labels, part.per_track)
            tracks += first_rows(part).to_pylist()
            labels.append(of_tracks)
            predicted.append(pooled.argmax(axis=1))
            classes = part.classes
    return TrackResults(tracks, np.concatenate(labels), np.concatenate(predicted), classes)


def compare_pair(first: int, second: int, results: Sequence[TrackResults], groups: Groups | None) -> Paired | None:
    """Compare two runs; None if they have no track in common, or other classes.

    Args:
        first: Index of one run.
        second: Index of the other.
        results: Results of all runs.
        groups: Groups of the tracks; None if they are not known: each track is its own group.
    """
    one, other = results[first], results[second]
    if one.classes != other.classes:
        return None
    place = {track: index for index, track in enumerate(other.tracks)}
    common = [
        (index, place[track])
        for index, track in enumerate(one.tracks)
        if track in place and one.labels[index] == other.labels[place[track]]  # no label corrected in between
    ]
    if not common:
        return None
    ones, others = (np.array(column) for column in zip(*common, strict=True))
    labels, predicted = one.labels[ones], (one.predicted[ones], other.predicted[others])
    names = [one.tracks[index] for index in ones]
    group = groups.of(pa.array(names)) if groups else np.arange(len(names))
    _, group = np.unique(group, return_inverse=True)
    counts = []
    for each in predicted:
        counts.append(GroupCounts(int(group.max()) + 1, len(one.classes)))
        counts[-1].add(group, labels, each)
    right = [each == labels for each in predicted]
    differing = np.flatnonzero(right[0] != right[1])
    return Paired(
        first,
        second,
        len(common),
        counts[0].groups,
        paired_differences(*counts),
        int((right[0] & ~right[1]).sum()),
        int((right[1] & ~right[0]).sum()),
        mcnemar(*right),
        [
            (
                name,
                int((labels == index).sum()),
                int(right[0][labels == index].sum()),
                int(right[1][labels == index].sum()),
            )
            for index, name in enumerate(one.classes)
            if (labels == index).any()
        ],
        [
            Disagreement(names[track], *(one.classes[each[track]] for each in (labels, *predicted)))
            for track in differing[:_MOST_LISTED].tolist()
        ],
    )


def compare_with_first(runs: Sequence[Sequence[Run]]) -> tuple[list[Paired], list[str]]:
    """Compare the first run with each other one, on their common tracks.

    Args:
        runs: The run of each entry of a comparison, or the folds of a cross-validation.

    Returns:
        The comparisons, and sentences on what could not be compared or is not known.
    """
    remarks: list[str] = []
    try:
        results = [read_results(each) for each in runs]
    except TrainError as error:
        return [], [f"The runs are not compared track by track: {error}"]
    groups: Groups | None = None
    try:
        groups = Groups(open_dataset(runs[0][0].features()))
        groups.of(pa.array(results[0].tracks))
    except (EarmarkError, ValueError):
        groups = None
        remarks.append(
            "The dataset of run 1 is not where it was, so artists are not known: the intervals of differences "
            "take each track as its own group, and are too narrow."
        )
    found = []
    for second in range(1, len(runs)):
        pair = compare_pair(0, second, results, groups)
        if pair is None:
            remarks.append(f"Runs 1 and {second + 1} have no tracks in common, or other classes.")
        else:
            found.append(pair)
    return found, remarks if found else [each for each in remarks if "no tracks" in each]
