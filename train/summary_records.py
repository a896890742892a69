"""Types of crossval.json and tune.json: the figures of many runs.

The keys of each file are the names of the fields, in their order; `train.run` names the files and reads them.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from featurize.dataset.schema import MAX_FOLDS
from train.record_base import Classes, Count, Epoch, Fold, NotNegative, Record
from train.records import HeldOutFigures
from train.score_records import Confusion, IntervalsByPart, refuse_other_size


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


class SeedFigures(Record):
    """Figures of the run with one test fold and one seed.

    Attributes:
        seed: Setting `train.seed`.
        fold: The test fold.
        epoch: Epoch after which the model was saved.
        tracks: Figures of whole tracks.
        segments: Figures of segments.
    """

    seed: Count
    fold: Fold
    epoch: Epoch
    tracks: Figures
    segments: Figures


class SeedDeviation(Record):
    """Population standard deviation over the seeds of a fold, averaged over the folds."""

    tracks: Figures
    segments: Figures


class SeedSpread(Record):
    """How much the figures of a cross-validation depend on the seed.

    Attributes:
        seeds: The seeds, in the order of training.
        runs: Figures of each run, by seed and then by fold.
        deviation: Deviation over the seeds of a fold, averaged over the folds.
    """

    seeds: Annotated[list[Count], Field(min_length=2)]
    runs: list[SeedFigures]
    deviation: SeedDeviation


class CrossValidationSummary(Record):
    """crossval.json: the folds of a cross-validation together.

    Attributes:
        model: Setting `train.model`.
        classes: Class names.
        folds: Figures of each fold; with several seeds their mean over the seeds, and the epoch of the first.
        mean: Mean over the folds.
        deviation: Population standard deviation over the folds.
        confusion: Confusion matrices, summed over the folds; those of the network also over the seeds.
        intervals: Confidence intervals over the tracks of all folds and seeds; None in those of earlier versions.
        by_seed: The seeds apart; None for a single seed.
    """

    model: str
    classes: Classes
    folds: Annotated[list[FoldFigures], Field(min_length=1, max_length=MAX_FOLDS)]
    mean: FiguresByPart
    deviation: FiguresByPart
    confusion: ConfusionsByPart
    intervals: IntervalsByPart | None = None
    by_seed: SeedSpread | None = None

    @property
    def seeds(self) -> list[int | None]:
        """The seeds; [None] for a single one, which the settings of its runs have."""
        return [*self.by_seed.seeds] if self.by_seed else [None]

    @model_validator(mode="after")
    def _check_seeds(self) -> "CrossValidationSummary":
        if self.by_seed:
            expected = [(seed, fold.fold) for seed in self.by_seed.seeds for fold in self.folds]
            if [(run.seed, run.fold) for run in self.by_seed.runs] != expected:
                raise ValueError("by_seed.runs are not those of its seeds and folds")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> "CrossValidationSummary":
        for part in (self.confusion.tracks, self.confusion.segments, self.confusion.svm_tracks):
            refuse_other_size(part, len(self.classes))
        return self


class TrialResult(Record):
    """The result of one trial.

    Attributes:
        trial: Its number.
        settings: The values of the settings that vary.
        state: `trained`; `stopped` if others were better; `diverged` if its loss was not finite.
        epochs: Number of epochs that count: up to the stop.
        epoch: The best of these epochs; 0 if none was evaluated.
        validation: Figures of the validation fold after that epoch; None if none was evaluated.
    """

    trial: Annotated[int, Field(ge=1)]
    settings: dict[str, Any]
    state: Literal["trained", "stopped", "diverged"]
    epochs: Count
    epoch: Count
    validation: HeldOutFigures | None


class TuneSummary(Record):
    """tune.json: the trials of a search.

    Attributes:
        dataset: Identifier of the dataset.
        select_by: Figure of the validation fold by which trials are compared.
        rungs: Epochs after which they were compared.
        best: Number of the best trial.
        trials: All trials.
    """

    dataset: str
    select_by: Literal["track_macro_f1", "track_accuracy", "accuracy", "loss"]
    rungs: list[Epoch]
    best: Annotated[int, Field(ge=1)]
    trials: list[TrialResult]

    @property
    def best_name(self) -> str:
        """Name of the folder of the best trial."""
        return f"trial={self.best}"

    @model_validator(mode="after")
    def _check_best(self) -> "TuneSummary":
        if [trial.trial for trial in self.trials] != list(range(1, len(self.trials) + 1)):
            raise ValueError("the trials should be numbered from 1")
        if self.best > len(self.trials):
            raise ValueError(f"best is {self.best}, but there are {len(self.trials)} trials")
        return self
