"""The settings and folders of the runs of a cross-validation, and the summary of their metrics."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from featurize.dataset.dataset import Dataset
from featurize.dataset.info import DEFAULT_LAYOUT, FoldLayout
from featurize.storage import StoragePath
from train.config import TrainConfig
from train.errors import TrainError
from train.score_records import IntervalsByPart, Metrics, Scores
from train.summary_records import (
    ConfusionsByPart,
    CrossValidationSummary,
    Figures,
    FiguresByPart,
    FoldFigures,
    SeedDeviation,
    SeedFigures,
    SeedSpread,
)

_LARGEST_SEED = 2**31 - 1


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


def seeds_of(config: TrainConfig, count: int) -> list[int]:
    """Return `count` seeds: that of the settings, and those after it.

    Raises:
        TrainError: They would be larger than a seed may be.
    """
    last = config.seed + count - 1
    if last > _LARGEST_SEED:
        raise TrainError(
            f"train.seed = {config.seed} and --seeds {count} need a seed of {last}, but {_LARGEST_SEED} is the "
            "largest one. Type --set train.seed=0"
        )
    return [*range(config.seed, last + 1)]


def run_folder(folder: StoragePath, fold: int, seed: int | None = None) -> StoragePath:
    """Return the folder of a run of a cross-validation.

    The runs of the first seed are where those of a cross-validation with a single seed are, so that seeds can be
    added to it.

    Args:
        folder: Folder of the cross-validation.
        fold: Test fold.
        seed: Seed; None for the first one.
    """
    return (folder if seed is None else folder / f"seed={seed}") / f"fold={fold}"


def run_folders(folder: StoragePath, summary: CrossValidationSummary) -> dict[int | None, list[StoragePath]]:
    """Return the folders of the runs of a finished cross-validation: for each seed, in the order of the folds."""
    return {
        seed: [run_folder(folder, fold.fold, seed if order else None) for fold in summary.folds]
        for order, seed in enumerate(summary.seeds)
    }


def describe_left_out(dataset: Dataset) -> str | None:
    """Return a sentence on the official splits that a cross-validation leaves out; None without any."""
    tracks, official = dataset.tracks()["fold"].to_pylist(), dataset.layout.official
    left_out = [f"the official {part} split ({tracks.count(fold)} tracks)" for part, fold in official.items()]
    if not left_out:
        return None
    verb = "is" if len(left_out) == 1 else "are"
    return f"A cross-validation uses the training part only: {' and '.join(left_out)} {verb} left out."


def summarize(
    runs: Mapping[int, Sequence[Metrics]], baseline: Sequence[Scores], intervals: IntervalsByPart | None = None
) -> CrossValidationSummary:
    """Summarize a cross-validation: figures of each fold, their mean and deviation, and summed confusion matrices.

    Args:
        runs: Metrics of each fold's run, for each seed.
        baseline: Scores of the SVM on the tracks of each fold.
        intervals: Confidence intervals over the tracks of all folds and seeds.

    Returns:
        The content of `crossval.json`.
    """
    first, *others = runs.values()
    by_fold = [*zip(*runs.values(), strict=True)]  # for each fold the metrics of all seeds
    tracks = [_mean([run.tracks for run in of_seeds]) for of_seeds in by_fold]
    segments = [_mean([run.segments for run in of_seeds]) for of_seeds in by_fold]
    svm = [_figures(scores) for scores in baseline]

    def over_folds(function: Callable[[list[float]], float]) -> FiguresByPart:
        return FiguresByPart(
            tracks=_reduce(tracks, function),
            segments=_reduce(segments, function),
            svm_tracks=_reduce(svm, function),
        )

    every = [run for of_seed in runs.values() for run in of_seed]
    summary = CrossValidationSummary(
        model=first[0].model,
        classes=first[0].classes,
        folds=[
            FoldFigures(
                fold=run.test_fold,
                epoch=run.epoch,
                count=run.tracks.count,
                tracks=of_tracks,
                segments=of_segments,
                svm_tracks=of_svm,
            )
            for run, of_tracks, of_segments, of_svm in zip(first, tracks, segments, svm, strict=True)
        ],
        mean=over_folds(np.mean),
        deviation=over_folds(np.std),
        confusion=ConfusionsByPart(
            tracks=_sum_confusions([run.tracks for run in every]),
            segments=_sum_confusions([run.segments for run in every]),
            svm_tracks=_sum_confusions(baseline),
        ),
        intervals=intervals,
    )
    # Only if there are several, so that the file of a single seed stays as it was.
    return summary.model_copy(update={"by_seed": _spread(runs)}) if others else summary


def _spread(runs: Mapping[int, Sequence[Metrics]]) -> SeedSpread:
    by_fold = [*zip(*runs.values(), strict=True)]
    over_seeds = {
        part: [_reduce([_figures(getattr(run, part)) for run in of_seeds], np.std) for of_seeds in by_fold]
        for part in ("tracks", "segments")
    }
    return SeedSpread(
        seeds=[*runs],
        runs=[
            SeedFigures(
                seed=seed,
                fold=run.test_fold,
                epoch=run.epoch,
                tracks=_figures(run.tracks),
                segments=_figures(run.segments),
            )
            for seed, of_seed in runs.items()
            for run in of_seed
        ],
        deviation=SeedDeviation(**{part: _reduce(found, np.mean) for part, found in over_seeds.items()}),
    )


def _figures(scores: Scores) -> Figures:
    return Figures(accuracy=scores.accuracy, macro_f1=scores.macro_f1)


def _mean(of_seeds: Sequence[Scores]) -> Figures:
    """Return the mean over the seeds; for a single one its figures, to the bit."""
    return _reduce([_figures(scores) for scores in of_seeds], np.mean)


def _reduce(figures: Sequence[Figures], function: Callable[[list[float]], float]) -> Figures:
    """Apply a function to the values of each figure."""
    return Figures(
        accuracy=float(function([each.accuracy for each in figures])),
        macro_f1=float(function([each.macro_f1 for each in figures])),
    )


def _sum_confusions(scores: Sequence[Scores]) -> list[list[int]]:
    """Return the sum of confusion matrices."""
    total: list[list[int]] = np.sum([each.confusion for each in scores], axis=0).tolist()
    return total
