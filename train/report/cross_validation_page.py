"""The page of a cross-validation, `crossval.html`: its folds and seeds, their spread, and the confusion matrix."""

import dataclasses
import os
from collections.abc import Sequence
from urllib.parse import quote

from matplotlib.figure import Figure

from featurize.storage import StoragePath
from featurize.version import VERSION
from train.errors import TrainError
from train.evaluation.bootstrap import Difference
from train.evaluation.cross_validation import run_folders
from train.evaluation.prediction_parts import read_predictions
from train.evaluation.svm_predictions import SvmPredictions, network_minus_svm
from train.report.cross_validation_summary import summarize_cross_validation
from train.report.figures import Picture, Theme, draw
from train.report.html import class_colors, environment, saved_on
from train.run import Run
from train.run_checks import metrics_of_model
from train.score_records import Metrics
from train.summary_records import CrossValidationSummary

PAGE = "crossval.html"  # in the folder of a cross-validation
_HALF_WIDTH = 0.3  # of the points of a fold, whose centers are 1 apart


@dataclasses.dataclass(frozen=True)
class FoldRun:
    """One run of a cross-validation.

    Attributes:
        seed: Seed.
        metrics: The content of its `metrics.json`.
        report: URL of its report, relative to the page; None if there is none.
    """

    seed: int
    metrics: Metrics
    report: str | None


def write_cross_validation_page(folder: Run) -> None:
    """Write `crossval.html` from the `crossval.json` of a cross-validation, and the files of its runs.

    Raises:
        TrainError: The folder holds no finished cross-validation, or files of it cannot be read.
    """
    summary = folder.cross_validation()
    if summary is None:
        raise TrainError(
            f"{folder.folder} holds no finished cross-validation: crossval.json is missing. "
            f"Type: earmark crossval FEATURES --out {folder.folder.quoted}"
        )
    (folder.folder / PAGE).write(render_cross_validation(folder, summary).encode())


def conclusions_of(folder: StoragePath, summary: CrossValidationSummary) -> list[str]:
    """Return what a cross-validation shows, in sentences; the most important one comes first.

    Raises:
        TrainError: Predictions of its runs cannot be read.
    """
    return summarize_cross_validation(summary, _difference_from_svm(folder, summary))


def render_cross_validation(folder: Run, summary: CrossValidationSummary) -> str:
    """Render a cross-validation as HTML.

    Args:
        folder: Folder of the cross-validation, with its runs.
        summary: The content of `crossval.json`.

    Returns:
        A self-contained HTML page. Names of classes and folders are escaped.

    Raises:
        TrainError: Files of its runs are missing or cannot be read.
    """
    of_seeds = [[Run(run) for run in runs] for runs in run_folders(folder.folder, summary).values()]
    by_fold = [[_read(run, folder.folder) for run in runs] for runs in zip(*of_seeds, strict=True)]
    difference = _difference_from_svm(folder.folder, summary)
    first = of_seeds[0][0]
    return (
        environment()
        .get_template("crossval.html.j2")
        .render(
            name=folder.folder.name or str(folder.folder),
            saved=saved_on(folder.folder / "crossval.json"),
            dataset=first.trained().dataset,
            summary=summary,
            conclusions=summarize_cross_validation(summary, difference),
            difference=difference,
            folds=[*zip(summary.folds, by_fold, strict=True)],
            spreads=[(title, _draw_spread(summary, by_fold, part)) for part, title in _PARTS],
            config_text=first.config_text(),
            colors=class_colors(len(summary.classes)),
            version=VERSION,
        )
    )


_PARTS = (("tracks", "Accuracy of whole tracks"), ("segments", "Accuracy of segments"))


def _read(run: Run, folder: StoragePath) -> FoldRun:
    metrics = metrics_of_model(run)
    link = None
    if run.report.is_file():
        link = quote(os.path.relpath(run.report.path, folder.path))
    return FoldRun(run.config().seed, metrics, link)


def _difference_from_svm(folder: StoragePath, summary: CrossValidationSummary) -> dict[str, Difference] | None:
    svm = SvmPredictions.read(folder)
    if svm is None:
        return None
    runs = (Run(run) for runs in run_folders(folder, summary).values() for run in runs)
    return network_minus_svm((part for run in runs for part in read_predictions(run)), svm, summary.classes)


def _draw_spread(summary: CrossValidationSummary, by_fold: Sequence[Sequence[FoldRun]], part: str) -> Picture:
    """Plot the accuracy of each run over its fold, the mean of each fold, and the mean over all folds."""
    seeds = len(by_fold[0])
    mean, deviation = (getattr(figures, part).accuracy for figures in (summary.mean, summary.deviation))

    def figure(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.subplots()
        network, svm = theme.lines[0], theme.lines[1]
        axes.axhspan(mean - deviation, mean + deviation, color=network, alpha=0.12, linewidth=0)
        axes.axhline(mean, color=network, linewidth=1, linestyle="--", label="mean ± deviation over folds")
        for position, (fold, runs) in enumerate(zip(summary.folds, by_fold, strict=True)):
            values = [getattr(run.metrics, part).accuracy for run in runs]
            places = [position + _HALF_WIDTH * ((index + 0.5) / seeds * 2 - 1) for index in range(seeds)]
            first = position == 0
            if seeds > 1:
                ends = position - _HALF_WIDTH, position + _HALF_WIDTH
                label = "mean of a fold" if first else None
                axes.plot(ends, [getattr(fold, part).accuracy] * 2, color=network, label=label)
            label = ("a seed" if seeds > 1 else "a fold") if first else None
            axes.plot(places, values, "o", color=network, markersize=5, label=label)
            if part == "tracks":
                axes.plot([position], [fold.svm_tracks.accuracy], "x", color=svm, label="SVM" if first else None)
        axes.set_xticks(range(len(summary.folds)), [str(fold.fold) for fold in summary.folds])
        axes.set(xlabel="test fold", ylabel="accuracy", xlim=(-0.6, len(summary.folds) - 0.4))
        axes.margins(y=0.15)
        axes.legend(fontsize="small")
        return figure

    return draw(figure)
