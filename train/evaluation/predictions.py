"""Predictions of a model for the segments of some tracks, as a Parquet file and as the tracks of the report."""

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from featurize.dataset.json_text import parse_json
from featurize.dataset.schema import SEGMENT_FIELDS
from featurize.dataset.tables import encode_table, read_table
from featurize.storage import StoragePath, describe
from train.errors import TrainError
from train.evaluation.metrics import Float64, Int32, pool_tracks

PREDICTIONS = "predictions.parquet"  # in the folder of a run: a folder of parts, or one file of an earlier version
_Classes = TypeAdapter(Annotated[list[str], Field(min_length=1, max_length=100_000)])


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The evaluated segments, a row each; the segments of a track are adjacent.

    Attributes:
        segments: `track`, `segment` and `start` of each row, by SEGMENT_FIELDS.
        probabilities: float64 [rows, classes].
        labels: int32 [rows], indices of the actual classes.
        per_track: Number of rows of each track.
        classes: Class names.
    """

    segments: pa.Table
    probabilities: Float64
    labels: Int32
    per_track: int
    classes: list[str]

    def table(self) -> pa.Table:
        """Return a row for each segment: `track`, `label` (the name), `segment`, `start` and `probabilities`.

        `probabilities` is a list of float32, in the order of the classes in the metadata of the field.
        """
        labels = pa.DictionaryArray.from_arrays(pa.array(self.labels), pa.array(self.classes, pa.string()))
        numbers = pa.array(self.probabilities.astype(np.float32).ravel())
        probabilities = pa.FixedSizeListArray.from_arrays(numbers, len(self.classes))
        track, segment, start = (self.segments[name] for name in ("track", "segment", "start"))
        return pa.table([track, labels, segment, start, probabilities], schema=_schema(self.classes))

    @classmethod
    def read(cls, path: StoragePath) -> "Predictions":
        """Read a file that `encode` returned; the probabilities are rounded to float32.

        Raises:
            TrainError: The file is missing or broken.
        """
        try:
            table = read_table(path)
            classes = _Classes.validate_python(
                parse_json(table.schema.field("probabilities").metadata[b"classes"])
            )
            expected = _schema(classes)
            if table.schema != expected:
                raise ValueError(f"expected {_columns(expected)}, found {_columns(table.schema)}")
            probabilities = table["probabilities"].combine_chunks().flatten().to_numpy().astype(np.float64)
            labels = table["label"].combine_chunks().indices.to_numpy()
            per_track = _rows_of_first(table["track"])
            if labels.max() >= len(classes) or not np.isfinite(probabilities).all():
                raise ValueError("it has labels that are no class, or probabilities that are not finite")
            if len(table) % per_track:
                raise ValueError(f"{len(table)} rows are not those of tracks with {per_track} segments each")
        except (pa.ArrowException, IndexError, KeyError, OSError, TypeError, ValueError, MemoryError) as error:
            reason = describe(error) if isinstance(error, OSError) else str(error).rstrip(".")
            run = path.parent.parent if path.name != PREDICTIONS else path.parent
            raise TrainError(f"cannot read {path}: {reason}. Type: earmark evaluate {run.quoted}") from error
        segments = table.select(["track", "segment", "start"])
        return cls(segments, probabilities.reshape(-1, len(classes)), labels, per_track, classes)

    def encode(self) -> pa.Buffer:
        """Return the table as a Parquet file."""
        return encode_table(self.table())

    def select(self, tracks: NDArray[np.int64]) -> "Predictions":
        """Return the predictions of some tracks, by their indices, in this order."""
        rows = (tracks[:, None] * self.per_track + np.arange(self.per_track)).ravel()
        segments = self.segments.take(pa.array(rows))
        return dataclasses.replace(
            self, segments=segments, probabilities=self.probabilities[rows], labels=self.labels[rows]
        )

    def most_notable(self, limit: int) -> "Predictions":
        """Return the tracks that the report lists, at most `limit`.

        The most confident errors come first, then the correct predictions, the least confident first.
        """
        pooled, labels = pool_tracks(self.probabilities, self.labels, self.per_track)
        confidence, correct = pooled.max(axis=1), pooled.argmax(axis=1) == labels
        return self.select(np.lexsort((np.where(correct, confidence, -confidence), correct))[:limit])

    def tracks(self) -> list[dict[str, Any]]:
        """Describe each track for the report.

        Returns:
            A dictionary for each track:

            - `track`: Identifier of the track.
            - `actual`, `predicted`: Class indices.
            - `probabilities`: Probability of each class, in thousandths.
            - `starts`: Start of each segment, in seconds.
            - `segment_probabilities`: Probability of each class, in thousandths, for each segment.
            - `segment_predictions`: Predicted class index of each segment.
        """
        pooled, labels = pool_tracks(self.probabilities, self.labels, self.per_track)
        names = self.segments["track"].to_pylist()[:: self.per_track]
        starts = self.segments["start"].to_numpy().reshape(-1, self.per_track).round(2)
        segment_probabilities = self.probabilities.reshape(len(labels), self.per_track, -1)
        return [
            {
                "track": name,
                "actual": int(labels[i]),
                "predicted": int(pooled[i].argmax()),
                "probabilities": _thousandths(pooled[i]),
                "starts": starts[i].tolist(),
                "segment_probabilities": _thousandths(segment_probabilities[i]),
                "segment_predictions": segment_probabilities[i].argmax(axis=1).tolist(),
            }
            for i, name in enumerate(names)
        ]


def join(one: Predictions, other: Predictions) -> Predictions:
    """Return the tracks of two sets of predictions by one model."""
    return dataclasses.replace(
        one,
        segments=pa.concat_tables([one.segments, other.segments]),
        probabilities=np.concatenate([one.probabilities, other.probabilities]),
        labels=np.concatenate([one.labels, other.labels]),
    )


def most_notable(parts: Iterable[Predictions], limit: int) -> Predictions | None:
    """Return the tracks of all parts that the report lists, at most `limit`; None without parts.

    No more than the tracks found so far and those of one part are in memory.
    """
    found: Predictions | None = None
    for part in parts:
        found = (join(found, part) if found else part).most_notable(limit)
    return found


def audio_link(track: str, music: StoragePath | None, folder: StoragePath) -> str | None:
    """Return the URL of a track's audio relative to a page, or None if the file is not on this machine.

    Args:
        track: Identifier of the track, a path relative to `music`.
        music: Music root; None if it is not recorded.
        folder: Folder of the page.
    """
    if not (music and music.local and folder.local):
        return None
    path = os.path.join(music.path, track)
    return quote(os.path.relpath(path, folder.path)) if os.path.isfile(path) else None


def _schema(classes: list[str]) -> pa.Schema:
    """Return the schema of `Predictions.table`."""
    track, _, segment, start = SEGMENT_FIELDS
    return pa.schema(
        [
            track,
            pa.field("label", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            segment,
            start,
            pa.field(
                "probabilities",
                pa.list_(pa.float32(), len(classes)),
                nullable=False,
                metadata={"classes": json.dumps(classes, ensure_ascii=False)},
            ),
        ]
    )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _rows_of_first(tracks: pa.ChunkedArray) -> int:
    """Return the number of rows of the first track; all tracks have the same number."""
    return int(pc.sum(pc.equal(tracks, tracks[0])).as_py())


def _thousandths(probabilities: Float64) -> Any:
    return np.rint(1000 * probabilities).astype(int).tolist()
