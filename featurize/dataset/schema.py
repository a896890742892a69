"""The dataset on disk: its schemas, its names, and the way back into memory.

    features/
      dataset.json         classes, settings, counts, statistics; written last, so its presence means "complete"
      tracks.parquet       every track: id, label, group, fold, size, its shard; written first, it is the plan
      rejects.parquet      the tracks without rows: id, stage, reason, message
      duplicates.parquet   tracks whose rows are the same to the bit: digest, id, label, fold
      music.json           where the music was: the folder that the tracks' ids begin at
      shards/fold=K/part-NNNNN-<fingerprint>.parquet

A row of a shard is one segment. A track has exactly `segments_per_track` rows, in order and never divided over
two row groups. `mfcc` is fixed-size binary: little-endian float32, coefficient by coefficient, the shape in the
field's metadata. Arrow reads it five times as fast as a fixed-size list of floats.
"""

import json
import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.errors import DatasetError

FORMAT_VERSION = 3
FOLDS = 5
MFCC_SHAPE = (40, 217)
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

DUPLICATES_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("digest", "track", "label")]
    + [pa.field("fold", pa.int32(), nullable=False)]
)

SHARD_NAME = re.compile(r"fold=(\d+)/part-(\d{5,})-[0-9a-f]{16}\.parquet")
FOOTER_KEY = b"earmark"


def shard_name(fold: int, index: int, fingerprint: str) -> str:
    """Name a shard below `shards/`; the fold is a hive partition."""
    return f"fold={fold}/part-{index:05d}-{fingerprint}.parquet"


def part_of(name: str) -> tuple[int, int]:
    """Return the fold, and the index in it, that a shard's name gives."""
    match = SHARD_NAME.fullmatch(name)
    if not match:
        raise DatasetError(f"{name} is not the name of a shard")
    return int(match[1]), int(match[2])


def fold_of(name: str) -> int:
    """Return the fold that a shard's name gives."""
    return part_of(name)[0]


def mfcc_array(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float32]:
    """Return a column of MFCC as float32 [rows, 40, 217], a view of Arrow's memory where that is in one piece."""
    chunk = column
    if isinstance(column, pa.ChunkedArray):
        chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    numbers = np.frombuffer(chunk.buffers()[1], "<f4").reshape(-1, *MFCC_SHAPE)
    return numbers[chunk.offset : chunk.offset + len(chunk)]


def mfcc_column(mfcc: NDArray[np.float32]) -> pa.Array:
    """Return float32 [rows, 40, 217] as a column of SHARD_SCHEMA."""
    content = pa.py_buffer(np.ascontiguousarray(mfcc, "<f4"))
    return pa.Array.from_buffers(SHARD_SCHEMA.field("mfcc").type, len(mfcc), [None, content])
