"""A collection given as a table: CSV, Parquet or JSON lines with `path`, `label`, `group` and `fold`."""

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.row_paths import refused_rows
from featurize.collection.table_file import read_columns
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

_COLUMNS = ("path", "label", "group", "fold", "split")


def read_table(path: StoragePath, folds: int, own: str | None, allowed: frozenset[str]) -> pa.Table:
    """Read a table of tracks; report everything that is wrong with it in one message, before any track is read.

    Args:
        path: A file with one of TABLE_SUFFIXES; track paths in it are relative to its folder.
        folds: Number of folds; a fold column must hold 0 to folds - 1.
        own: Bucket of the table as a URI; None if the table is on this machine.
        allowed: Other buckets that rows may name.

    Returns:
        The columns path, label and, if the table has them, group and split (text) and fold (int32); null if empty.

    Raises:
        FeaturizeError: It cannot be parsed, lacks a column, holds empty, repeated or impossible values, or names
            files that it must not name.
    """
    columns = read_columns(path, _COLUMNS, ("path", "label"))
    first_line = 2 if path.suffix == ".csv" else 1
    problems: list[str] = []
    for name in ("path", "label"):
        problems += _problem(f"an empty {name}", _rows(pc.equal(columns[name], "")), first_line)
    problems += _problem("a path of an earlier row", _rows(_repeated(columns["path"])), first_line)
    if "fold" in columns:
        allowed_folds = pa.array(["", *(text for k in range(folds) for text in (str(k), f"{k}.0"))])
        invalid = pc.invert(pc.is_in(columns["fold"], value_set=allowed_folds))
        problems += _problem(f"a fold that is not 0 to {folds - 1}", _rows(invalid), first_line)
    if "split" in columns:
        invalid = pc.invert(pc.is_in(columns["split"], value_set=pa.array(["", "train", "validation", "test"])))
        problems += _problem("a split that is not train, validation or test", _rows(invalid), first_line)
    for problem, rows in refused_rows(columns["path"], own, allowed).items():
        problems += _problem(problem, rows, first_line)
    if problems:
        raise FeaturizeError(f"{path} cannot be used:\n" + "\n".join(f"  - {line}" for line in problems))
    if "fold" in columns:
        given = pc.if_else(pc.equal(columns["fold"], ""), None, columns["fold"])
        columns["fold"] = pc.cast(pc.cast(given, pa.float64()), pa.int32())
    for name in ("group", "split"):
        if name in columns:
            columns[name] = pc.if_else(pc.equal(columns[name], ""), None, columns[name])
    return pa.table(columns)


def _repeated(paths: pa.Array) -> pa.Array:
    """Mark rows that repeat the path of an earlier row."""
    rows = pa.array(range(len(paths)), pa.int64())
    first = pa.table({"path": paths, "row": rows}).group_by("path").aggregate([("row", "min")])
    again = pc.invert(pc.is_in(rows, value_set=first["row_min"].combine_chunks()))
    return pc.and_(again, pc.not_equal(paths, ""))


def _rows(where: pa.Array) -> list[int]:
    rows: list[int] = pc.indices_nonzero(where).to_pylist()
    return rows


def _problem(what: str, rows: list[int], first_line: int) -> list[str]:
    """Describe rows with the same problem in one line, numbered as in an editor."""
    if not rows:
        return []
    named = ", ".join(str(row + first_line) for row in rows[:5])
    return [f"{len(rows)} rows have {what}: line {named}{', ...' if len(rows) > 5 else ''}"]
