"""A shard of answers: the predictions of a model for some tracks, as a Parquet file."""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from featurize.dataset.footer import RejectedTrack, TrackRemark
from featurize.dataset.info import Count
from featurize.dataset.json_text import parse_json
from featurize.dataset.schema import FOOTER_KEY, SEGMENT_FIELDS
from featurize.dataset.stored_model import StoredModel, describe_invalid

NAME = re.compile(r"part-\d{5,}-[0-9a-f]{16}\.parquet")
_OWN_COLUMNS = frozenset({"track", "segment", "start", "label", "probability", "probabilities"})
_PREFIX = "given_"


@dataclasses.dataclass(frozen=True)
class PredictedTracks:
    """Predictions for the tracks of a shard that could be read.

    Attributes:
        tracks: Ids.
        starts: float64 [tracks, segments], start of each segment in seconds.
        probabilities: float64 [tracks, segments, classes].
        carried: Columns to carry along, a row a track.
    """

    tracks: Sequence[str]
    starts: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    carried: pa.Table


class AnswerFooter(StoredModel):
    """What the metadata of a shard has besides its rows.

    Attributes:
        predicted: Number of tracks with rows.
        labels: Number of tracks of each predicted class, in the order of the classes.
        rejects: Tracks without rows.
        remarks: Remarks on tracks with rows.
    """

    predicted: Count
    labels: Annotated[list[Count], Field(min_length=1)]
    rejects: list[RejectedTrack]
    remarks: list[TrackRemark]


def shard_name(index: int, fingerprint: str) -> str:
    """Return the name of a shard below `shards/`.

    Args:
        index: Number of the shard.
        fingerprint: Fingerprint of its content, 16 hexadecimal digits.
    """
    return f"part-{index:05d}-{fingerprint}.parquet"


def carried_names(names: Sequence[str]) -> list[str]:
    """Return the names of carried columns in the answers: `given_label` for `label`, which the answers have."""
    taken = {*_OWN_COLUMNS, *names}
    found = []
    for name in names:
        carried = name
        while carried in _OWN_COLUMNS or (carried != name and carried in taken):
            carried = f"{_PREFIX}{carried}"
        taken.add(carried)
        found.append(carried)
    return found


def answer_schema(classes: Sequence[str], carried: pa.Schema, by_segment: bool) -> pa.Schema:
    """Return the schema of a shard.

    `track`, with `by_segment` the `segment` and its `start` in seconds, then the carried columns, then `label`,
    the most probable class; its `probability`; and `probabilities` of all classes, whose names are in the metadata
    of the field as JSON. The probabilities of a track are the mean over its segments.
    """
    names = json.dumps(list(classes), ensure_ascii=False)
    track, _, segment, start = SEGMENT_FIELDS
    return pa.schema(
        [
            track,
            *([segment, start] if by_segment else []),
            *(field.with_name(name) for field, name in zip(carried, carried_names(carried.names), strict=True)),
            pa.field("label", pa.dictionary(pa.int32(), pa.string()), nullable=False),
            pa.field("probability", pa.float32(), nullable=False),
            pa.field(
                "probabilities",
                pa.list_(pa.float32(), len(classes)),
                nullable=False,
                metadata={"classes": names},
            ),
        ]
    )


def encode_shard(
    predicted: PredictedTracks,
    classes: Sequence[str],
    by_segment: bool,
    rejects: list[RejectedTrack],
    remarks: list[TrackRemark],
) -> tuple[pa.Buffer, AnswerFooter]:
    """Encode a shard; return the content of the file, and its footer.

    Args:
        predicted: Predictions.
        classes: Class names.
        by_segment: Whether each segment is a row; else each track is one.
        rejects: Tracks without rows.
        remarks: Remarks on tracks with rows.
    """
    by_track = predicted.probabilities.mean(axis=1)
    counts = np.bincount(by_track.argmax(axis=1), minlength=len(classes)) if len(by_track) else [0] * len(classes)
    segments = predicted.starts.shape[1]
    repeats = segments if by_segment else 1
    rows = predicted.probabilities.reshape(-1, len(classes)) if by_segment else by_track
    labels = rows.argmax(axis=1).astype(np.int32)
    index = pa.array(np.repeat(np.arange(len(by_track)), repeats))
    segment = [
        pa.array(np.tile(np.arange(segments, dtype=np.int32), len(by_track))),
        pa.array(predicted.starts.reshape(-1)),
    ]
    columns = [
        pa.array(predicted.tracks, pa.string()).take(index),
        *(segment if by_segment else []),
        *(column.combine_chunks().take(index) for column in predicted.carried.columns),
        pa.DictionaryArray.from_arrays(pa.array(labels), pa.array(classes, pa.string())),
        pa.array(rows[np.arange(len(rows)), labels].astype(np.float32)),
        pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32).reshape(-1)), len(classes)),
    ]
    footer = AnswerFooter(
        predicted=len(by_track), labels=[int(count) for count in counts], rejects=rejects, remarks=remarks
    )
    metadata = {FOOTER_KEY: json.dumps(footer.model_dump(), sort_keys=True)}
    schema = answer_schema(classes, predicted.carried.schema, by_segment).with_metadata(metadata)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=schema), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue(), footer


def parse_answer_footer(metadata: pq.FileMetaData) -> AnswerFooter:
    """Return the footer from the metadata of a shard.

    Raises:
        ValueError: It is missing or invalid.
    """
    try:
        return AnswerFooter.model_validate(parse_json((metadata.metadata or {}).get(FOOTER_KEY, b"")))
    except ValidationError as error:
        raise ValueError(f"its footer: {describe_invalid(error)}") from error
