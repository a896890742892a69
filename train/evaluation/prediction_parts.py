"""The predictions of a run: a folder of Parquet files, each with the segments of some shards.

    predictions.parquet/part-00000-of-00003.parquet

A name says how many parts there are, so that a missing one is noticed. Runs of earlier versions have one file
`predictions.parquet` of the same format.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurize.storage import StoragePath
from train.errors import TrainError
from train.evaluation.metrics import Float64, Int32
from train.evaluation.predictions import PREDICTIONS, Predictions
from train.run import Run

if TYPE_CHECKING:  # reading predictions needs no TensorFlow
    from train.evaluation.held_out import HeldOut

_ROWS = 1 << 16  # of a part, about; fewer with many classes
_PROBABILITIES = 1 << 22  # of a part, about: 34 MB in float64
_NAME = re.compile(r"part-(\d{5,})-of-(\d{5,})\.parquet")


class PredictionWriter:
    """Writes predictions part by part: no more than one part and one batch are in memory."""

    def __init__(self, run: Run, fold: "HeldOut") -> None:
        """Begin without a part; nothing is written or removed yet.

        Args:
            run: The run. With the first part, its earlier predictions are removed, and its report of them.
            fold: The fold that is predicted.
        """
        self._folder, self._report = run.folder / PREDICTIONS, run.report
        self._fold = fold
        rows = fold.evaluated_rows()
        self._borders = cut(rows, min(_ROWS, _PROBABILITIES // len(fold.classes)))
        self._part_rows = [sum(rows[first:last]) for first, last in itertools.pairwise(self._borders)]
        self._written = 0
        self._waiting: list[tuple[Float64, Int32]] = []
        self._rows_waiting = 0

    def add(self, probabilities: Float64, labels: Int32) -> None:
        """Add predictions, in stored order, and write a part if it is complete.

        Args:
            probabilities: float64 [rows, classes].
            labels: int32 [rows], class indices.
        """
        self._waiting.append((probabilities, labels))
        self._rows_waiting += len(labels)
        while self._written < len(self._part_rows) and self._rows_waiting >= self._part_rows[self._written]:
            rows = self._part_rows[self._written]
            all_probabilities, all_labels = (np.concatenate(column) for column in zip(*self._waiting, strict=True))
            self._write(all_probabilities[:rows], all_labels[:rows])
            self._waiting = [(all_probabilities[rows:].copy(), all_labels[rows:].copy())]
            self._rows_waiting -= rows

    def _write(self, probabilities: Float64, labels: Int32) -> None:
        index, fold = self._written, self._fold
        segments = fold.segments(self._borders[index], self._borders[index + 1])
        part = Predictions(segments, probabilities, labels, fold.per_track, fold.classes)
        if not index:
            self._remove_earlier()
        (self._folder / _name(index, len(self._part_rows))).write(part.encode())
        self._written += 1

    def _remove_earlier(self) -> None:
        """Remove what an earlier evaluation wrote; only now, because reading a segment may fail."""
        self._report.remove()
        if self._folder.is_file():
            self._folder.remove()
        else:
            self._folder.remove_folder()


def cut(rows: Sequence[int], most: int) -> list[int]:
    """Divide shards into parts that are written together.

    Args:
        rows: Number of rows of each shard; at least one has rows.
        most: Number of rows from which on a part is complete.

    Returns:
        Borders: part p has the shards [borders[p], borders[p + 1]). Every part has rows.
    """
    borders, total = [0], 0
    for index, count in enumerate(rows):
        if total >= most and count:
            borders.append(index)
            total = 0
        total += count
    return [*borders, len(rows)]


def has_predictions(run: Run) -> bool:
    """Return whether the predictions of a run are there, and no part is missing; none is opened."""
    path = run.folder / PREDICTIONS
    return path.is_file() or bool(_parts(path))


def read_predictions(run: Run) -> Iterator[Predictions]:
    """Read the predictions of a run, in stored order, part by part.

    Raises:
        TrainError: They are missing, incomplete or broken.
    """
    path = run.folder / PREDICTIONS
    if path.is_file():
        yield Predictions.read(path)
        return
    parts = _parts(path)
    if not parts:
        found = "it is missing or incomplete" if path.is_folder() else "it does not exist"
        raise TrainError(f"cannot read {path}: {found}. Type: earmark evaluate {run.folder.quoted}")
    classes: list[str] | None = None
    for part in parts:
        predictions = Predictions.read(part)
        if predictions.classes != (classes := classes or predictions.classes):
            raise TrainError(
                f"cannot read {path}: its parts have different classes. Type: earmark evaluate {run.folder.quoted}"
            )
        yield predictions


def _parts(folder: StoragePath) -> list[StoragePath]:
    """Return the parts in a folder in their order; none if one is missing."""
    found = {name for name in folder.names() if _NAME.fullmatch(name)}
    count = max((int(match[2]) for name in found if (match := _NAME.fullmatch(name))), default=0)
    if len(found) != count:  # before names are made: a name may say any number
        return []
    names = [_name(index, count) for index in range(count)]
    return [folder / name for name in names] if found == set(names) else []


def _name(index: int, count: int) -> str:
    return f"part-{index:05d}-of-{count:05d}.parquet"
