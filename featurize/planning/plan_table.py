"""Read and write `tracks.parquet`, the table of a plan, a part at a time: it may have ten million rows."""

import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.column_file import MOST_COLUMN_BYTES, ColumnFile, explained, one_array
from featurize.dataset.schema import TRACKS_SCHEMA
from featurize.dataset.tables import MOST_PLAN_BYTES, refuse_other_schema
from featurize.storage import StoragePath

# Rows of a row group, as `pyarrow.parquet.write_table` has them: the bytes of a plan must not change.
_ROWS = 1 << 20
_ROWS_READ = 1 << 16  # at a time
_MOST_ROWS = 50_000_000
_MOST_BYTES_READ = 256 << 20  # decoded strings of _ROWS_READ rows: an encoded string may be repeated in each row


def write_plan_table(
    path: StoragePath,
    tracks: pa.Table,
    order: NDArray[np.int32],
    classes: Sequence[str],
    shards: tuple[Sequence[str], NDArray[np.int32]],
    metadata: Mapping[bytes, bytes],
) -> None:
    """Write `tracks.parquet` atomically.

    Args:
        path: Path of the file.
        tracks: As in `Plan`.
        order: Rows of `tracks` in the order of the ids, int32 [tracks].
        classes: Names of the classes.
        shards: Names of the shards, and the position of the shard of each row of `tracks`, int32 [tracks].
        metadata: Metadata of the schema.

    Raises:
        OSError: It cannot be written.
        FeaturizeError: There is no room for a temporary file.
    """
    schema = TRACKS_SCHEMA.with_metadata(dict(metadata))
    labels, names = pa.array(classes, pa.string()), pa.array(shards[0], pa.string())
    with tempfile.NamedTemporaryFile(prefix="earmark-") as file:
        with explained(), pq.ParquetWriter(file.name, schema, compression="zstd") as writer:
            for begin in range(0, len(order), _ROWS):
                rows = order[begin : begin + _ROWS]
                columns = ("track", "label", "group", "fold", "size")
                part = {name: one_array(tracks[name]).take(pa.array(rows)) for name in columns}
                part["label"] = labels.take(part["label"])
                part["shard"] = pa.DictionaryArray.from_arrays(pa.array(shards[1][rows]), names)
                writer.write_table(pa.table([part[field.name] for field in schema], schema=schema), _ROWS)
        with pa.memory_map(file.name) as mapped:
            path.write(mapped.read_buffer())


def read_plan_table(path: StoragePath) -> pa.Table:
    """Read `tracks.parquet` with TRACKS_SCHEMA and its metadata; every column is one array.

    Raises:
        pa.ArrowException, OSError: The file cannot be read.
        ValueError: Its schema is another one, or it is larger than a plan can be.
        FeaturizeError: There is no room for temporary files.
    """
    metadata = pq.read_metadata(path.path, **path.arrow)
    found = metadata.schema.to_arrow_schema()
    refuse_other_schema(found, TRACKS_SCHEMA)
    rows = metadata.num_rows
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if rows > _MOST_ROWS or size > MOST_PLAN_BYTES:
        raise ValueError(f"has {rows:,} rows in {size:,} bytes, more than a plan can have")
    names = [field.name for field in TRACKS_SCHEMA if field.type == pa.string()]
    file = pq.ParquetFile(path.path, read_dictionary=names, page_checksum_verification=True, **path.arrow)
    texts = {name: ColumnFile(pa.string()) for name in names}
    numbers: dict[str, list[pa.Array]] = {"fold": [], "size": []}
    shards = _Numbered()
    read, decoded = 0, dict.fromkeys(names, 0)
    for batch in file.iter_batches(_ROWS_READ, use_threads=False):
        for name, column in texts.items():
            part = _decoded(batch[name], name)
            decoded[name] += part.nbytes
            if decoded[name] > MOST_COLUMN_BYTES:
                raise ValueError(f"has more than {MOST_COLUMN_BYTES:,} bytes in the column {name}")
            column.append(part)
        for name, arrays in numbers.items():
            arrays.append(batch[name])
        shards.append(batch["shard"])
        read += len(batch)
    if read != rows:
        raise ValueError(f"has {read} rows, but its footer says {rows}")
    columns = {name: column.finish() for name, column in texts.items()}
    for name, arrays in numbers.items():
        columns[name] = pa.chunked_array(arrays, TRACKS_SCHEMA.field(name).type).combine_chunks()
    columns["shard"] = shards.finish()
    schema = TRACKS_SCHEMA.with_metadata(found.metadata)
    return pa.table([columns[field.name] for field in schema], schema=schema)


class _Numbered:
    """A dictionary-encoded column that is read in parts."""

    def __init__(self) -> None:
        self._numbers: dict[str | None, int] = {}
        self._dictionary: pa.Array | None = None  # of the part before, which mostly has the same
        self._renumbered = np.zeros(0, np.int32)
        self._indices: list[NDArray[np.int32]] = []

    def append(self, part: pa.DictionaryArray) -> None:
        if self._dictionary is None or not part.dictionary.equals(self._dictionary):
            self._dictionary = part.dictionary
            numbers = (self._numbers.setdefault(name, len(self._numbers)) for name in part.dictionary.to_pylist())
            self._renumbered = np.fromiter(numbers, np.int32, len(part.dictionary))
        self._indices.append(self._renumbered[part.indices.to_numpy(zero_copy_only=False)])

    def finish(self) -> pa.DictionaryArray:
        indices = np.concatenate(self._indices) if self._indices else np.zeros(0, np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(list(self._numbers), pa.string()))


def _decoded(column: pa.DictionaryArray, name: str) -> pa.Array:
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    if (pc.sum(lengths.take(column.indices)).as_py() or 0) > _MOST_BYTES_READ:
        raise ValueError(f"has more than {_MOST_BYTES_READ:,} bytes in {len(column):,} rows of the column {name}")
    return column.cast(pa.string())
