"""A collection given as a table: CSV, Parquet or JSON lines with `path`, `label`, `group` and `fold`."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe

TABLE_SUFFIXES = frozenset({".csv", ".parquet", ".jsonl", ".ndjson"})
_COLUMNS = ("path", "label", "group", "fold")


def read_table(path: StoragePath, folds: int) -> pa.Table:
    """Read a table of tracks; report everything that is wrong with it in one message.

    Args:
        path: A file with one of TABLE_SUFFIXES; track paths in it are relative to its folder.
        folds: Number of folds; a fold column must hold 0 to folds - 1.

    Returns:
        The columns path, label and, if the table has them, group (text, null if empty) and fold (int32).

    Raises:
        FeaturizeError: It cannot be parsed, lacks a column, or holds empty, repeated or impossible values.
    """
    table = _parse(path)
    missing = [name for name in ("path", "label") if name not in table.column_names]
    if missing:
        raise FeaturizeError(
            f"{path} lacks the column {' and '.join(missing)}; it has {', '.join(table.column_names) or 'none'}."
            " Expected path, label and optionally group and fold."
        )
    columns = {name: _as_text(table[name], name) for name in _COLUMNS if name in table.column_names}
    first_line = 2 if path.suffix == ".csv" else 1
    problems: list[str] = []
    for name in ("path", "label"):
        problems += _problem(f"an empty {name}", pc.equal(columns[name], ""), first_line)
    problems += _problem("a path of an earlier row", _repeated(columns["path"]), first_line)
    if "fold" in columns:
        allowed = pa.array([text for k in range(folds) for text in (str(k), f"{k}.0")])
        valid = pc.is_in(columns["fold"], value_set=allowed)
        problems += _problem(f"a fold that is not 0 to {folds - 1}", pc.invert(valid), first_line)
    if problems:
        raise FeaturizeError(f"{path} cannot be used:\n" + "\n".join(f"  - {line}" for line in problems))
    if "fold" in columns:
        columns["fold"] = pc.cast(pc.cast(columns["fold"], pa.float64()), pa.int32())
    if "group" in columns:
        columns["group"] = pc.if_else(pc.equal(columns["group"], ""), None, columns["group"])
    return pa.table(columns)


def _parse(path: StoragePath) -> pa.Table:
    try:
        with path.filesystem.open_input_file(path.path) as file:
            if path.suffix == ".parquet":
                # The file, not its path: a parent folder named fold=1 would become a column.
                return pq.ParquetFile(file).read()
            if path.suffix == ".csv":
                # As text: a label 007 or a path 1e5 must not become a number.
                as_text = {name: pa.string() for name in _COLUMNS}
                options = pyarrow.csv.ConvertOptions(column_types=as_text)
                return pyarrow.csv.read_csv(file, convert_options=options)
            return pyarrow.json.read_json(file)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise FeaturizeError(f"{path} cannot be read as a {path.suffix[1:]} table: {error}") from error
    except OSError as error:
        raise FeaturizeError(f"{path} cannot be read as a {path.suffix[1:]} table: {describe(error)}") from error


def _as_text(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Return a column as stripped text, empty for nulls."""
    try:
        text = pc.cast(column.combine_chunks(), pa.string())
    except pa.ArrowException as error:
        raise FeaturizeError(f"the column {name} does not hold plain text or numbers: {error}") from error
    return pc.utf8_trim_whitespace(pc.fill_null(text, ""))


def _repeated(paths: pa.Array) -> pa.Array:
    """Mark rows that repeat the path of an earlier row."""
    rows = pa.array(range(len(paths)), pa.int64())
    first = pa.table({"path": paths, "row": rows}).group_by("path").aggregate([("row", "min")])
    again = pc.invert(pc.is_in(rows, value_set=first["row_min"].combine_chunks()))
    return pc.and_(again, pc.not_equal(paths, ""))


def _problem(what: str, where: pa.Array, first_line: int) -> list[str]:
    """Describe rows with the same problem in one line, numbered as in an editor."""
    rows = pc.indices_nonzero(where).to_pylist()
    if not rows:
        return []
    named = ", ".join(str(row + first_line) for row in rows[:5])
    return [f"{len(rows)} rows have {what}: line {named}{', ...' if len(rows) > 5 else ''}"]
