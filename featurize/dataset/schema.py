"""Layout of a dataset on disk: files, schemas, shard names, and the encoding of features.

    features/
      dataset.json         classes, settings, counts, statistics; written last: it marks the dataset as complete
      shards.parquet       a row for each shard, the manifest; opening a dataset reads it and no footer
      tracks.parquet       all tracks: id, label, group, fold, size, shard; written first: it is the plan
      rejects.parquet      tracks without rows: id, stage, reason, message
      remarks.parquet      tracks that were read past damage or a wrong header: id, message; only if there are any
      duplicates.parquet   tracks with bit-identical rows: digest, id, label, fold
      music.json           root folder of the music, which track ids are relative to
      shards/fold=K/part-NNNNN-<fingerprint>.parquet

A row of a shard is one segment. A track has exactly `segments_per_track` rows, in order and in one row group.
`mfcc` is fixed-size binary: little-endian float32 in the order (coefficient, frame), with the shape in the field's
metadata. Arrow reads it five times as fast as a fixed-size list of floats.
"""

import json
import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.errors import DatasetError

FORMAT_VERSION = 3
FOLDS = 5  # unless the collection gives its own
MAX_FOLDS = 20  # of the training part
FOLD_NUMBERS = MAX_FOLDS + 2  # and one fold for each of the official splits, validation and test
MFCC_SHAPE = (40, 217)
# Bytes of a row before compression: the features, and room for the path of the track.
LARGEST_ROW = 4 * MFCC_SHAPE[0] * MFCC_SHAPE[1] + (64 << 10)
TRACKS_PER_ROW_GROUP = 8

SHARD_SCHEMA = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("start", pa.float64(), nullable=False, metadata={"unit": "seconds"}),
        pa.field(
            "mfcc",
            pa.binary(MFCC_SHAPE[0] * MFCC_SHAPE[1] * 4),
            nullable=False,
            metadata={"dtype": "<f4", "shape": json.dumps(MFCC_SHAPE), "axes": '["coefficient", "frame"]'},
        ),
    ]
)
TRACKS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("track", "label", "group")]
    + [
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("shard", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
)
REJECTS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("path", "stage", "reason", "message")]
)

REMARKS_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in ("path", "message")])

DUPLICATES_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("digest", "track", "label")]
    + [pa.field("fold", pa.int32(), nullable=False)]
)

SHARDS_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("row_groups", pa.binary(), nullable=False),
        pa.field("rejects", pa.int32(), nullable=False),
        pa.field("remarks", pa.int32(), nullable=False),
        pa.field("digests", pa.binary(), nullable=False),
        pa.field("sums", pa.binary(), nullable=False),
    ]
)

SHARD_NAME = re.compile(r"fold=(\d+)/part-(\d{5,})-[0-9a-f]{16}\.parquet")
FOOTER_KEY = b"earmark"


def shard_name(fold: int, index: int, fingerprint: str) -> str:
    """Return the name of a shard below `shards/`; the fold is a Hive partition.

    Args:
        fold: Fold of the shard.
        index: Number of the shard in its fold.
        fingerprint: Fingerprint of its content, 16 hexadecimal digits.
    """
    return f"fold={fold}/part-{index:05d}-{fingerprint}.parquet"


def fold_and_index(name: str) -> tuple[int, int]:
    """Return the fold of a shard and its index in the fold, both from its name."""
    match = SHARD_NAME.fullmatch(name)
    if not match:
        raise DatasetError(f"{name} is not the name of a shard")
    return int(match[1]), int(match[2])


def fold_of(name: str) -> int:
    """Return the fold of a shard, from its name."""
    return fold_and_index(name)[0]


def mfcc_array(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float32]:
    """Return a column of MFCC as float32 [rows, 40, 217], without a copy if the column has one chunk."""
    chunk = column
    if isinstance(column, pa.ChunkedArray):
        chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    values = np.frombuffer(chunk.buffers()[1], "<f4").reshape(-1, *MFCC_SHAPE)
    return values[chunk.offset : chunk.offset + len(chunk)]


def mfcc_column(mfcc: NDArray[np.float32]) -> pa.Array:
    """Return MFCC, float32 [rows, 40, 217], as a column of SHARD_SCHEMA."""
    content = pa.py_buffer(np.ascontiguousarray(mfcc, "<f4"))
    return pa.Array.from_buffers(SHARD_SCHEMA.field("mfcc").type, len(mfcc), [None, content])
