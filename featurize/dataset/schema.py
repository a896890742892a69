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
`mfcc`, or `log_mel`, is fixed-size binary: little-endian floats in the order (feature, frame), with type and shape
in the field's metadata. Arrow reads it five times as fast as a fixed-size list of floats.
"""

import dataclasses
import json
import math
import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.errors import DatasetError
from featurize.feature_rules import Kind, Store

FORMAT_VERSION = 3
FOLDS = 5  # unless the collection gives its own
MAX_FOLDS = 20  # of the training part
FOLD_NUMBERS = MAX_FOLDS + 2  # and one fold for each of the official splits, validation and test
TRACKS_PER_ROW_GROUP = 8
_LARGEST_TEXT = 64 << 10  # room in a row for the path of the track

# The columns of a shard before the features.
SEGMENT_FIELDS = (
    pa.field("track", pa.string(), nullable=False),
    pa.field("label", pa.int32(), nullable=False),
    pa.field("segment", pa.int32(), nullable=False),
    pa.field("start", pa.float64(), nullable=False, metadata={"unit": "seconds"}),
)
_DTYPES = {"float32": "<f4", "float16": "<f2"}
_AXES = {"mfcc": "coefficient", "log_mel": "mel band"}


@dataclasses.dataclass(frozen=True)
class SegmentFormat:
    """How the features of a segment are stored in a row.

    Attributes:
        column: Name of the column, which is the kind of the features.
        shape: Number of features and number of frames.
        deltas: Number of derivatives; the features are those of a frame, then as many for each derivative.
        store: Type of the stored values; they are float32 wherever they are computed with.
    """

    column: Kind
    shape: tuple[int, int]
    deltas: int = 0
    store: Store = "float32"

    @property
    def schema(self) -> pa.Schema:
        """Schema of a shard."""
        metadata = {
            "dtype": _DTYPES[self.store],
            "shape": json.dumps(self.shape),
            "axes": json.dumps([_AXES[self.column], "frame"]),
        }
        if self.deltas:
            metadata["deltas"] = str(self.deltas)
        features = pa.field(self.column, pa.binary(self.row_bytes), nullable=False, metadata=metadata)
        return pa.schema([*SEGMENT_FIELDS, features])

    @property
    def row_bytes(self) -> int:
        """Bytes of the features of a row."""
        return math.prod(self.shape) * np.dtype(_DTYPES[self.store]).itemsize

    @property
    def largest_row(self) -> int:
        """Bytes of a row before compression, at most."""
        return self.row_bytes + _LARGEST_TEXT

    def stored_array(self, column: pa.ChunkedArray | pa.Array) -> NDArray[np.floating]:
        """Return a column of features in the type in which it is stored, [rows, features, frames].

        A view of Arrow's memory if the column has one chunk.
        """
        chunk = column
        if isinstance(column, pa.ChunkedArray):
            chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        values = np.frombuffer(chunk.buffers()[1], _DTYPES[self.store]).reshape(-1, *self.shape)
        return values[chunk.offset : chunk.offset + len(chunk)]

    def array(self, column: pa.ChunkedArray | pa.Array) -> NDArray[np.float32]:
        """Return a column of features as float32 [rows, features, frames], without a copy if it is stored so."""
        return self.stored_array(column).astype(np.float32, copy=False)

    def column_of(self, features: NDArray[np.float32]) -> pa.Array:
        """Return features, float32 [rows, features, frames], as a column of `schema`."""
        content = pa.py_buffer(np.ascontiguousarray(features, _DTYPES[self.store]))
        return pa.Array.from_buffers(pa.binary(self.row_bytes), len(features), [None, content])

    def rounded(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return features as they are read back, float32 of the same shape."""
        if self.store == "float32":
            return features
        return features.astype(_DTYPES[self.store]).astype(np.float32)


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
