"""Read the columns of a CSV, Parquet or JSON Lines file that Earmark uses, with limits on what they may hold.

A small file can describe terabytes, so columns are read in batches and counted, and no other column is read.
"""

import codecs
import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe

TABLE_SUFFIXES = frozenset({".csv", ".parquet", ".jsonl", ".ndjson"})
_MOST_ROWS = 20_000_000
_MOST_CELL_BYTES = 8192
_MOST_BYTES = (2 << 30) - 1  # of one column, as text
_MOST_COLUMNS = 10_000
_LINE_BYTES = 1 << 20  # of one line, and of the blocks in which CSV is read
_PARQUET_ROWS, _JSON_ROWS = 4096, 65536  # at a time
_NAMES_SHOWN, _CHARACTERS_SHOWN = 20, 80
_DIVIDE = "Divide the table into several collections, or leave out what is no track."
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
_PLAIN_TYPES = (
    *(pa.types.is_null, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean),
    *(pa.types.is_temporal, pa.types.is_decimal),
)
_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


class _TableError(ValueError):
    """What is wrong with the file, in words."""


def read_columns(path: StoragePath, wanted: Sequence[str], needed: Sequence[str]) -> dict[str, pa.Array]:
    """Read the wanted columns of a table that it has.

    Args:
        path: A file with one of TABLE_SUFFIXES.
        wanted: Names of columns.
        needed: Those of them that the file must have.

    Returns:
        Stripped text by column, string [rows]; empty for nulls.

    Raises:
        FeaturizeError: The file cannot be parsed, lacks a needed column, or exceeds a limit.
    """
    kind = path.suffix[1:]
    readers = {"csv": _csv_batches, "parquet": _parquet_batches}
    try:
        with path.open() as file:
            names, batches = readers.get(kind, _json_batches)(file, wanted)
            if missing := [name for name in needed if name not in names]:
                shown = ", ".join(name[:_CHARACTERS_SHOWN] for name in names[:_NAMES_SHOWN])
                more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
                raise FeaturizeError(
                    f"{path} lacks the column {' and '.join(missing)}; it has {shown or 'none'}{more}."
                    f" Expected path, label and optionally group and fold."
                )
            return _collect(batches, [name for name in wanted if name in names])
    except MemoryError as error:  # Arrow's is derived from it
        raise FeaturizeError(
            f"{path} cannot be read as a {kind} table: its columns need more memory than there is. {_DIVIDE}"
        ) from error
    except (pa.ArrowException, ValueError, LookupError, RecursionError) as error:
        problem = str(error).split("\n", 1)[0][:300]
        raise FeaturizeError(f"{path} cannot be read as a {kind} table: {problem}") from error
    except OSError as error:
        raise FeaturizeError(f"{path} cannot be read as a {kind} table: {describe(error)}") from error


def _collect(batches: Iterator[dict[str, Any]], names: list[str]) -> dict[str, pa.Array]:
    """Join batches of columns as text, and refuse the table as soon as a limit is exceeded."""
    parts: dict[str, list[pa.Array]] = {name: [] for name in names}
    rows, sizes = 0, dict.fromkeys(names, 0)
    for batch in batches:
        rows += len(batch[names[0]])
        for name in names:
            text = _as_text(batch[name], name)
            sizes[name] += text.nbytes
            parts[name].append(text)
        if rows > _MOST_ROWS:
            raise _TableError(f"it has more than {_MOST_ROWS:,} rows. {_DIVIDE}")
        if max(sizes.values()) > _MOST_BYTES:
            raise _TableError(f"a column holds more than {_MOST_BYTES:,} bytes of text. {_DIVIDE}")
    return {name: pa.chunked_array(chunks, pa.string()).combine_chunks() for name, chunks in parts.items()}


def _as_text(column: Any, name: str) -> pa.Array:
    """Return a column as stripped text; empty for nulls. A large cell is refused before it is decoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    values = column.dictionary if isinstance(column, pa.DictionaryArray) else column
    kind = values.type
    if any(is_text(kind) for is_text in _TEXT_TYPES):
        _refuse_long(values, name)
    elif not any(is_plain(kind) for is_plain in _PLAIN_TYPES):
        raise _not_plain(name, f"its type is {kind}")
    try:
        text = pc.cast(column, pa.string())
    except pa.ArrowException as error:
        raise _not_plain(name, str(error)) from error
    return pc.utf8_trim_whitespace(pc.fill_null(text, ""))


def _refuse_long(values: pa.Array, name: str) -> None:
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if longest > _MOST_CELL_BYTES:
        raise _TableError(
            f"a cell of the column {name} has {longest:,} bytes, expected at most {_MOST_CELL_BYTES:,}. "
            "Leave out the row"
        )


def _csv_batches(file: BinaryIO, wanted: Sequence[str]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """Return the names of all columns, and batches of the wanted ones."""
    beginning = file.read(_LINE_BYTES)
    header, ended, _ = beginning.partition(b"\n")
    if beginning.startswith(_OTHER_ENCODINGS) or b"\0" in header:
        raise _TableError("it is not UTF-8 text. Save it as CSV with the encoding UTF-8")
    if not ended and len(beginning) == _LINE_BYTES:
        raise _TableError(f"its first line is longer than {_LINE_BYTES:,} bytes. Expected the names of columns")
    lines = header.decode("utf-8-sig").splitlines()
    names = next(csv.reader(lines), [])
    if not names:
        raise _TableError("its first line is empty. Expected the names of columns")
    _refuse_columns(names, wanted)
    file.seek(0)
    # As text: a label 007 or a path 1e5 must not become a number.
    options = pyarrow.csv.ConvertOptions(
        column_types={name: pa.string() for name in wanted}, include_columns=[n for n in wanted if n in names]
    )
    blocks = pyarrow.csv.ReadOptions(block_size=_LINE_BYTES)
    return names, _csv_blocks(file, options, blocks)


def _csv_blocks(file: BinaryIO, options: Any, blocks: Any) -> Iterator[dict[str, Any]]:
    reader = pyarrow.csv.open_csv(_for_arrow(file), read_options=blocks, convert_options=options)
    for batch in reader:
        yield {name: batch[name] for name in batch.schema.names}


def _for_arrow(file: Any) -> Any:
    return file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, "r")


def _parquet_batches(file: BinaryIO, wanted: Sequence[str]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    # The file, not its path: a parent folder named fold=1 would become a column.
    source = _for_arrow(file)
    described = pq.ParquetFile(source)
    schema = described.schema_arrow
    _refuse_columns(schema.names, wanted)
    present = [name for name in wanted if name in schema.names]
    for name in present:
        if pa.types.is_nested(schema.field(name).type):
            raise _not_plain(name, f"its type is {schema.field(name).type}")
    _refuse_large(described.metadata, present)
    # As dictionaries, because a value that is stored once and repeated in a million rows would otherwise be copied
    # a million times. Arrow cannot read the delta encodings as dictionaries.
    as_dictionary = sorted(set(present) - _delta_encoded(described.metadata))
    table = pq.ParquetFile(source, metadata=described.metadata, read_dictionary=as_dictionary, pre_buffer=False)
    batches = table.iter_batches(_PARQUET_ROWS, columns=present, use_threads=False)
    return schema.names, ({name: batch[name] for name in present} for batch in batches)


def _delta_encoded(metadata: Any) -> set[str]:
    """Return the names of columns that have a delta encoding in any row group."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    columns = (group.column(i) for group in groups for i in range(metadata.num_columns))
    return {c.path_in_schema for c in columns if any(name.startswith("DELTA") for name in c.encodings)}


def _refuse_large(metadata: Any, names: list[str]) -> None:
    """Refuse columns that are too large, according to the file itself; what is read is counted as well."""
    if metadata.num_rows > _MOST_ROWS:
        raise _TableError(f"it has {metadata.num_rows:,} rows, expected at most {_MOST_ROWS:,}. {_DIVIDE}")
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        for column in (group.column(i) for i in range(metadata.num_columns)):
            size, most = column.total_uncompressed_size, _MOST_CELL_BYTES * max(group.num_rows, 1)
            if column.path_in_schema in names and size > max(min(most, _MOST_BYTES), _LINE_BYTES):
                raise _TableError(
                    f"the column {column.path_in_schema} has {size:,} bytes in {group.num_rows:,} rows, expected "
                    f"at most {_MOST_CELL_BYTES:,} for each. {_DIVIDE}"
                )


def _json_batches(file: BinaryIO, wanted: Sequence[str]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    rows = _json_rows(file, wanted)
    first = next(rows, None)
    # As in Arrow, a column exists if a row has it; the first block decides, because the rest is read later.
    block = [] if first is None else [first[1]]
    names = dict.fromkeys([] if first is None else first[0])
    for keys, row in rows:
        names.update(dict.fromkeys(keys))
        block.append(row)
        if len(block) == _JSON_ROWS:
            break
    present = [name for name in wanted if name in names]
    _refuse_columns(list(names), wanted)

    def batches() -> Iterator[dict[str, Any]]:
        batch = block
        while batch:
            yield {name: pa.array([row.get(name) for row in batch], pa.string()) for name in present}
            batch = [row for _, (_, row) in zip(range(_JSON_ROWS), rows, strict=False)]

    return list(names), batches()


def _json_rows(file: Any, wanted: Sequence[str]) -> Iterator[tuple[list[str], dict[str, str | None]]]:
    """Yield the keys of each line, and its wanted values as text."""
    lines = io.BufferedReader(file)
    try:
        for number in itertools.count(1):
            line = lines.readline(_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > _LINE_BYTES:
                raise _TableError(f"line {number} is longer than {_LINE_BYTES:,} bytes")
            if line.strip():
                row = _json_row(line, number)
                yield list(row), {name: _json_text(row[name], name) for name in wanted if name in row}
    finally:
        lines.detach()  # whoever opened the file closes it


def _json_row(line: bytes, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _TableError(f"line {number}: {error}") from error
    if not isinstance(row, dict):
        raise _TableError(f"line {number} is not an object in braces")
    return row


def _json_text(value: Any, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise _not_plain(name, str(value)[:_CHARACTERS_SHOWN])
    return json.dumps(value)


def _not_plain(name: str, found: str) -> FeaturizeError:
    return FeaturizeError(f"the column {name} does not hold plain text or numbers: {found}")


def _refuse_columns(names: list[str], wanted: Sequence[str]) -> None:
    if len(names) > _MOST_COLUMNS:
        raise _TableError(f"it has {len(names):,} columns, expected at most {_MOST_COLUMNS:,}")
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise _TableError(f"it has the column {' and '.join(twice)} more than once")
