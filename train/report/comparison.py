"""Finished runs side by side: what they differ in, how good they are, and what they cost."""

import dataclasses
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml

from featurize.storage import StoragePath
from train.errors import TrainError
from train.records import EpochRecord, Metrics
from train.run import Run

_NOTHING = "-"

History = list[EpochRecord]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A run, or the runs of a cross-validation.

    Attributes:
        name: the folder as it was given.
        settings: `section.key` to value, of all that may change what was learned.
        metrics: the content of each run's `metrics.json`.
        histories: the figures of each run's epochs.
        parameters: of the model; None where that was not recorded.
    """

    name: str
    settings: dict[str, Any]
    metrics: list[Metrics]
    histories: list[History]
    parameters: int | None

    @property
    def model(self) -> str:
        """The network."""
        return str(self.settings["train.model"])


@dataclasses.dataclass(frozen=True)
class Row:
    """One property of all runs.

    Attributes:
        label: what it is.
        cells: text for each run.
        best: the indices of the best runs, where one can be better than another.
    """

    label: str
    cells: list[str]
    best: frozenset[int] = frozenset()


def read_entries(folders: Sequence[str]) -> list[Entry]:
    """Read runs, and cross-validations with all their folds.

    Raises:
        TrainError: some folder holds no judged run; all such folders are named.
    """
    entries, problems = [], []
    for folder in folders:
        try:
            entries.append(_read_entry(folder))
        except TrainError as error:
            problems.append(str(error))
    if problems:
        raise TrainError("these cannot be compared:\n" + "\n".join(f"  - {problem}" for problem in problems))
    return entries


def table_of(entries: Sequence[Entry]) -> list[Row]:
    """Return what is to be said of some entries: what they are, how good they are, and what they cost."""
    rows = [Row("model", [entry.model for entry in entries])]
    for key in sorted(set().union(*(entry.settings for entry in entries)) - {"train.model"}):
        values = [entry.settings.get(key, _NOTHING) for entry in entries]
        if any(value != values[0] for value in values):
            rows.append(Row(key, [_setting(value) for value in values]))
    rows.append(Row("judged", [_judged(entry) for entry in entries]))
    for part in ("tracks", "segments"):
        for figure, words in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
            value_of = operator.attrgetter(f"{part}.{figure}")
            values = [[value_of(metrics) for metrics in entry.metrics] for entry in entries]
            rows.append(_figure(f"{words} of {part}", values))
    rows.append(_figure("best epoch on test, segments", [_best_on_test(entry) for entry in entries], ranked=False))
    rows.append(Row("parameters", [_count(entry.parameters) for entry in entries]))
    rows.append(Row("epochs", ["/".join(_distinct(map(len, entry.histories))) for entry in entries]))
    rows.append(Row("segments a second", [_count(round(_rate(entry))) for entry in entries]))
    rows.append(Row("training time", [_duration(_seconds(entry)) for entry in entries]))
    return rows


def remarks_on(entries: Sequence[Entry]) -> list[str]:
    """Return sentences on what makes a comparison less than fair."""
    sentences = []
    if len({entry.settings.get("dataset") for entry in entries}) > 1:
        sentences.append(
            "The runs were trained on different datasets: the tracks, the folds or the features are not the same."
        )
    elif len({tuple(sorted(m.test_fold for m in entry.metrics)) for entry in entries}) > 1:
        sentences.append("The runs were judged on different folds, and thus on different tracks.")
    if any(len(entry.metrics) > 1 for entry in entries):
        sentences.append("A cross-validation is shown by the mean over its folds, and their deviation.")
    sentences.append(
        "The best epoch on test is read off the test fold itself, as published figures often are: it flatters."
    )
    return sentences


def _read_entry(folder: str) -> Entry:
    place = StoragePath.of(folder)
    summary = Run(place).cross_validation()
    folds = [fold.fold for fold in summary.folds] if summary else []
    runs = [Run(place / f"fold={fold}") for fold in folds] or [Run(place)]
    settings: dict[str, Any] = {}
    metrics = []
    for run in runs:
        settings = _settings(run)
        evaluated = run.metrics()
        if not (evaluated and run.history()):
            raise TrainError(f"{run.folder} is not judged yet. Type: earmark evaluate {run.folder}")
        metrics.append(evaluated)
    if summary:
        settings = {key: value for key, value in settings.items() if key != "train.test_fold"}
        if settings["train.validation_fold"] != "none":
            settings["train.validation_fold"] = "next"
    return Entry(folder, settings, metrics, [run.history() for run in runs], runs[0].trained().parameters)


def _settings(run: Run) -> dict[str, Any]:
    about = run.trained()
    recorded = yaml.safe_load((run.folder / "config.yaml").read())
    featurize = recorded.get("featurize") or {}
    return {
        **{f"train.{key}": value for key, value in run.config().compared.items()},
        **{f"featurize.{key}": value for key, value in {**featurize, **about.features}.items()},
        "dataset": about.dataset,
    }


def _figure(label: str, values: Sequence[Sequence[float]], ranked: bool = True) -> Row:
    """Return a row of shares, given those of each entry: the value of a run, the mean and deviation of several."""
    means = [float(np.mean(found)) for found in values]
    cells = [
        f"{mean:.3f}" + (f" ± {np.std(found):.3f}" if len(found) > 1 else "")
        for found, mean in zip(values, means, strict=True)
    ]
    best = [i for i, mean in enumerate(means) if mean == max(means)] if ranked and len(means) > 1 else []
    return Row(label, cells, frozenset(best))


def _best_on_test(entry: Entry) -> list[float]:
    """Return the highest accuracy of segments that the test fold showed after any epoch, of each run."""
    return [max(epoch.test.accuracy for epoch in history) for history in entry.histories]


def _judged(entry: Entry) -> str:
    tracks = sum(metrics.tracks.count for metrics in entry.metrics)
    folds = ", ".join(str(metrics.test_fold) for metrics in entry.metrics)
    return f"{tracks} tracks, fold{'s' if len(entry.metrics) > 1 else ''} {folds}"


def _seconds(entry: Entry) -> float:
    return sum(epoch.seconds for history in entry.histories for epoch in history)


def _rate(entry: Entry) -> float:
    """Return the segments learned in a second, over all epochs of all runs."""
    learned = sum(e.examples_per_second * e.seconds for history in entry.histories for e in history)
    return learned / max(_seconds(entry), 1e-9)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _count(number: int | None) -> str:
    return _NOTHING if number is None else f"{number:,}"


def _setting(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _distinct(numbers: Any) -> list[str]:
    return [str(number) for number in sorted(set(numbers))]
