"""Read columns of a CSV, Parquet or JSON Lines file as text, with limits on what they may hold.

A small file can describe terabytes, so columns are read in batches and counted, and no other column is kept.
"""

import dataclasses
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.json_lines import json_row, json_text
from featurize.collection.table_content import SAMPLE_BYTES, other_kind
from featurize.collection.table_csv import CsvTable
from featurize.collection.table_limits import (
    DIVIDE,
    MOST_CELL_BYTES,
    MOST_COLUMN_BYTES,
    MOST_COLUMNS,
    MOST_ROWS,
    TableError,
    not_plain,
)
from featurize.collection.table_parquet import ParquetTable
from featurize.collection.table_text import TableText, detect_text
from featurize.column_file import ColumnFile
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe

# The delimiter that files of a suffix usually have; other files of records have no delimiter.
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
_PARQUET = b"PAR1"
_JSON = frozenset({".jsonl", ".ndjson"})
TABLE_SUFFIXES = frozenset({*_DELIMITERS, *_JSON, ".parquet"})
_MIDNIGHT = r" 00:00:00(\.0+)?$|\.0+$"  # pandas stores dates as the time at which they begin
_TEXT_ROWS = 65536  # at a time
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
_PLAIN_TYPES = (
    *(pa.types.is_null, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean),
    *(pa.types.is_temporal, pa.types.is_decimal),
)


@dataclasses.dataclass(frozen=True)
class TableColumns:
    """Columns of a table.

    Attributes:
        columns: Stripped text by name, string [rows]; empty for nulls.
        lines: Where each row is in the file, int64 [rows], from 1.
        unit: What `lines` counts: `line`, or `row` for Parquet.
    """

    columns: dict[str, pa.Array]
    lines: pa.Array
    unit: str


class _Format(Protocol):
    """A file of one format; a batch is the lines of its rows, and the columns of some indices."""

    names: list[str]
    remark: str
    without_text: list[str]

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[Any, list[Any]]]: ...


class TableFile:
    """An open table.

    Attributes:
        path: The file.
        names: Names of all columns, stripped.
        remark: What was found about encoding and delimiter, if it is not what is usual; else empty.
    """

    def __init__(self, path: StoragePath, file: BinaryIO) -> None:
        self.path = path
        kind = table_suffix(path.name)
        _refuse_other_kinds(file, kind, path.suffix == ".gz")
        if kind == ".parquet":
            self._format: _Format = ParquetTable(file)
            self.remark = ""
        else:
            text = detect_text(path, file)
            self._format = _Json(text) if kind in _JSON else _Csv(text, _DELIMITERS.get(kind, ","))
            self.remark = ", ".join(remark for remark in (self._format.remark, text.remark) if remark)
        self._unit = "row" if kind == ".parquet" else "line"
        self.names = self._format.names
        if not self.names:
            raise TableError("it has no columns")
        if len(self.names) > MOST_COLUMNS:
            raise TableError(f"it has {len(self.names):,} columns, expected at most {MOST_COLUMNS:,}")

    @property
    def without_text(self) -> list[str]:
        """Names of columns of lists, objects or bytes. `read` refuses them, except bytes that are UTF-8.

        Empty for text files, of which only the rows show what they hold.
        """
        return self._format.without_text

    def read(self, wanted: Mapping[str, int]) -> TableColumns:
        """Return columns.

        Args:
            wanted: Index of each column in `names`, by the name that it has in the result; at least one.

        Raises:
            TableError: The file cannot be parsed, or exceeds a limit.
        """
        columns = {name: ColumnFile(pa.string()) for name in wanted}
        lines: list[pa.Array] = []
        rows, sizes = 0, dict.fromkeys(wanted, 0)
        for numbers, batch in self._format.batches(list(wanted.values())):
            lines.append(pa.array(numbers, pa.int64()))
            rows += len(numbers)
            for (name, index), column in zip(wanted.items(), batch, strict=True):
                text = _as_text(column, self.names[index])
                sizes[name] += text.nbytes
                columns[name].append(text)
            if rows > MOST_ROWS:
                raise TableError(f"it has more than {MOST_ROWS:,} rows. {DIVIDE}")
            if max(sizes.values()) > MOST_COLUMN_BYTES:
                raise TableError(f"a column holds more than {MOST_COLUMN_BYTES:,} bytes of text. {DIVIDE}")
        texts = {name: column.finish() for name, column in columns.items()}
        return TableColumns(texts, pa.chunked_array(lines, pa.int64()).combine_chunks(), self._unit)


@contextmanager
def open_table(path: StoragePath) -> Iterator[TableFile]:
    """Open a table with a name that `is_table_name` accepts; problems of the body become those of the file.

    Raises:
        FeaturizeError: The file cannot be parsed, or exceeds a limit.
    """
    with _explained(path), path.open() as file:
        yield TableFile(path, file)


@contextmanager
def open_lines(path: StoragePath) -> Iterator[Iterator[str]]:
    """Open a list of files as text; problems of the body become those of the file.

    Raises:
        FeaturizeError: It is not text, or exceeds a limit.
    """
    with _explained(path), path.open() as file:
        yield detect_text(path, file).lines()


@contextmanager
def _explained(path: StoragePath) -> Iterator[None]:
    kind = table_suffix(path.name)[1:]
    try:
        yield
    except MemoryError as error:  # Arrow's is derived from it
        raise FeaturizeError(
            f"{path} cannot be read as a {kind} table: its columns need more memory than there is. {DIVIDE}"
        ) from error
    except (pa.ArrowException, ValueError, LookupError, RecursionError, EOFError, zlib.error) as error:
        problem = one_line((str(error) or type(error).__name__).split("\n", 1)[0])[:1000]
        raise FeaturizeError(f"{path} cannot be read as a {kind} table: {problem}") from error
    except OSError as error:
        raise FeaturizeError(f"{path} cannot be read as a {kind} table: {describe(error)}") from error


def table_suffix(name: str) -> str:
    """Return the suffix of a table in lowercase, without `.gz`; for other files a suffix that no table has."""
    lower = name.lower()
    lower, compressed = lower.removesuffix(".gz"), lower.endswith(".gz")
    dot = lower.rpartition(".")
    suffix = f".{dot[2]}" if dot[1] else ""
    return "" if compressed and suffix == ".parquet" else suffix


def is_table_name(name: str) -> bool:
    """Return whether a file with this name is a table."""
    return table_suffix(name) in TABLE_SUFFIXES


def _refuse_other_kinds(file: BinaryIO, suffix: str, compressed: bool) -> None:
    """Refuse a file that is of another kind than its suffix says."""
    beginning = file.read(SAMPLE_BYTES)
    file.seek(0)
    if suffix == ".parquet" and not beginning.startswith(_PARQUET):
        raise TableError(other_kind(beginning) or "it is no Parquet file, by its first bytes")
    kind = "" if compressed or suffix == ".parquet" else other_kind(beginning)
    if kind:
        raise TableError(kind)


class _Csv:
    """Text with delimiters."""

    def __init__(self, text: TableText, delimiter: str) -> None:
        self._table = CsvTable(text, delimiter)
        self.names, self.remark = self._table.names, self._table.remark
        self.without_text: list[str] = []

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[Any, list[Any]]]:
        rows = self._table.rows()
        while batch := list(
            itertools.islice(((line, [row[i] for i in indices]) for line, row in rows), _TEXT_ROWS)
        ):
            yield [line for line, _ in batch], _columns([cells for _, cells in batch])


class _Json:
    """Text with one object on each line."""

    remark = ""

    def __init__(self, text: TableText) -> None:
        self._text = text
        # A column exists if any row has it, which only the last one tells.
        self.without_text: list[str] = []
        self.names = list(dict.fromkeys(itertools.chain.from_iterable(row for _, row in self._rows())))

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[Any, list[Any]]]:
        names = [self.names[i] for i in indices]
        rows = self._rows()
        while batch := list(itertools.islice(rows, _TEXT_ROWS)):
            cells = [[json_text(row.get(name), name, line) for name in names] for line, row in batch]
            yield [line for line, _ in batch], _columns(cells)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(self._text.lines(), start=1):
            if not line.isspace():
                yield number, json_row(line, number)


def _columns(rows: Sequence[Sequence[str | None]]) -> list[Any]:
    return [pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)]


def _as_text(column: Any, name: str) -> pa.Array:
    """Return a column as stripped text; empty for nulls. A large cell is refused before it is decoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    values = column.dictionary if isinstance(column, pa.DictionaryArray) else column
    kind = values.type
    if any(is_text(kind) for is_text in _TEXT_TYPES):
        _refuse_long(values, name)
    elif not any(is_plain(kind) for is_plain in _PLAIN_TYPES):
        raise not_plain(name, f"its type is {kind}")
    try:
        text = pc.cast(column, pa.string())
    except pa.ArrowException as error:
        raise not_plain(name, str(error)) from error
    if pa.types.is_timestamp(kind):
        text = pc.replace_substring_regex(text, _MIDNIGHT, "")
    return pc.utf8_trim_whitespace(pc.fill_null(text, ""))


def _refuse_long(values: pa.Array, name: str) -> None:
    longest = pc.max(pc.binary_length(values)).as_py() or 0
    if longest > MOST_CELL_BYTES:
        raise TableError(
            f"a cell of the column {name} has {longest:,} bytes, expected at most {MOST_CELL_BYTES:,}. "
            "Leave out the row"
        )
