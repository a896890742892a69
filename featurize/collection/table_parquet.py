"""Read columns of Parquet files, as batches of Arrow arrays."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurize.collection.table_limits import (
    BLOCK_BYTES,
    DIVIDE,
    MOST_CELL_BYTES,
    MOST_COLUMN_BYTES,
    MOST_ROWS,
    TableError,
    not_plain,
)

_ROWS = 4096  # at a time
_BYTES_SHOWN = 60


class ParquetTable:
    """A Parquet file."""

    remark = ""

    def __init__(self, file: BinaryIO) -> None:
        # The file, not its path: a parent folder named fold=1 would become a column.
        self._source = file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, "r")
        self._described = pq.ParquetFile(self._source)
        self._schema = self._described.schema_arrow
        self._stored = list(self._schema.names)
        self.names = [name.strip() for name in self._stored]
        self._classes = _class_names(self._schema)
        kinds = zip(self.names, self._schema.types, strict=True)
        self.without_text = [name for name, kind in kinds if pa.types.is_nested(kind) or _is_bytes(kind)]

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[Any, list[Any]]]:
        """Yield the numbers of some rows, from 1, and their values in the columns of some indices.

        Raises:
            TableError: A column is not of text or numbers, or is larger than it may be.
        """
        names = [self._stored[i] for i in indices]
        for index in indices:
            kind = self._schema.field(index).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                raise TableError(
                    f"the column {self._stored[index]} holds the audio itself, which is not read. Save it as "
                    "files, and write a table of their paths and labels: docs/collections.md has the lines for it"
                )
            if pa.types.is_nested(kind):
                raise not_plain(self._stored[index], f"its type is {kind}"[:300])
            if self._stored.count(self._stored[index]) > 1:
                raise TableError(f"it has the column {self._stored[index]} more than once")
        _refuse_large(self._described.metadata, names)
        # As dictionaries, because a value that is stored once and repeated in a million rows would otherwise be
        # copied a million times. Arrow cannot read the delta encodings as dictionaries.
        as_dictionary = sorted(set(names) - _delta_encoded(self._described.metadata))
        metadata = self._described.metadata
        table = pq.ParquetFile(self._source, metadata=metadata, read_dictionary=as_dictionary, pre_buffer=False)
        first = 1
        for batch in table.iter_batches(_ROWS, columns=names, use_threads=False):
            for name in names:
                _refuse_other_encodings(name, batch[name], first)
            columns = [
                _named(batch[name], name, self._classes[name], first) if name in self._classes else batch[name]
                for name in names
            ]
            yield range(first, first + len(batch)), columns
            first += len(batch)


def _is_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in tests)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of classes by column, where Hugging Face stores indices of them (`ClassLabel`)."""
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    info = described.get("info") if isinstance(described, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    found = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        names = feature.get("names") if isinstance(feature, dict) else None
        is_one = isinstance(names, list) and schema.names.count(name) == 1
        if names and is_one and pa.types.is_integer(schema.field(name).type):
            found[name] = [str(text) for text in names]
    return found


def _named(indices: pa.Array, column: str, names: list[str], first: int) -> pa.Array:
    """Return the names of classes; null for a negative index, which stands for an unknown class.

    Args:
        indices: Classes of some rows.
        column: Name of the column.
        names: Names of all classes.
        first: Number of the first of these rows, from 1.
    """
    if len(outside := pc.indices_nonzero(pc.greater_equal(indices, len(names)))):
        row = outside[0].as_py()
        raise TableError(
            f"the column {column} has the class {indices[row]} in row {first + row}, but the file names "
            f"the classes 0 to {len(names) - 1}. Write their names into another column, and name it: --columns "
            "label=NAME"
        )
    return pa.array(names, pa.string()).take(pc.if_else(pc.less(indices, 0), None, indices))


def _delta_encoded(metadata: Any) -> set[str]:
    """Return the names of columns that have a delta encoding in any row group."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    columns = (group.column(i) for group in groups for i in range(metadata.num_columns))
    return {c.path_in_schema for c in columns if any(name.startswith("DELTA") for name in c.encodings)}


def _refuse_other_encodings(name: str, column: pa.Array, first: int) -> None:
    """Refuse text that is not UTF-8: Arrow reads it without checking, and fails where it is used.

    Args:
        name: Name of the column.
        column: Values of some rows.
        first: Number of the first of these rows, from 1.
    """
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        text = column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column
        if not pa.types.is_string(text.type):
            raise
        for row, value in enumerate(text.cast(pa.binary()).to_pylist(), first):
            try:
                (value or b"").decode()
            except UnicodeDecodeError:
                shown = value[:_BYTES_SHOWN].decode("utf-8", "backslashreplace")
                raise TableError(
                    f"the column {name} is no UTF-8 text: row {row} has {shown!r}. Write the table again with "
                    "text in UTF-8"
                ) from error
        raise


def _refuse_large(metadata: Any, names: list[str]) -> None:
    """Refuse columns that are too large, according to the file itself; what is read is counted as well."""
    if metadata.num_rows > MOST_ROWS:
        raise TableError(f"it has {metadata.num_rows:,} rows, expected at most {MOST_ROWS:,}. {DIVIDE}")
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        for column in (group.column(i) for i in range(metadata.num_columns)):
            size, most = column.total_uncompressed_size, MOST_CELL_BYTES * max(group.num_rows, 1)
            if column.path_in_schema in names and size > max(min(most, MOST_COLUMN_BYTES), BLOCK_BYTES):
                raise TableError(
                    f"the column {column.path_in_schema} has {size:,} bytes in {group.num_rows:,} rows, expected "
                    f"at most {MOST_CELL_BYTES:,} for each. {DIVIDE}"
                )
