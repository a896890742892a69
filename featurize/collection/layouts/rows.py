"""Rows of a table as a layout reads them, and the reading of columns by their roles, which most layouts share."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.column_roles import BY_VALUE, RoleColumns, describe_choice, find_roles, shown_names
from featurize.collection.listing import AUDIO_SUFFIXES
from featurize.collection.role_values import read_folds, read_splits
from featurize.collection.table_file import TableFile
from featurize.collection.table_limits import TableError
from featurize.display import one_line


@dataclasses.dataclass(frozen=True)
class RawRows:
    """Rows of a table before they are checked.

    Attributes:
        columns: Stripped text by role, string [rows]; empty for what a row does not have. `path` and `label` are
            always there.
        lines: Where each row is in its file, int64 [rows].
        unit: What `lines` counts, such as `line`.
        notes: Sentences on what was chosen and what was left out, for the log.
        only_existing: Whether rows without a file are left out, because the table lists more than was downloaded;
            else they become rejects.
        audio_beside: Whether the audio may be in a folder beside that of the table, as datasets are published.
    """

    columns: dict[str, pa.Array]
    lines: pa.Array
    unit: str
    notes: tuple[str, ...]
    only_existing: bool = False
    audio_beside: bool = False

    def where(self, kept: pa.Array, *notes: str) -> "RawRows":
        """Return some of the rows, bool [rows], with further notes."""
        columns = {role: column.filter(kept) for role, column in self.columns.items()}
        lines = self.lines.filter(kept)
        return dataclasses.replace(self, columns=columns, lines=lines, notes=(*self.notes, *notes))

    def with_columns(self, columns: Mapping[str, pa.Array], *notes: str) -> "RawRows":
        """Return the rows with columns added or replaced, and further notes."""
        return dataclasses.replace(self, columns={**self.columns, **columns}, notes=(*self.notes, *notes))


def read_roles(
    table: TableFile,
    given: Mapping[str, str],
    needed: tuple[str, ...] = ("path", "label"),
    what: str = "Table",
    otherwise: str = "",
) -> RawRows:
    """Read the columns of a table that have a role.

    Args:
        table: An open table.
        given: Names of columns by role, of `--columns` or of a layout.
        needed: Roles that must have a column.
        what: Kind of table, for the log.
        otherwise: Advice to add if no column is known to be one that is needed.

    Raises:
        FeaturizeError: A needed or given column does not exist.
        TableError: The table cannot be parsed.
    """
    found = find_roles(table.names, given, table.without_text)
    if missing := [role for role in needed if role not in found.candidates]:
        if any(os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES for name in table.names):
            raise TableError(
                "its first line is a track. Add the names of the columns as the first line, such as: path,label"
            )
        found_names = f"no column is known to be the {' or the '.join(missing)}; it has {shown_names(table.names)}"
        if len(table.names) < len(needed):
            raise TableError(
                f"{found_names}. Expected the names of the columns in the first line, with commas between "
                "them, such as: path,label"
            )
        raise TableError(
            f"{found_names}. Name {'it' if len(missing) == 1 else 'them'}: --columns "
            f"{','.join(f'{role}=NAME' for role in missing)}{otherwise}"
        )
    chosen = {role: columns[0] for role, columns in found.candidates.items() if role not in BY_VALUE}
    to_read = dict(chosen)
    for role in BY_VALUE:
        to_read |= {f"{role} {index}": index for index in found.candidates.get(role, ())}
    rival = _rival_label(table.names, chosen, found)
    read = table.read(to_read | ({"rival": rival} if rival is not None else {}))
    columns = {role: read.columns[role] for role in chosen}
    for role in BY_VALUE:
        for index in found.candidates.get(role, ()):
            values = read.columns[f"{role} {index}"]
            if index not in chosen.values() and _holds(role, values, index, table.names, found):
                chosen[role], columns[role] = index, values
                break
    remark = f" ({table.remark})" if table.remark else ""
    note = f"{what} {table.path.name}: {describe_choice(table.names, chosen, found)}{remark}."
    notes = [note]
    if "guessed" in table.remark:
        notes.append("The encoding of the table is a guess: if names are garbled, save it as UTF-8.")
    if rival is not None and _divide_differently(columns["label"], read.columns["rival"]):
        named = (one_line(table.names[index]) for index in (chosen["label"], rival))
        notes.append(
            "The columns {0} and {1} differ, and {0} is used; a record label is no class. For the other "
            "one, add --columns label={1}.".format(*named)
        )
    return RawRows(columns, read.lines, read.unit, tuple(notes))


def join(parts: Sequence[RawRows]) -> RawRows:
    """Return the rows of several tables; lines are those of each table.

    A table may lack the groups or folds of another one; its rows have none. A split that is not in all of them is
    none, because rows without a split count as train.
    """
    found = dict.fromkeys(role for part in parts for role in part.columns)
    partly = [role for role in found if not all(role in part.columns for part in parts)]
    columns = {
        role: pa.chunked_array(
            [part.columns.get(role, pa.array([""] * len(part.lines), pa.string())) for part in parts]
        ).combine_chunks()
        for role in found
        if role not in partly or role != "split"
    }
    lines = pa.chunked_array([part.lines for part in parts]).combine_chunks()
    notes = tuple(note for part in parts for note in part.notes)
    if "split" in partly:
        notes += ("Not all of the tables have a column of the split, so that it is not used.",)
    return dataclasses.replace(parts[0], columns=columns, lines=lines, notes=notes)


def _rival_label(names: Sequence[str], chosen: Mapping[str, int], found: RoleColumns) -> int | None:
    """Return the column of genres of a table whose column `label` is used, which may be the record label."""
    if "label" in found.given or "label" not in chosen or names[chosen["label"]].casefold() != "label":
        return None
    others = (index for index in found.candidates["label"] if "genre" in names[index].casefold())
    return next(others, None)


def _divide_differently(labels: pa.Array, others: pa.Array) -> bool:
    """Return whether neither of two columns follows from the other, as the name of a class from its number."""
    pairs = pa.table([labels, others], names=["label", "other"]).group_by(["label", "other"]).aggregate([])
    return len(pairs) > max(len(labels.unique()), len(others.unique()))


def _holds(role: str, values: pa.Array, index: int, names: list[str], found: RoleColumns) -> bool:
    """Return whether a column is the one of a role: by its exact name, or because most different values fit."""
    if role in found.given or names[index].casefold() == role:
        return True
    different = values.unique()
    empty = (read_splits if role == "split" else read_folds)(different)
    values_that_fit = pc.sum(pc.is_valid(empty[0])).as_py() or 0
    return 2 * values_that_fit > len(different) - 1 and values_that_fit > 0
