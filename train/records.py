"""Types of the JSON files of a run and of a cross-validation; `train.run` names the files and reads them.

The keys of each file are the names of the fields, in their order.
"""

import reprlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from featurize.dataset.schema import FOLD_NUMBERS, MAX_FOLDS
from featurize.display import one_line

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Share = Annotated[float, Field(ge=0, le=1)]
Figure = Annotated[float, Field(ge=-1e9, le=1e9)]
NotNegative = Annotated[float, Field(ge=0)]
Fold = Annotated[int, Field(ge=0, lt=FOLD_NUMBERS)]
Epoch = Annotated[int, Field(ge=1, le=1_000_000)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Classes = Annotated[list[str], Field(min_length=1)]
Confusion = Annotated[list[list[Count]], Field(min_length=1)]


class Record(BaseModel):
    """Base of all records: values have exactly the declared types, and unknown keys are kept."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        strict=True,
        validate_by_alias=True,
        validate_by_name=True,
        allow_inf_nan=False,
    )

    def to_json(self) -> dict[str, Any]:
        """Return the content for `json.dumps`: the keys that were given or read, without defaults."""
        return self.model_dump(by_alias=True, exclude_unset=True)


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
        f1: Interval of the F1 of each class, in the order of the classes; None for a class without rows.
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
            _refuse_other_size(part.confusion, len(self.classes))
        for intervals in (self.intervals.tracks, self.intervals.segments) if self.intervals else ():
            if intervals and len(intervals.f1) != len(self.classes):
                raise ValueError("the confidence intervals are not those of its classes")
        return self


class TrainFigures(Record):
    """Loss in nats and accuracy of segments in one epoch."""

    loss: Figure
    accuracy: Figure


class HeldOutFigures(TrainFigures):
    """Figures of a held-out fold after an epoch: those of segments, then accuracy and macro-F1 of tracks."""

    track_accuracy: Figure
    track_macro_f1: Figure


class EpochRecord(Record):
    """An entry of history.json: one finished epoch.

    Attributes:
        epoch: Number of the epoch; the first is 1.
        train: Figures over the steps of the epoch, with dropout and augmentation.
        learning_rate: Learning rate after the last step.
        seconds: Duration of the steps.
        examples_per_second: Segments trained on per second.
        wait_fraction: Share of the duration spent waiting for batches.
        validation: Figures of the validation fold; None without one, or if the epoch was not evaluated.
        test: Figures of the test fold; None unless `train.best_epoch_on_test` is set. Earlier versions evaluated
            it after each epoch.
    """

    epoch: Epoch
    train: TrainFigures
    learning_rate: NotNegative
    seconds: NotNegative
    examples_per_second: NotNegative
    wait_fraction: NotNegative
    validation: HeldOutFigures | None = None
    test: HeldOutFigures | None = None

    @property
    def held_out(self) -> dict[str, HeldOutFigures]:
        """Figures of `validation` and of `test`, of those that were evaluated."""
        parts = {"validation": self.validation, "test": self.test}
        return {part: figures for part, figures in parts.items() if figures}

    @property
    def parts(self) -> dict[str, TrainFigures]:
        """Figures of `train`, and of the held-out parts that were evaluated."""
        return {"train": self.train, **self.held_out}


class ModelInfo(Record):
    """model.json: the classes, features and tensors of model.keras, for prediction from audio.

    Attributes:
        classes: Class names, in the order of the logits.
        features: Feature settings of the dataset.
        input: Shape, dtype and meaning of the model's input.
        output: Shape, dtype and meaning of the model's output.
        parameters: Number of parameters; None if an earlier version did not record it.
        epoch: Epoch after which the model was saved.
        epochs: Number of epochs trained.
        dataset: Identifier of the dataset.
        temperature: Number by which the weights of the last layer were divided (`train.calibrate`); None if they
            were not.
    """

    classes: Classes
    features: dict[str, Any]
    input: str
    output: str
    parameters: Count | None = None
    epoch: Epoch
    epochs: Epoch
    dataset: str
    temperature: Annotated[float, Field(gt=0)] | None = None

    @field_validator("classes")
    @classmethod
    def _are_distinct(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) < len(classes):
            raise ValueError("two classes have the same name")
        return classes


class ModelCodeInfo(Record):
    """The code of a user's model, of which a run has a copy.

    Attributes:
        file: Name of the file in the folder `model_code` of the run.
        function: Name of the function that builds the model.
        sha256: SHA-256 of the file, in hexadecimal.
    """

    file: Annotated[str, Field(pattern=r"^[^/\\\x00-\x1f\x7f]{1,250}\.py$")]
    function: Annotated[str, Field(pattern=r"^[^\W\d]\w*$", max_length=200)]
    sha256: Digest


class InitialWeights(Record):
    """Where a run took its first weights from (`earmark train --from`).

    Attributes:
        run: Folder of the other run.
        sha256: SHA-256 of its model, a copy of which is `initial.keras`, in hexadecimal.
        classes: Its classes.
        taken: Names of the layers whose weights were taken; empty until training has begun.
        not_taken: Name and reason of the other layers that have weights.
    """

    run: str
    sha256: Digest
    classes: Classes
    taken: list[str] = []
    not_taken: dict[str, str] = {}


class RunInfo(Record):
    """run.json: the dataset and the settings with which a run was started.

    Attributes:
        dataset: Identifier of the dataset.
        features: Folder of the dataset, relative to the run if it is inside.
        train: The `train` section of the config; another version may have written other settings.
        order: Version of the order in which segments are read, `train.run.ORDER`; runs of the first have no key.
        model_code: Code of the model, if it is a user's.
        initial: Where the first weights are from, if they are those of another run.
    """

    dataset: str
    features: str
    train: dict[str, Any]
    order: Count = 1
    model_code: ModelCodeInfo | None = None
    initial: InitialWeights | None = None

    @field_validator("train")
    @classmethod
    def _has_epochs(cls, train: dict[str, Any]) -> dict[str, Any]:
        epochs = train.get("epochs")
        if not isinstance(epochs, int):
            raise ValueError("epochs should be a number")
        if not 1 <= epochs <= 1_000_000:
            raise ValueError("epochs should be from 1 to 1,000,000")
        return train

    @field_validator("features")
    @classmethod
    def _is_path(cls, features: str) -> str:
        if not features or "\0" in features:
            raise ValueError("expected a path or a URI")
        return features

    @property
    def epochs(self) -> int:
        """Number of epochs to train."""
        return int(self.train["epochs"])


class Figures(Record):
    """Accuracy and macro-F1 of one fold, or their mean or deviation over the folds."""

    accuracy: NotNegative
    macro_f1: NotNegative


class FiguresByPart(Record):
    """Figures of whole tracks, segments, and the SVM on whole tracks."""

    tracks: Figures
    segments: Figures
    svm_tracks: Figures


class FoldFigures(Record):
    """Figures of the run whose test fold is `fold`.

    Attributes:
        fold: The test fold.
        epoch: Epoch after which the model was saved.
        count: Number of tracks evaluated.
        tracks: Figures of whole tracks.
        segments: Figures of segments.
        svm_tracks: Figures of the SVM on whole tracks.
    """

    fold: Fold
    epoch: Epoch
    count: Count
    tracks: Figures
    segments: Figures
    svm_tracks: Figures


class ConfusionsByPart(Record):
    """Confusion matrices of whole tracks, segments, and the SVM on whole tracks."""

    tracks: Confusion
    segments: Confusion
    svm_tracks: Confusion


class CrossValidationSummary(Record):
    """crossval.json: the folds of a cross-validation together.

    Attributes:
        model: Setting `train.model`.
        classes: Class names.
        folds: Figures of each fold.
        mean: Mean over the folds.
        deviation: Population standard deviation over the folds.
        confusion: Confusion matrices, summed over the folds.
        intervals: Confidence intervals over the tracks of all folds; None in those of earlier versions.
    """

    model: str
    classes: Classes
    folds: Annotated[list[FoldFigures], Field(min_length=1, max_length=MAX_FOLDS)]
    mean: FiguresByPart
    deviation: FiguresByPart
    confusion: ConfusionsByPart
    intervals: IntervalsByPart | None = None

    @model_validator(mode="after")
    def _check_sizes(self) -> "CrossValidationSummary":
        for part in (self.confusion.tracks, self.confusion.segments, self.confusion.svm_tracks):
            _refuse_other_size(part, len(self.classes))
        return self


def _refuse_other_size(confusion: list[list[int]], classes: int) -> None:
    if {len(confusion), *map(len, confusion)} != {classes}:
        raise ValueError(f"the confusion matrix is not one of {classes} classes")


def explain(error: ValidationError) -> str:
    """Return the first problem of a file in one line: the key, the expected value and the value found."""
    problem = error.errors(include_url=False)[0]
    key = one_line(".".join(map(str, problem["loc"])))
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "model_type":
        message = "input should be an object"
    else:
        message = problem["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
    return f"{key + ': ' if key else ''}{message}, found {reprlib.repr(problem['input'])}"
