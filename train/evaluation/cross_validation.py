"""The settings of the runs of a cross-validation, and the summary of their metrics."""

from collections.abc import Callable, Sequence

import numpy as np

from featurize.dataset.dataset import Dataset
from featurize.dataset.info import DEFAULT_LAYOUT, FoldLayout
from train.config import TrainConfig
from train.errors import TrainError
from train.score_records import (
    ConfusionsByPart,
    CrossValidationSummary,
    Figures,
    FiguresByPart,
    FoldFigures,
    IntervalsByPart,
    Metrics,
    Scores,
)


def fold_configs(config: TrainConfig, layout: FoldLayout = DEFAULT_LAYOUT) -> list[TrainConfig]:
    """Return the settings of each fold's run.

    Each training fold is the test fold once, and a different training fold is the validation fold, if there is
    one. Official splits are left out: they are neither trained on nor evaluated.

    Raises:
        TrainError: The validation fold is a fixed number, so it would also be a test fold; or an official split;
            or there are too few folds.
    """
    if isinstance(config.validation_fold, int):
        raise TrainError(
            f"train.validation_fold = {config.validation_fold}, but in a cross-validation each fold is the test "
            "fold once. Type --set train.validation_fold=next, or none."
        )
    if config.validation_fold == "split":
        raise TrainError(
            "train.validation_fold = split, but a cross-validation leaves the official splits out and uses the "
            "training part only. Type --set train.validation_fold=next, or none."
        )
    validation = "none" if config.validation_fold == "auto" else config.validation_fold
    needed = 3 if validation == "next" else 2
    if len(layout.training) < needed:
        raise TrainError(
            f"a cross-validation with train.validation_fold = {validation} needs at least {needed} training "
            f"folds, but the dataset has {len(layout.training)}. "
            + (
                "Type --set train.validation_fold=none"
                if len(layout.training) == 2
                else "Evaluate on the official test split instead: earmark train FEATURES --out RUN"
            )
        )
    return [
        TrainConfig.model_validate({**config.model_dump(), "test_fold": fold, "validation_fold": validation})
        for fold in layout.training
    ]


def describe_left_out(dataset: Dataset) -> str | None:
    """Return a sentence on the official splits that a cross-validation leaves out; None without any."""
    tracks, official = dataset.tracks()["fold"].to_pylist(), dataset.layout.official
    left_out = [f"the official {part} split ({tracks.count(fold)} tracks)" for part, fold in official.items()]
    if not left_out:
        return None
    verb = "is" if len(left_out) == 1 else "are"
    return f"A cross-validation uses the training part only: {' and '.join(left_out)} {verb} left out."


def summarize(
    metrics: Sequence[Metrics], baseline: Sequence[Scores], intervals: IntervalsByPart | None = None
) -> CrossValidationSummary:
    """Summarize a cross-validation: figures of each fold, their mean and deviation, and summed confusion matrices.

    Args:
        metrics: Metrics of each fold's run.
        baseline: Scores of the SVM on the tracks of each fold.
        intervals: Confidence intervals over the tracks of all folds.

    Returns:
        The content of `crossval.json`.
    """
    tracks, segments = [fold.tracks for fold in metrics], [fold.segments for fold in metrics]

    def over_folds(function: Callable[[list[float]], float]) -> FiguresByPart:
        return FiguresByPart(
            tracks=_reduce(tracks, function),
            segments=_reduce(segments, function),
            svm_tracks=_reduce(baseline, function),
        )

    return CrossValidationSummary(
        model=metrics[0].model,
        classes=metrics[0].classes,
        folds=[
            FoldFigures(
                fold=fold.test_fold,
                epoch=fold.epoch,
                count=fold.tracks.count,
                tracks=_figures(fold.tracks),
                segments=_figures(fold.segments),
                svm_tracks=_figures(svm),
            )
            for fold, svm in zip(metrics, baseline, strict=True)
        ],
        mean=over_folds(np.mean),
        deviation=over_folds(np.std),
        confusion=ConfusionsByPart(
            tracks=_sum_confusions(tracks),
            segments=_sum_confusions(segments),
            svm_tracks=_sum_confusions(baseline),
        ),
        intervals=intervals,
    )


def _figures(scores: Scores) -> Figures:
    return Figures(accuracy=scores.accuracy, macro_f1=scores.macro_f1)


def _reduce(folds: Sequence[Scores], function: Callable[[list[float]], float]) -> Figures:
    """Apply a function to the values of each figure over the folds."""
    return Figures(
        accuracy=float(function([fold.accuracy for fold in folds])),
        macro_f1=float(function([fold.macro_f1 for fold in folds])),
    )


def _sum_confusions(folds: Sequence[Scores]) -> list[list[int]]:
    """Return the sum of the folds' confusion matrices."""
    total: list[list[int]] = np.sum([fold.confusion for fold in folds], axis=0).tolist()
    return total
