"""Comparison of finished runs: the settings that differ, scores, model size and training speed."""

import dataclasses
import math
import operator
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from featurize.storage import StoragePath
from train.errors import TrainError
from train.evaluation.cross_validation import run_folder
from train.records import EpochRecord
from train.run import Run
from train.run_checks import metrics_of_model
from train.score_records import IntervalsByPart, Metrics
from train.summary_records import CrossValidationSummary, FoldFigures

_ABSENT = "-"
_DIGITS_SHOWN = 12  # of a SHA-256

History = list[EpochRecord]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One column of a comparison: a run, or all runs of a cross-validation.

    Attributes:
        name: Folder, as the user typed it.
        settings: `section.key` to value, for all settings that can change the trained model.
        metrics: The content of `metrics.json` of each run.
        histories: The content of `history.json` of each run.
        parameters: Number of parameters of the model; None if it was not recorded.
        runs: The run, or the folds of a cross-validation; with several seeds, those of the first seed.
        summary: The content of `crossval.json`; None for a single run.
    """

    name: str
    settings: dict[str, Any]
    metrics: list[Metrics]
    histories: list[History]
    parameters: int | None
    runs: list[Run]
    summary: CrossValidationSummary | None = None

    @property
    def intervals(self) -> IntervalsByPart | None:
        """Confidence intervals of the run, or over all folds; None if an earlier version evaluated it."""
        return self.summary.intervals if self.summary else self.metrics[0].intervals

    @property
    def scores(self) -> Sequence[Metrics | FoldFigures]:
        """Scores of the run, or of each fold; with several seeds, their means over the seeds."""
        return self.summary.folds if self.summary else self.metrics

    @property
    def model(self) -> str:
        """The network, setting `train.model`."""
        return str(self.settings["train.model"])


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a comparison.

    Attributes:
        label: Name of the setting or figure.
        cells: Text for each entry.
        best: Indices of the best entries; empty if the row is not ranked.
    """

    label: str
    cells: list[str]
    best: frozenset[int] = frozenset()


def read_entries(folders: Sequence[str]) -> list[Entry]:
    """Read runs and cross-validations from their folders.

    Raises:
        TrainError: Some of the folders hold no evaluated run; the message lists all of them.
    """
    entries, problems = [], []
    for folder in folders:
        try:
            entries.append(_read_entry(folder))
        except TrainError as error:
            problems.append(str(error))
    if problems:
        raise TrainError("cannot compare these:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return entries


def table_of(entries: Sequence[Entry]) -> list[Row]:
    """Return the rows of a comparison: model, settings that differ, scores, model size and training speed."""
    rows = [Row("model", [entry.model for entry in entries])]
    for key in sorted(set().union(*(entry.settings for entry in entries)) - {"train.model"}):
        values = [entry.settings.get(key, _ABSENT) for entry in entries]
        if any(value != values[0] for value in values):
            rows.append(Row(key, [_setting(value) for value in values]))
    rows.append(Row("evaluated on", [_test_set(entry) for entry in entries]))
    for part in ("tracks", "segments"):
        for figure, title in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
            value_of = operator.attrgetter(f"{part}.{figure}")
            values = [[value_of(scores) for scores in entry.scores] for entry in entries]
            rows.append(_figure(f"{title} of {part}", values))
            intervals = [_interval(entry, part, figure) for entry in entries]
            if any(cell != _ABSENT for cell in intervals):
                rows.append(Row("  95% confidence interval", intervals))
    best = [_best_on_test(entry) for entry in entries]
    if any(best):
        rows.append(_figure("best epoch on test, segments", best, ranked=False))
    rows.append(Row("parameters", [_count(entry.parameters) for entry in entries]))
    rows.append(Row("epochs", ["/".join(_distinct(map(len, entry.histories))) for entry in entries]))
    rows.append(Row("segments per second", [_count(round(_rate(entry))) for entry in entries]))
    rows.append(Row("training time", [_duration(_seconds(entry)) for entry in entries]))
    return rows


def remarks_on(entries: Sequence[Entry]) -> list[str]:
    """Return notes on how to read a comparison, one sentence each: what differs besides the listed settings."""
    sentences = []
    if len({entry.settings.get("dataset") for entry in entries}) > 1:
        sentences.append("The runs were trained on different datasets: their tracks, folds or features differ.")
    elif len({tuple(sorted(m.test_fold for m in entry.metrics)) for entry in entries}) > 1:
        sentences.append("The runs were evaluated on different folds or splits, so on different tracks.")
    if any(entry.intervals for entry in entries):
        sentences.append(
            "Confidence intervals are by a bootstrap over groups, such as artists; those of a cross-validation "
            "are over the tracks of all folds. Overlapping intervals do not mean that two runs are equally good."
        )
    if len(entries) > 1:
        sentences.append("Bold: the highest value of the row, whether or not the difference is more than chance.")
    if any(len(entry.metrics) > 1 for entry in entries):
        sentences.append("A cross-validation is shown as the mean ± standard deviation over its folds.")
    if any(entry.summary and entry.summary.by_seed for entry in entries):
        sentences.append(
            "Scores of a cross-validation with several seeds are means over the seeds; its curves, its times and "
            "the comparison by tracks are those of the first seed."
        )
    if any(_best_on_test(entry) for entry in entries):
        sentences.append(
            "The best epoch on test is selected on the test fold itself, as in many published results: "
            "it overestimates the accuracy on new music."
        )
    return sentences


def _read_entry(folder: str) -> Entry:
    path = StoragePath.of(folder)
    summary = Run(path).cross_validation()
    runs = [Run(run_folder(path, fold.fold)) for fold in summary.folds] if summary else [Run(path)]
    settings: dict[str, Any] = {}
    metrics = []
    for run in runs:
        settings = _settings(run)
        if not run.history():
            raise TrainError(
                f"{run.folder / 'history.json'} is missing or empty. Repeat its run or train command: it writes "
                "the file from the latest checkpoint."
            )
        metrics.append(metrics_of_model(run))
    if summary:
        settings = {key: value for key, value in settings.items() if key != "train.test_fold"}
        if settings["train.validation_fold"] != "none":
            settings["train.validation_fold"] = "next"
        if summary.by_seed:
            settings["seeds"] = len(summary.by_seed.seeds)
    return Entry(
        path.stored if path.scheme or os.path.isabs(folder) else folder,
        settings,
        metrics,
        [run.history() for run in runs],
        runs[0].trained().parameters,
        runs,
        summary,
    )


def _settings(run: Run) -> dict[str, Any]:
    model_info = run.trained()
    featurize = run.featurize_settings()
    info = run.info()
    files = {"model code": info.model_code, "initial weights": info.initial} if info else {}
    return {
        **{f"train.{key}": value for key, value in run.config().compared.items()},
        **{f"featurize.{key}": value for key, value in {**featurize, **model_info.features}.items()},
        "dataset": model_info.dataset,
        # Two runs may have read other files under the same name.
        **{f"SHA-256 of {name}": file.sha256[:_DIGITS_SHOWN] for name, file in files.items() if file},
    }


def _figure(label: str, values: Sequence[Sequence[float]], ranked: bool = True) -> Row:
    """Return the row of a figure: its value for a single run, mean and standard deviation for several.

    Args:
        label: Label of the row.
        values: Values of the runs of each entry; none if the entry does not have the figure.
        ranked: Whether to mark the best entries.
    """
    means = [float(np.mean(of_runs)) if of_runs else math.nan for of_runs in values]
    cells = [
        f"{mean:.3f}" + (f" ± {np.std(of_runs):.3f}" if len(of_runs) > 1 else "") if of_runs else _ABSENT
        for of_runs, mean in zip(values, means, strict=True)
    ]
    best = [i for i, mean in enumerate(means) if mean == max(means)] if ranked and len(means) > 1 else []
    return Row(label, cells, frozenset(best))


def _interval(entry: Entry, part: str, figure: str) -> str:
    """Return the confidence interval of a figure."""
    found = entry.intervals and getattr(entry.intervals, part)
    if not found:
        return _ABSENT
    low, high = getattr(found, figure)
    return f"{low:.3f} to {high:.3f}"


def _best_on_test(entry: Entry) -> list[float]:
    """Return the highest accuracy of segments on the test fold after any evaluated epoch, for each run.

    Returns:
        One value for each run; none if a run was not evaluated on the test fold in training, up to its end.
    """
    if not all(history[-1].test for history in entry.histories):
        return []
    return [max(epoch.test.accuracy for epoch in history if epoch.test) for history in entry.histories]


def _test_set(entry: Entry) -> str:
    tracks = sum(metrics.tracks.count for metrics in entry.metrics)
    if len(entry.metrics) == 1:
        return f"{tracks} tracks, {entry.metrics[0].test_set}"
    return f"{tracks} tracks, folds {', '.join(str(metrics.test_fold) for metrics in entry.metrics)}"


def _seconds(entry: Entry) -> float:
    return sum(epoch.seconds for history in entry.histories for epoch in history)


def _rate(entry: Entry) -> float:
    """Return the segments trained on per second, over all epochs of all runs."""
    segments = sum(e.examples_per_second * e.seconds for history in entry.histories for e in history)
    return segments / max(_seconds(entry), 1e-9)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _count(number: int | None) -> str:
    return _ABSENT if number is None else f"{number:,}"


def _setting(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _distinct(numbers: Any) -> list[str]:
    return [str(number) for number in sorted(set(numbers))]
