"""The scores in a model card: of the test set, of each class, the confusions, and the confidence."""

from collections.abc import Iterator

from featurize.dataset.dataset import Dataset
from train.records import ModelInfo
from train.report.html import counted
from train.report.markdown import escape, markdown_table
from train.score_records import Interval, Metrics, ProbabilityScores, ScoreIntervals

_LARGEST_MATRIX = 20  # classes; a larger confusion matrix is not readable as a table
_CONFUSIONS_SHOWN = 20


def card_scores(metrics: Metrics, model: ModelInfo, dataset: Dataset) -> Iterator[str]:
    """Yield the paragraphs and tables on the scores of a model.

    Args:
        metrics: Scores of the test set.
        model: The model, of which the temperature is described.
        dataset: Dataset that it was trained on.
    """
    yield from _scores(metrics)
    yield from _classes(metrics, dataset)
    yield from _confusion(metrics)
    yield from _calibration(metrics, model)


def _interval(interval: Interval | None) -> str:
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "not known"


def _scores(metrics: Metrics) -> Iterator[str]:
    parts: tuple[tuple[str, ProbabilityScores, ScoreIntervals | None], ...] = (
        ("tracks", metrics.tracks, metrics.intervals.tracks if metrics.intervals else None),
        ("segments", metrics.segments, metrics.intervals.segments if metrics.intervals else None),
    )
    rows = [
        (
            part,
            scores.count,
            f"{scores.accuracy:.3f}",
            _interval(found.accuracy if found else None),
            f"{scores.macro_f1:.3f}",
            _interval(found.macro_f1 if found else None),
            f"{scores.loss:.3f}",
        )
        for part, scores, found in parts
    ]
    header = ("test set", "number", "accuracy", "95 % interval", "macro-F1", "95 % interval", "cross-entropy")
    yield markdown_table(header, rows)
    if metrics.copies_left_out:
        yield (
            f"{counted(metrics.copies_left_out, 'track')} of the test set, of which another fold has an exact "
            "copy, were not evaluated.\n"
        )


def _classes(metrics: Metrics, dataset: Dataset) -> Iterator[str]:
    parts = {part: set(split.folds) for part, split in metrics.split.parts.items()}
    counts = {
        part: {
            label: sum(c.tracks for c in dataset.info.counts if c.label == label and c.fold in folds)
            for label in metrics.classes
        }
        for part, folds in parts.items()
    }
    found = metrics.intervals.tracks if metrics.intervals else None
    rows = [
        (
            escape(scores.label),
            *(counts[part][scores.label] for part in parts),
            f"{scores.precision:.3f}",
            f"{scores.recall:.3f}",
            f"{scores.f1:.3f}",
            _interval(found.f1[index] if found else None),
        )
        for index, scores in enumerate(metrics.tracks.per_class)
    ]
    yield "## Classes\n"
    yield "Tracks in each part of the collection, without rejects, and scores of the tracks of the test set.\n"
    header = ("class", *(f"{part} tracks" for part in parts), "precision", "recall", "F1", "95 % interval of F1")
    yield markdown_table(header, rows)


def _confusion(metrics: Metrics) -> Iterator[str]:
    confusion, classes = metrics.tracks.confusion, metrics.classes
    yield "## Confusion\n"
    if len(classes) <= _LARGEST_MATRIX:
        yield "Tracks of the test set, by actual class (rows) and predicted class (columns).\n"
        rows = [(escape(label), *counts) for label, counts in zip(classes, confusion, strict=True)]
        yield markdown_table(("actual / predicted", *map(escape, classes)), rows)
        return
    errors = [
        (count, actual, predicted)
        for actual, counts in enumerate(confusion)
        for predicted, count in enumerate(counts)
        if count and actual != predicted
    ]
    errors.sort(key=lambda error: (-error[0], *error[1:]))
    yield f"The most frequent {min(len(errors), _CONFUSIONS_SHOWN)} of {counted(len(errors), 'confusion')}.\n"
    yield markdown_table(
        ("actual class", "predicted class", "tracks"),
        [
            (escape(classes[actual]), escape(classes[predicted]), count)
            for count, actual, predicted in errors[:_CONFUSIONS_SHOWN]
        ],
    )


def _calibration(metrics: Metrics, model: ModelInfo) -> Iterator[str]:
    if not metrics.calibration and model.temperature is None:
        return
    yield "## Confidence\n"
    if metrics.calibration:
        yield (
            "The confidence of a prediction, which is the probability of the predicted class, differs from the "
            f"share of correct predictions by {metrics.calibration.error:.3f} on average (expected calibration "
            "error, tracks of the test set).\n"
        )
    if model.temperature is not None:
        yield f"The logits are divided by {model.temperature:.4g}, a temperature fitted to the validation fold.\n"
    else:
        yield "The probabilities were not calibrated.\n"
