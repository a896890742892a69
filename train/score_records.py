"""Types of metrics.json: scores, and their confidence intervals.

The keys of each file are the names of the fields, in their order; `train.run` names the files and reads them.
"""

from typing import Annotated

from pydantic import Field, model_validator

from train.record_base import Classes, Count, Epoch, Fold, NotNegative, Record, Share

Confusion = Annotated[list[list[Count]], Field(min_length=1)]


class ClassScores(Record):
    """Scores of one class; precision, recall and F1 are 0 where they are not defined."""

    label: str
    precision: Share
    recall: Share
    f1: Share
    count: Count


class Scores(Record):
    """Scores of predicted classes.

    Attributes:
        count: Number of rows, which are segments or tracks.
        accuracy: Share of rows whose predicted class is the actual one.
        macro_f1: Mean F1 of the classes that have rows; every class has the same weight.
        per_class: Scores of each class, in the order of the classes.
        confusion: Counts of rows: [actual class][predicted class].
    """

    count: Count
    accuracy: Share
    macro_f1: Share
    per_class: list[ClassScores]
    confusion: Confusion


class ProbabilityScores(Scores):
    """Scores of predicted probabilities.

    Attributes:
        loss: Mean cross-entropy, in nats.
    """

    loss: NotNegative


Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]


class ScoreIntervals(Record):
    """95 % confidence intervals of scores, [low, high], by a bootstrap over groups: `train.evaluation.bootstrap`.

    Attributes:
        groups: Number of groups.
        accuracy: Interval of the accuracy.
        macro_f1: Interval of macro-F1.
        f1: Interval of the F1 of each class, in the order of the classes; None for a class whose rows are of one
            group, or that has none.
    """

    groups: Count
    accuracy: Interval
    macro_f1: Interval
    f1: list[Interval | None]


class IntervalsByPart(Record):
    """Confidence intervals of whole tracks and of segments; None if all rows are of one group."""

    tracks: ScoreIntervals | None
    segments: ScoreIntervals | None


class Calibration(Record):
    """How often predictions of tracks are right, by their confidence: `train.evaluation.calibration.Reliability`.

    Attributes:
        count: Number of tracks in each of the bins of equal width of the confidence, from 0 to 1.
        confidence: Mean confidence in each bin; 0 in an empty one.
        accuracy: Share of correct predictions in each bin; 0 in an empty one.
        error: Expected calibration error.
    """

    count: Annotated[list[Count], Field(min_length=1, max_length=100)]
    confidence: list[Share]
    accuracy: list[Share]
    error: Share

    @model_validator(mode="after")
    def _check_lengths(self) -> "Calibration":
        if not len(self.count) == len(self.confidence) == len(self.accuracy):
            raise ValueError("its lists differ in length")
        return self


class SplitPart(Record):
    """Size of one part of the split: its folds, and the tracks and groups in them.

    Attributes:
        folds: Numbers of its folds.
        tracks: Number of tracks, rejects included.
        groups: Number of groups.
        official: Whether it is a split of the collection, such as its official test split.
    """

    folds: list[Fold]
    tracks: Count
    groups: Count
    official: bool = False


class Split(Record):
    """The split of a dataset for training.

    Attributes:
        parts: Sizes of `train`, of `validation` if there is one, of `test`, and of `unused` if an official split
            is none of these.
        groups_on_two_sides: Groups with tracks in more than one part; empty in a valid split.
    """

    parts: dict[str, SplitPart]
    groups_on_two_sides: list[str]

    def is_official(self, part: str) -> bool:
        """Return whether a part is an official split of the collection, and not a fold that Earmark chose."""
        return part in self.parts and self.parts[part].official


class Metrics(Record):
    """metrics.json: the evaluation of a model on its test fold, which may be an official test split.

    Attributes:
        model: Setting `train.model`.
        epoch: Epoch after which the model was saved.
        test_fold: Fold that the model was evaluated on.
        classes: Class names.
        segments: Scores of single segments.
        tracks: Scores of whole tracks, by the mean of the probabilities of their segments.
        copies_left_out: Number of tracks of the test fold that were not evaluated because another fold has a copy.
        split: Sizes of the parts of the split.
        model_sha256: SHA-256 of the model.keras that was evaluated, in hexadecimal.
        intervals: Confidence intervals; None in runs of earlier versions.
        calibration: How far the confidence of tracks can be trusted; None in runs of earlier versions.
    """

    model: str
    epoch: Epoch
    test_fold: Fold
    classes: Classes
    segments: ProbabilityScores
    tracks: ProbabilityScores
    copies_left_out: Count
    split: Split
    # The key on disk stays "judged", so that runs of earlier versions still count as evaluated.
    model_sha256: str = Field(alias="judged")
    intervals: IntervalsByPart | None = None
    calibration: Calibration | None = None

    @property
    def test_set(self) -> str:
        """What the model was evaluated on, in messages and reports: `the official test split`, or `fold 0`."""
        return "the official test split" if self.split.is_official("test") else f"fold {self.test_fold}"

    @model_validator(mode="after")
    def _check_classes(self) -> "Metrics":
        for part in (self.segments, self.tracks):
            if not part.count or [scores.label for scores in part.per_class] != self.classes:
                raise ValueError("the scores are not those of its classes")
            refuse_other_size(part.confusion, len(self.classes))
        for intervals in (self.intervals.tracks, self.intervals.segments) if self.intervals else ():
            if intervals and len(intervals.f1) != len(self.classes):
                raise ValueError("the confidence intervals are not those of its classes")
        return self


def refuse_other_size(confusion: list[list[int]], classes: int) -> None:
    """Raise a ValueError if a confusion matrix has not a row and a column for each class."""
    if {len(confusion), *map(len, confusion)} != {classes}:
        raise ValueError(f"the confusion matrix is not one of {classes} classes")
