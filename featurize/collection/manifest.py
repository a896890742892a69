"""The tracks that the table of a collection lists: read by its layout, checked, and brought to one form."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.layouts.readers import read_rows
from featurize.collection.layouts.source import Source
from featurize.collection.role_values import MOST_FOLDS, read_folds, read_splits, spelled_splits
from featurize.collection.row_paths import refused_rows
from featurize.column_file import texts
from featurize.display import one_line
from featurize.errors import FeaturizeError

_SHOWN, _CHARACTERS_SHOWN = 5, 80


@dataclasses.dataclass(frozen=True)
class TableRequest:
    """How a table is read.

    Attributes:
        columns: Names of columns by role, from `--columns`.
        own: Bucket of the table as a URI; None if the table is on this machine.
        allowed: Other buckets that rows may name.
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    own: str | None = None
    allowed: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class TrackRows:
    """Tracks that a table lists.

    Attributes:
        table: The columns path, label and, if the table has them, group (text, null if empty), split (`train`,
            `validation`, `test` or null) and fold (int32 from 0, or null).
        notes: Sentences for the log: what was chosen, guessed and left out.
        only_existing: Whether rows without a file are left out.
        audio_beside: Whether the audio may be in a folder beside that of the table.
    """

    table: pa.Table
    notes: tuple[str, ...]
    only_existing: bool
    audio_beside: bool


class RowProblems:
    """Everything that is wrong with the rows of a table, for one message.

    Attributes:
        lines: What is wrong, a line each.
    """

    def __init__(self, lines: pa.Array, unit: str) -> None:
        """Begin without problems.

        Args:
            lines: Where each row is in its file, int64 [rows].
            unit: What `lines` counts.
        """
        self.lines: list[str] = []
        self._rows, self._unit = lines, unit

    def add(self, what: str, where: pa.Array | Sequence[int]) -> None:
        """Add a problem of some rows, as bool [rows] or as a list of indices; nothing if there are none."""
        found = where if isinstance(where, list) else pc.indices_nonzero(where).to_pylist()
        if found:
            named = ", ".join(str(self._rows[row].as_py()) for row in found[:_SHOWN])
            more = ", ..." if len(found) > _SHOWN else ""
            self.lines.append(f"{len(found)} rows have {what}: {self._unit} {named}{more}")

    def add_paths(self, paths: pa.Array, request: TableRequest) -> None:
        """Add empty and repeated paths, and files that a table must not name."""
        self.add("an empty path", pc.equal(paths, ""))
        self.add("a path of an earlier row", _repeated(paths))
        for what, where in refused_rows(paths, request.own, request.allowed).items():
            self.add(what, where)

    def refuse(self, source: Source) -> None:
        """Raise a FeaturizeError that lists all problems, if there are any."""
        if self.lines:
            places = " and ".join(str(table) for table in source.tables[:_SHOWN]) or str(source.folder)
            raise FeaturizeError(f"{places} cannot be used:\n" + "\n".join(f"  - {line}" for line in self.lines))


def read_table(source: Source, request: TableRequest = TableRequest()) -> TrackRows:
    """Read the table of a collection; report everything that is wrong with it in one message.

    Args:
        source: Files of the table, and their layout.
        request: What the command line says about it.

    Raises:
        FeaturizeError: It cannot be parsed, lacks a column, holds empty, repeated or impossible values, or names
            files that it must not name.
    """
    rows = read_rows(source, request.columns)
    columns, notes = dict(rows.columns), list(rows.notes)
    problems = RowProblems(rows.lines, rows.unit)
    problem = problems.add
    problems.add_paths(columns["path"], request)
    problem("an empty label", pc.equal(columns["label"], ""))
    if "split" in columns:
        splits, wrong = read_splits(columns["split"])
        hint = _split_hint(columns["split"], wrong)
        problem(
            f"a split that is none of {spelled_splits()}; {hint} (found {_examples(columns['split'], wrong)})",
            wrong,
        )
        notes += _about_empty(splits, "split", "counts as train", "count as train")
        columns["split"] = splits
    if "fold" in columns:
        folds, wrong = read_folds(columns["fold"])
        hint = _fold_hint(columns["fold"], wrong)
        problem(f"a fold that is not a number from 0 to {MOST_FOLDS}{hint}", wrong)
        columns["fold"], first, unusable = _from_zero(folds)
        problems.lines += unusable
        if first:
            last = pc.max(folds).as_py()
            notes.append(
                f"The folds of the table are numbered from 1: {first} to {last} are 0 to {last - 1} here."
            )
        notes += _about_empty(folds, "fold", "is assigned to one", "are assigned to one")
    problems.refuse(source)
    if "group" in columns:
        columns["group"] = pc.if_else(pc.equal(columns["group"], ""), None, columns["group"])
        notes += _about_empty(columns["group"], "group", "is its own group", "are each their own group")
    return TrackRows(pa.table(columns), tuple(notes), rows.only_existing, rows.audio_beside)


def _repeated(paths: pa.Array) -> pa.Array:
    """Mark rows that repeat the path of an earlier row."""
    # Most hashes belong to a single path; only the others are compared.
    hashes = np.fromiter((hash(path) for path in texts(paths)), np.int64, len(paths))
    ordered = np.sort(hashes)
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    rows = np.flatnonzero(np.isin(hashes, shared)) if len(shared) else shared
    seen: set[str] = {""}
    again = np.zeros(len(paths), bool)
    for row, path in zip(rows.tolist(), paths.take(pa.array(rows)).to_pylist(), strict=True):
        again[row] = path in seen and path != ""
        seen.add(path)
    return pa.array(again)


def _examples(texts: pa.Array, where: pa.Array) -> str:
    different = texts.filter(where).unique().to_pylist()
    return ", ".join(repr(one_line(text)[:_CHARACTERS_SHOWN]) for text in different[:_SHOWN])


def _split_hint(texts: pa.Array, wrong: pa.Array) -> str:
    _, no_fold = read_folds(texts.filter(wrong))
    hint = "if the column is no split, add --columns split="
    return hint if pc.any(no_fold).as_py() else f"{hint} or, if these are folds, --columns split=,fold=NAME"


def _fold_hint(texts: pa.Array, wrong: pa.Array) -> str:
    found = texts.filter(wrong)
    if not len(found):
        return ""
    _, no_split = read_splits(found)
    hint = "these are splits, add --columns fold=,split=NAME" if not pc.any(no_split).as_py() else ""
    return f" (found {_examples(texts, wrong)}{'; ' if hint else ''}{hint})"


def _from_zero(folds: pa.Array) -> tuple[pa.Array, int, list[str]]:
    """Return folds numbered from 0, the number of the first one in the table, and what is wrong with them."""
    given = sorted(folds.drop_null().unique().to_pylist())
    if not given:
        return folds, 0, []
    first = 0 if given[0] == 0 else 1
    count = given[-1] - first + 1
    problems = []
    if count > MOST_FOLDS:
        problems.append(f"there are {count} folds, expected 2 to {MOST_FOLDS}")
    if count < 2:
        problems.append(
            f"every row is in fold {given[0]}, expected 2 to {MOST_FOLDS} folds; to ignore them, "
            "add --columns fold="
        )
    absent = sorted(set(range(first, given[-1] + 1)) - set(given))
    if absent and not folds.null_count:
        named = ", ".join(map(str, absent[:_SHOWN]))
        problems.append(f"no row is in fold {named}, but in fold {given[-1]}. Number the folds without gaps")
    return pc.subtract(folds, pa.scalar(first, pa.int32())), first, problems


def _about_empty(values: pa.Array, what: str, one: str, many: str) -> Iterator[str]:
    count = values.null_count
    if count:
        yield (
            f"{count} of {len(values)} rows have no {what} and {many}."
            if count > 1
            else (f"1 of {len(values)} rows has no {what} and {one}.")
        )
