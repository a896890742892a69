"""Summary of the metrics of a run in a few sentences, for the top of its report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from train.config import TrainConfig
from train.input.class_counts import FEW_TRACKS
from train.report.html import counted
from train.score_records import ClassScores, Metrics

_SMALL_TEST_SET = 50  # tracks; the 95 % interval of the accuracy is then about 25 percentage points wide


def summarize_run(metrics: Metrics, config: TrainConfig, epochs: int, small: Mapping[str, int]) -> list[str]:
    """Summarize how accurate a model is, what it confuses, and how reliable its figures are.

    Args:
        metrics: The content of `metrics.json`.
        config: Training settings.
        epochs: Number of epochs trained.
        small: Number of tracks of each small class, from `train.input.class_counts.small_classes`.

    Returns:
        Three paragraphs of plain text.
    """
    tracks, classes = metrics.tracks, metrics.classes
    confusion = np.array(tracks.confusion)
    return [
        " ".join([*_verdict(metrics, confusion), _accuracy(metrics), _majority_baseline(confusion, classes)]),
        " ".join([*_best_and_worst(metrics), _most_frequent_confusion(confusion, classes)]),
        " ".join([*_caveats(metrics, small), _epoch_selection(metrics, epochs, config)]),
    ]


def _verdict(metrics: Metrics, confusion: Any) -> list[str]:
    """Return a sentence if the accuracy may be no better than that of the most frequent class alone."""
    share = confusion.sum(axis=1).max() / confusion.sum()
    interval = _interval(metrics)
    if interval is None and metrics.tracks.accuracy <= share:
        return [
            "This model is not better than predicting one class for every track: its accuracy is "
            f"{_percent(metrics.tracks.accuracy)}, and the most frequent class alone has {_percent(share)}."
        ]
    if interval is None or interval[0] > share:
        return []
    return [
        "This model is not shown to be better than predicting one class for every track: the confidence interval "
        f"of its accuracy begins at {_percent(interval[0])}, and the most frequent class alone has "
        f"{_percent(share)}."
    ]


def _interval(metrics: Metrics) -> list[float] | None:
    found = metrics.intervals and metrics.intervals.tracks
    return found.accuracy if found else None


def _accuracy(metrics: Metrics) -> str:
    tracks = metrics.tracks
    count, correct = tracks.count, round(tracks.accuracy * tracks.count)
    found = metrics.intervals and metrics.intervals.tracks
    text = f"Correct: {_of(correct, count)}, {_percent(correct / count)}"
    if not found:
        return f"{text}."
    low, high = found.accuracy
    return (
        f"{text} ({_percent(0.95)} confidence interval: {_percent(low)} to {_percent(high)}, by a bootstrap over "
        f"{counted(found.groups, 'group')})."
    )


def _majority_baseline(confusion: Any, classes: Sequence[str]) -> str:
    totals = confusion.sum(axis=1)
    largest = int(totals.argmax())
    unique = (totals == totals[largest]).sum() == 1
    prediction = f"{_quoted(classes[largest])}, the most frequent class here," if unique else "a single class"
    return (
        f"For comparison: predicting {prediction} for every track would be correct for {totals[largest]}, "
        f"{_percent(totals[largest] / totals.sum())}."
    )


def _best_and_worst(metrics: Metrics) -> list[str]:
    """Name the classes with the highest and the lowest F1, and the classes without test tracks."""
    per_class: Sequence[ClassScores] = metrics.tracks.per_class
    ranked = sorted((scores for scores in per_class if scores.count), key=lambda scores: -scores.f1)
    absent = [_quoted(scores.label) for scores in per_class if not scores.count]
    best, worst = ranked[0], ranked[-1]
    sentences = []
    if len(ranked) > 1 and best.f1 > worst.f1:
        sentences.append(
            f"Best class: {_quoted(best.label)} (F1 {best.f1:.2f}); worst class: {_quoted(worst.label)} "
            f"(F1 {worst.f1:.2f})."
        )
    elif len(ranked) > 1:
        sentences.append(f"All classes have the same F1, {best.f1:.2f}.")
    if absent:
        sentences.append(
            f"The {_kind('test', metrics)} has no track of {_listed(absent)}, so these figures do not cover "
            f"{'that class' if len(absent) == 1 else 'those classes'}."
        )
    return sentences


def _most_frequent_confusion(confusion: Any, classes: Sequence[str]) -> str:
    """Name the most frequent confusion; among equally frequent ones, that with the largest share of its class."""
    totals = confusion.sum(axis=1)
    errors = confusion - np.diag(np.diag(confusion))
    if not errors.any():
        return "No track was misclassified."
    shares = errors / np.maximum(totals[:, None], 1)
    actual, predicted = max(np.ndindex(*errors.shape), key=lambda cell: (errors[cell], shares[cell]))
    ties = int((errors == errors[actual, predicted]).sum()) - 1
    also = f", and {ties} other confusion{'s are' if ties > 1 else ' is'} as frequent" if ties else ""
    return (
        f"Most frequent confusion: {_quoted(classes[actual])} predicted as {_quoted(classes[predicted])}, "
        f"{_of(errors[actual, predicted], totals[actual])}{also}."
    )


def _caveats(metrics: Metrics, small: Mapping[str, int]) -> list[str]:
    sentences = []
    size = counted(metrics.tracks.count, "track")
    if metrics.tracks.count < _SMALL_TEST_SET and metrics.split.is_official("test"):
        sentences.append(f"A test split of {size} gives a noisy estimate.")
    elif metrics.tracks.count < _SMALL_TEST_SET:
        sentences.append(
            f"One fold of {size} gives a noisy estimate: earmark crossval evaluates on each fold in turn."
        )
    if small:
        named = _listed([f"{_quoted(label)} ({count})" for label, count in small.items()])
        sentences.append(
            f"Fewer than {FEW_TRACKS} tracks in all folds: {named}. Their scores are unreliable: too few tracks. "
            "They affect macro-F1 as much as the other classes, because it weights every class equally."
        )
    return sentences


def _epoch_selection(metrics: Metrics, epochs: int, config: TrainConfig) -> str:
    if config.ensemble > 1:
        which = "its" if config.patience is None else "at most"
        chosen = (
            f"the best of {which} {epochs} epochs on the {_kind('validation', metrics)} ({config.select_by})"
            if config.selects_epoch
            else f"the last epoch, {metrics.epoch}"
        )
        return f"The model is the mean of {config.ensemble} members, each after {chosen}."
    if not config.selects_epoch:
        return f"Without a validation fold, the model is the one after the last epoch, {metrics.epoch}."
    return (
        f"Epoch {metrics.epoch} of {epochs} was selected on the {_kind('validation', metrics)} "
        f"({config.select_by}), not on the {_kind('test', metrics)}."
    )


def _kind(part: str, metrics: Metrics) -> str:
    """Return what a held-out part is called: `test fold`, or `test split` if it is an official one."""
    return f"{part} {'split' if metrics.split.is_official(part) else 'fold'}"


def _of(part: int, whole: int) -> str:
    return f"{'all' if part == whole > 1 else 'none' if part == 0 else part} of {counted(whole, 'track')}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _quoted(name: str) -> str:
    return f"“{name}”"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
