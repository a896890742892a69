"""Scores of a model on an external test set: the answers for its music, compared with its labels by name."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from featurize.dataset.reader import UNREADABLE
from featurize.display import one_line
from featurize.storage import StoragePath
from train.answers.folder import MANIFEST, broken, read_answers_info, read_manifest
from train.errors import TrainError
from train.evaluation.metrics import score_confusion
from train.record_base import Classes, Count, Record
from train.score_records import ProbabilityScores

LABEL = "given_label"  # column of the answers
METRICS = "metrics.json"
_ERRORS_KEPT = 500
_NAMES_SHOWN = 10


class ExternalMetrics(Record):
    """metrics.json of an external evaluation.

    Attributes:
        model_sha256: SHA-256 of the model, in hexadecimal.
        answers: Fingerprint of the answers.
        classes: Class names of the model.
        segments: Scores of single segments of the tracks whose class is one of the model.
        tracks: Scores of these tracks, by the mean of the probabilities of their segments.
        unmatched: Classes of the test set that the model does not have, with their numbers of tracks, which are
            not evaluated. A track without a class has the class "".
        absent: Classes of the model that the test set does not have.
        rejects: Number of tracks that could not be read.
    """

    model_sha256: str
    answers: str
    classes: Classes
    segments: ProbabilityScores
    tracks: ProbabilityScores
    unmatched: dict[str, Annotated[int, Field(ge=1)]]
    absent: list[str]
    rejects: Count


@dataclasses.dataclass(frozen=True, order=True)
class ConfidentError:
    """A track with another predicted class than its own; the most confident one is the smallest.

    Attributes:
        doubt: 1 minus the confidence.
        track: Its id.
        actual, predicted: Class names.
    """

    doubt: float
    track: str
    actual: str
    predicted: str


class _Totals:
    """Confusion counts and the sum of the cross-entropy of some rows."""

    def __init__(self, classes: int) -> None:
        self.confusion = np.zeros((classes, classes), np.int64)
        self.loss = 0.0

    def add(self, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        np.add.at(self.confusion, (labels, probabilities.argmax(axis=1)), 1)
        likelihood = probabilities[np.arange(len(labels)), labels]
        self.loss -= float(np.log(np.maximum(likelihood, np.finfo(np.float32).tiny)).sum())

    def scores(self, classes: Sequence[str]) -> ProbabilityScores:
        scores = score_confusion(self.confusion, classes)
        return ProbabilityScores(**dict(scores), loss=self.loss / scores.count)


def refuse_other_classes(labels: Iterable[str], classes: Sequence[str]) -> None:
    """Raise a TrainError if none of the labels of a test set is a class of the model."""
    if not (there := set(labels)).intersection(classes):
        raise TrainError(
            f"no class of the test set is one of the model: {_shown(sorted(there))} there, {_shown(classes)} in "
            "the model. Classes are matched by name: rename those of the test set."
        )


def score_answers(folder: StoragePath) -> tuple[ExternalMetrics, list[ConfidentError]]:
    """Score complete answers with a row for each segment and the actual class in the column LABEL.

    Reads one shard at a time.

    Returns:
        The metrics; and the most confident errors, at most 500.

    Raises:
        TrainError: The answers are incomplete or damaged, or no class of the test set is one of the model.
    """
    info = read_answers_info(folder)
    if info is None or not info.by_segment:
        raise broken(folder / "answers.json", ValueError("expected complete answers with a row for each segment"))
    classes, per_track = info.classes, info.settings.segments_per_track
    index = pa.array(classes, pa.string())
    segments, tracks = _Totals(len(classes)), _Totals(len(classes))
    given: Counter[str] = Counter()
    errors: list[ConfidentError] = []
    manifest = read_manifest(folder)
    for name, digest in zip(manifest["name"].to_pylist(), manifest["sha256"].to_pylist(), strict=True):
        table = _read(folder, name, digest)
        names = table["track"].to_pylist()[::per_track]
        labels = table[LABEL].combine_chunks().take(pa.array(np.arange(0, len(table), per_track)))
        given.update(label or "" for label in labels.to_pylist())
        numbers = _numbers(labels, index)
        values = table["probabilities"].combine_chunks().flatten().to_numpy().astype(np.float64)
        rows = values.reshape(-1, per_track, len(classes))
        kept = numbers >= 0
        rows, numbers = rows[kept], numbers[kept]
        pooled = rows.mean(axis=1)
        segments.add(rows.reshape(-1, len(classes)), np.repeat(numbers, per_track))
        tracks.add(pooled, numbers)
        predicted, confidence = pooled.argmax(axis=1), pooled.max(axis=1)
        kept_names = [name for name, keep in zip(names, kept, strict=True) if keep]
        for row in np.flatnonzero(predicted != numbers):
            doubt = 1 - float(confidence[row])
            errors.append(ConfidentError(doubt, kept_names[row], classes[numbers[row]], classes[predicted[row]]))
        errors = sorted(errors)[:_ERRORS_KEPT]
    unmatched = {label: count for label, count in sorted(given.items()) if label not in classes}
    if not given:
        raise TrainError(
            f"no track of the test set could be predicted; {folder / 'rejects.parquet'} lists the reasons. Fix "
            "the files, then run the same command with --retry-rejects."
        )
    refuse_other_classes(given, classes)
    metrics = ExternalMetrics(
        model_sha256=info.model,
        answers=info.id,
        classes=classes,
        segments=segments.scores(classes),
        tracks=tracks.scores(classes),
        unmatched=unmatched,
        absent=[label for label in classes if label not in given],
        rejects=sum(count.tracks for count in info.rejects),
    )
    return metrics, errors


def _read(folder: StoragePath, name: str, digest: str) -> pa.Table:
    """Read a shard, and check that it is the one that was written."""
    try:
        content = (folder / "shards" / name).read()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"the shard is not the one of {MANIFEST}; delete it")
        return pq.read_table(pa.BufferReader(content), columns=["track", LABEL, "probabilities"])
    except UNREADABLE as error:
        raise broken(folder / "shards" / name, error) from error


def _numbers(labels: pa.Array, classes: pa.Array) -> NDArray[np.int64]:
    """Return the class index of each label, int64 [tracks]; -1 for one that is no class."""
    found: NDArray[np.int64] = pc.fill_null(pc.index_in(labels, value_set=classes), -1).to_numpy().astype(np.int64)
    return found


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(one_line(name) or "(none)" for name in names[:_NAMES_SHOWN]) + more
