"""What a model said of each segment that it was judged on, for a file of the run and for its page."""

import dataclasses
import json
import os
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurize.dataset.schema import SHARD_SCHEMA
from featurize.dataset.tables import encode_table, read_table
from featurize.storage import StoragePath, describe
from train.errors import TrainError
from train.evaluation.metrics import Float64, Int32, pool_tracks

PREDICTIONS = "predictions.parquet"


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The judged segments, those of a track side by side.

    Attributes:
        segments: `track`, `segment` and `start` of each row, by SHARD_SCHEMA.
        probabilities: float64 [rows, classes].
        labels: int32 [rows], the true classes.
        per_track: rows of each track.
        classes: the class names.
    """

    segments: pa.Table
    probabilities: Float64
    labels: Int32
    per_track: int
    classes: list[str]

    def table(self) -> pa.Table:
        """Return a row for each segment: `track`, `label` (the name), `segment`, `start` and `probabilities`.

        The last is a list of float32, in the order of the classes in the field's metadata.
        """
        labels = pa.DictionaryArray.from_arrays(pa.array(self.labels), pa.array(self.classes, pa.string()))
        numbers = pa.array(self.probabilities.astype(np.float32).ravel())
        probabilities = pa.FixedSizeListArray.from_arrays(numbers, len(self.classes))
        schema = pa.schema(
            [
                SHARD_SCHEMA.field("track"),
                pa.field("label", labels.type, nullable=False),
                SHARD_SCHEMA.field("segment"),
                SHARD_SCHEMA.field("start"),
                pa.field(
                    "probabilities",
                    probabilities.type,
                    nullable=False,
                    metadata={"classes": json.dumps(self.classes, ensure_ascii=False)},
                ),
            ]
        )
        track, segment, start = (self.segments[name] for name in ("track", "segment", "start"))
        return pa.table([track, labels, segment, start, probabilities], schema=schema)

    @classmethod
    def read(cls, path: StoragePath) -> "Predictions":
        """Read what `encode` returned; the probabilities are rounded to float32.

        Raises:
            TrainError: the file is missing or broken.
        """
        try:
            table = read_table(path)
            probabilities = table["probabilities"].combine_chunks().flatten().to_numpy().astype(np.float64)
            classes = json.loads(table.schema.field("probabilities").metadata[b"classes"])
            labels = table["label"].combine_chunks().indices.to_numpy()
        except (pa.ArrowException, KeyError, OSError, TypeError, ValueError) as error:
            reason = describe(error) if isinstance(error, OSError) else error
            raise TrainError(f"cannot read {path}: {reason}. Type: earmark evaluate {path.parent}") from error
        segments = table.select(["track", "segment", "start"])
        return cls(
            segments, probabilities.reshape(-1, len(classes)), labels, _rows_of_first(table["track"]), classes
        )

    def encode(self) -> pa.Buffer:
        """Return the table as a Parquet file."""
        return encode_table(self.table())

    def tracks(self, most: int) -> list[dict[str, Any]]:
        """Describe tracks for a reader: the surest mistakes first, then the right ones, the least sure first.

        Args:
            most: how many of them.

        Returns:
            for each the `track`; the classes that it `is` and is `heard` as, as indices; its probabilities `p` in
            thousandths; and of its segments the `starts` in seconds, the probabilities `segments` in thousandths
            and the classes that they are `said` to be.
        """
        pooled, labels = pool_tracks(self.probabilities, self.labels, self.per_track)
        heard, sureness = pooled.argmax(axis=1), pooled.max(axis=1)
        right = heard == labels
        order = np.lexsort((np.where(right, sureness, -sureness), right))[:most]
        rows = order[:, None] * self.per_track + np.arange(self.per_track)
        names = self.segments["track"].take(pa.array(rows[:, 0])).to_pylist()
        starts = self.segments["start"].to_numpy()[rows].round(2)
        of_segments = self.probabilities[rows]
        return [
            {
                "track": name,
                "is": int(labels[track]),
                "heard": int(heard[track]),
                "p": _thousandths(pooled[track]),
                "starts": starts[i].tolist(),
                "segments": _thousandths(of_segments[i]),
                "said": of_segments[i].argmax(axis=1).tolist(),
            }
            for i, (track, name) in enumerate(zip(order, names, strict=True))
        ]


def audio_link(track: str, music: StoragePath | None, folder: StoragePath) -> str | None:
    """Return the relative URL by which a page finds the audio of a track, None where that is not at hand.

    Args:
        track: the track's id.
        music: where ids begin.
        folder: where the page lies.
    """
    if not (music and music.local and folder.local):
        return None
    path = os.path.join(music.path, track)
    return quote(os.path.relpath(path, folder.path)) if os.path.isfile(path) else None


def _rows_of_first(tracks: pa.ChunkedArray) -> int:
    """Return how many rows the first track has; all tracks have as many."""
    return int(pc.sum(pc.equal(tracks, tracks[0])).as_py())


def _thousandths(probabilities: Float64) -> Any:
    return np.rint(1000 * probabilities).astype(int).tolist()
