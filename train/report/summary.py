"""What the figures of a judged run say, in a few sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from train.config import TrainConfig
from train.input.class_counts import FEW_TRACKS
from train.records import ClassScores, Metrics, Scores
from train.report.html import counted

_FEW_TO_JUDGE = 50  # tracks; the interval below is then some 25 points wide


def summarize_run(metrics: Metrics, config: TrainConfig, epochs: int, small: Mapping[str, int]) -> list[str]:
    """Say how good a model is, what it confuses, and how far its figures can be trusted.

    Args:
        metrics: the content of `metrics.json`.
        config: what it was trained with.
        epochs: how many it was trained for.
        small: the tracks of each class that has few of them, see `train.input.class_counts.small_classes`.

    Returns:
        three paragraphs of plain text.
    """
    tracks, classes = metrics.tracks, metrics.classes
    confusion = np.array(tracks.confusion)
    return [
        " ".join([_how_many(tracks), _against_the_most_frequent(confusion, classes)]),
        " ".join([*_best_and_worst(tracks.per_class), _confusions(confusion, classes)]),
        " ".join([*_caveats(tracks, small), _chosen_by(metrics.epoch, epochs, config)]),
    ]


def _how_many(tracks: Scores) -> str:
    """Give the accuracy and its interval (Wilson, J. Am. Stat. Assoc. 22, 1927), as if tracks were independent."""
    count, right = tracks.count, round(tracks.accuracy * tracks.count)
    interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
    return (
        f"It names {_of(right, count)} right, {_percent(right / count)}. On more music like this "
        f"it may be anything between {_percent(interval.low)} and {_percent(interval.high)} "
        f"({_percent(0.95)} interval)."
    )


def _against_the_most_frequent(confusion: Any, classes: Sequence[str]) -> str:
    totals = confusion.sum(axis=1)
    most = int(totals.argmax())
    alone = (totals == totals[most]).sum() == 1
    said = f"{_quoted(classes[most])}, the most frequent class here," if alone else "one class for all of them"
    return f"Always saying {said} would be right for {totals[most]}, {_percent(totals[most] / totals.sum())}."


def _best_and_worst(per_class: Sequence[ClassScores]) -> list[str]:
    """Name the classes with the highest and the lowest F1, and those that were not judged."""
    judged = sorted((one for one in per_class if one.count), key=lambda one: -one.f1)
    absent = [_quoted(one.label) for one in per_class if not one.count]
    best, worst = judged[0], judged[-1]
    sentences = []
    if len(judged) > 1 and best.f1 > worst.f1:
        sentences.append(
            f"It hears {_quoted(best.label)} best (F1 {best.f1:.2f}) and {_quoted(worst.label)} worst "
            f"({worst.f1:.2f})."
        )
    elif len(judged) > 1:
        sentences.append(f"It hears all classes alike (F1 {best.f1:.2f}).")
    if absent:
        sentences.append(f"The test fold has no track of {_listed(absent)}: nothing here covers that.")
    return sentences


def _confusions(confusion: Any, classes: Sequence[str]) -> str:
    """Name the most frequent confusion; of equally frequent ones that with the larger share of its class."""
    totals = confusion.sum(axis=1)
    wrong = confusion - np.diag(np.diag(confusion))
    if not wrong.any():
        return "It takes no track for another class."
    shares = wrong / np.maximum(totals[:, None], 1)
    true, heard = max(np.ndindex(*wrong.shape), key=lambda cell: (wrong[cell], shares[cell]))
    ties = int((wrong == wrong[true, heard]).sum()) - 1
    also = f", and {ties} other confusion{'s are' if ties > 1 else ' is'} as frequent" if ties else ""
    return (
        f"Most often it takes {_quoted(classes[true])} for {_quoted(classes[heard])}: "
        f"{_of(wrong[true, heard], totals[true])}{also}."
    )


def _caveats(tracks: Scores, small: Mapping[str, int]) -> list[str]:
    sentences = []
    if tracks.count < _FEW_TO_JUDGE:
        sentences.append(
            f"One fold of {counted(tracks.count, 'track')} says little: earmark crossval judges on each fold "
            "in turn."
        )
    if small:
        named = _listed([f"{_quoted(label)} ({count})" for label, count in small.items()])
        sentences.append(
            f"Fewer than {FEW_TRACKS} tracks in all folds: {named}. What is said of them rests on very little, "
            "and the macro-F1 counts each class alike."
        )
    return sentences


def _chosen_by(epoch: int, epochs: int, config: TrainConfig) -> str:
    if config.validation_fold == "none":
        return f"There was no validation fold; the model is the one after the last epoch, {epoch}."
    return (
        f"Epoch {epoch} of {epochs} was chosen by the validation fold ({config.select_by}), not by the test fold."
    )


def _of(part: int, whole: int) -> str:
    return f"{'all' if part == whole > 1 else 'none' if part == 0 else part} of {counted(whole, 'track')}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _quoted(name: str) -> str:
    return f"“{name}”"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
