"""A table of tracks without labels: the paths, and all columns as text, to be carried along."""

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.column_roles import find_roles, shown_names
from featurize.collection.layouts.source import Source
from featurize.collection.manifest import RowProblems, TableRequest, TrackRows
from featurize.collection.table_file import open_table
from featurize.collection.table_limits import TableError
from featurize.display import one_line
from featurize.errors import FeaturizeError


def read_paths(source: Source, request: TableRequest) -> TrackRows:
    """Read a table whose rows are tracks; labels are not required.

    Args:
        source: The table.
        request: What the command line says about it; of `columns`, only `path` is a role here.

    Returns:
        `path` is the path, and `column NAME` is each column of the table, the one of the path included. All
        columns are stripped text; an empty cell is null, except in `path`.

    Raises:
        FeaturizeError: It cannot be parsed, has no column of paths, has empty or repeated paths, or names files
            that it must not name.
    """
    if others := sorted(request.columns.keys() - {"path"}):
        raise FeaturizeError(
            f"--columns {', '.join(others)}: a prediction needs the path only, and all columns are carried along. "
            "Expected --columns path=NAME"
        )
    with open_table(source.tables[0]) as table:
        candidates = find_roles(table.names, request.columns, table.without_text).candidates
        if "path" not in candidates:
            raise TableError(
                f"no column is known to be the path; it has {shown_names(table.names)}. Name it: "
                "--columns path=NAME"
            )
        if twice := [name for i, name in enumerate(table.names) if name in table.names[:i]]:
            raise TableError(f"it has the column {one_line(twice[0])[:80]} more than once. Rename one of them")
        chosen = candidates["path"][0]
        carried = {f"column {name}": i for i, name in enumerate(table.names) if name not in table.without_text}
        read = table.read({"path": chosen, **carried})
        remark = f" ({table.remark})" if table.remark else ""
        notes = [
            f"Table {table.path.name}: path={one_line(table.names[chosen])[:80]}; carried along: "
            f"{shown_names([name for name in table.names if name not in table.without_text])}{remark}."
        ]
        if table.without_text:
            notes.append(f"Columns of lists, objects or bytes are left out: {shown_names(table.without_text)}.")
    problems = RowProblems(read.lines, read.unit)
    problems.add_paths(read.columns["path"], request)
    problems.refuse(source)
    columns = {
        name: column if name == "path" else pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        for name, column in read.columns.items()
    }
    return TrackRows(pa.table(columns), tuple(notes), only_existing=False, audio_beside=False)
