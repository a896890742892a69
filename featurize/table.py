"""A collection given as a table: CSV, Parquet or JSON lines with `path`, `label`, `group` and `fold`."""

import dataclasses
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from featurize.errors import FeaturizeError

TABLE_SUFFIXES = frozenset({".csv", ".parquet", ".jsonl", ".ndjson"})
_COLUMNS = ("path", "label", "group", "fold")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `group` and `fold` are None where the table has no such column."""

    path: str
    label: str
    group: str | None
    fold: int | None


def read_table(path: Path, folds: int) -> list[Row]:
    """Read a table of tracks and refuse everything that is wrong with it in one message.

    Args:
        path: a file with one of TABLE_SUFFIXES; track paths in it are relative to its folder.
        folds: how many folds there are; a fold column must hold 0 to folds - 1.

    Raises:
        FeaturizeError: it cannot be parsed, lacks a column, or holds empty, repeated or impossible values.
    """
    table = _parse(path)
    missing = [name for name in ("path", "label") if name not in table.column_names]
    if missing:
        raise FeaturizeError(
            f"{path} lacks the column {' and '.join(missing)}; it has {', '.join(table.column_names) or 'none'}."
            " Expected path, label and optionally group and fold."
        )
    columns = {name: _as_text(table, name) for name in _COLUMNS}
    problems: list[str] = []
    for name in ("path", "label"):
        empty = [i for i, value in enumerate(columns[name]) if not value]
        problems += _problem(f"an empty {name}", empty, path)
    repeated = {name for name, count in Counter(columns["path"]).items() if name and count > 1}
    problems += _problem("a path given before", _repeats(columns["path"], repeated), path)
    numbers: list[int | None] = [None] * table.num_rows
    if "fold" in table.column_names:
        numbers = [_fold(value, folds) for value in columns["fold"]]
        wrong = [i for i, number in enumerate(numbers) if number is None]
        problems += _problem(f"a fold that is not 0 to {folds - 1}", wrong, path)
    if problems:
        raise FeaturizeError(f"{path} cannot be used:\n" + "\n".join(f"  - {line}" for line in problems))
    rows = zip(columns["path"], columns["label"], columns["group"], numbers, strict=True)
    return [Row(track, label, group or None, fold) for track, label, group, fold in rows]


def _parse(path: Path) -> pa.Table:
    try:
        if path.suffix.lower() == ".parquet":
            return pq.read_table(path)
        if path.suffix.lower() == ".csv":
            # As text: a label 007 or a path 1e5 must not become a number.
            as_text = {name: pa.string() for name in _COLUMNS}
            options = pyarrow.csv.ConvertOptions(column_types=as_text)
            return pyarrow.csv.read_csv(path, convert_options=options)
        return pyarrow.json.read_json(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FeaturizeError(f"{path} cannot be read as a {path.suffix[1:]} table: {error}") from error


def _as_text(table: pa.Table, name: str) -> list[str]:
    """Return a column as stripped text, empty where it is null or the table lacks it."""
    if name not in table.column_names:
        return [""] * table.num_rows
    try:
        values = pc.cast(table[name], pa.string()).to_pylist()
    except pa.ArrowException as error:
        raise FeaturizeError(f"the column {name} does not hold plain text or numbers: {error}") from error
    return [(value or "").strip() for value in values]


def _fold(value: str, folds: int) -> int | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number in range(folds) else None


def _repeats(values: list[str], repeated: set[str]) -> list[int]:
    """Return the rows that give a value again, the first row of each value left out."""
    seen: set[str] = set()
    again = []
    for i, value in enumerate(values):
        if value in repeated:
            if value in seen:
                again.append(i)
            seen.add(value)
    return again


def _problem(what: str, rows: list[int], path: Path) -> list[str]:
    """Put rows with the same problem into one line, numbered as an editor shows them."""
    if not rows:
        return []
    header = 1 if path.suffix.lower() == ".csv" else 0
    named = ", ".join(str(row + 1 + header) for row in rows[:5])
    return [f"{len(rows)} rows have {what}: line {named}{', ...' if len(rows) > 5 else ''}"]
