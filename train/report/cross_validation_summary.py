"""What a cross-validation shows, in a few sentences, for the terminal and its page."""

from collections.abc import Mapping, Sequence

import numpy as np

from train.evaluation.bootstrap import Difference
from train.report.html import counted
from train.score_records import ScoreIntervals
from train.summary_records import CrossValidationSummary


def summarize_cross_validation(
    summary: CrossValidationSummary, difference: Mapping[str, Difference] | None
) -> list[str]:
    """Summarize how accurate the network is, how it compares with simpler methods, and how much the scores vary.

    Args:
        summary: The content of `crossval.json`.
        difference: Scores of the network minus those of the SVM, from
            `train.evaluation.svm_predictions.network_minus_svm`; None if they are not known.

    Returns:
        Sentences of plain text; a simpler method that is better, or may be, comes first.
    """
    return [*_verdict(summary, difference), _accuracy(summary), *_svm(summary, difference), _spread(summary)]


def _verdict(summary: CrossValidationSummary, difference: Mapping[str, Difference] | None) -> list[str]:
    counts = np.array(summary.confusion.tracks)
    most = float(counts.sum(axis=1).max() / max(counts.sum(), 1))
    found = _interval(summary)
    low = found.accuracy[0] if found else _share(summary.confusion.tracks)
    svm = _share(summary.confusion.svm_tracks)
    sentences, weaker = [], []
    if low <= most:
        weaker.append(f"predicting the most frequent class for every track, whose accuracy is {most:.3f}")
    if difference and difference["accuracy"].interval.high < 0:
        sentences.append(f"The SVM, whose accuracy is {svm:.3f}, is better than the network.")
    elif difference["accuracy"].interval.low <= 0 if difference else low <= svm:
        weaker.append(f"the SVM, whose accuracy is {svm:.3f}")
    if weaker:
        sentences.append(f"The network is not shown to be better than {' or '.join(weaker)}.")
    return sentences


def _accuracy(summary: CrossValidationSummary) -> str:
    found, of_seeds = _interval(summary), summary.by_seed
    text = f"Accuracy of all tracks{' and seeds' if of_seeds else ''}: {_share(summary.confusion.tracks):.3f}"
    if not found:
        return f"{text}."
    low, high = found.accuracy
    groups = counted(found.groups, "group")
    return f"{text} (95% confidence interval {low:.3f} to {high:.3f}, {groups})."


def _svm(summary: CrossValidationSummary, difference: Mapping[str, Difference] | None) -> list[str]:
    if not difference:
        return []
    value, (low, high) = difference["accuracy"]
    verdict = "it contains 0" if low <= 0 <= high else "it excludes 0"
    return [
        f"The network minus the SVM on the same tracks: accuracy {value:+.3f} (95% confidence interval {low:+.3f} "
        f"to {high:+.3f}; {verdict})."
    ]


def _spread(summary: CrossValidationSummary) -> str:
    over_folds = f"Standard deviation over folds: {summary.deviation.tracks.accuracy:.3f}"
    if not summary.by_seed:
        return f"{over_folds}; each fold has one seed, so it includes the spread over seeds."
    seeds = summary.by_seed.deviation.tracks.accuracy
    return (
        f"{over_folds} (of their means over {len(summary.by_seed.seeds)} seeds); over seeds: {seeds:.3f} (the "
        "deviation within a fold, averaged over the folds)."
    )


def _interval(summary: CrossValidationSummary) -> ScoreIntervals | None:
    return summary.intervals.tracks if summary.intervals else None


def _share(confusion: Sequence[Sequence[int]]) -> float:
    """Return the share of correct predictions."""
    counts = np.array(confusion)
    return float(np.trace(counts) / max(counts.sum(), 1))
