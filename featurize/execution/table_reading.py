"""Read a table of tracks in a child process with a limit on its memory: a small file can describe terabytes.

The child writes the rows to a file that this process maps into memory, and sends only the rest.
"""

import dataclasses
import os
import tempfile

import pyarrow as pa

from featurize.collection.catalog import TableReader
from featurize.collection.layouts.source import Source
from featurize.collection.listing import size_of
from featurize.collection.manifest import TableRequest, TrackRows, read_table
from featurize.column_file import explained, map_table
from featurize.errors import FeaturizeError
from featurize.execution.child_process import ChildProcess
from featurize.execution.limits import describe_death, limited

_SECONDS = 1800.0
# Tables of a million rows need a few hundred megabytes; large ones are compressed at most this many times.
_MEMORY_BYTES, _MEMORY_PER_BYTE = 1 << 30, 64
_WITHOUT_TABLES_BYTES = 4 << 30  # for a library that reads files of a dataset itself


def read_table_apart(source: Source, request: TableRequest, read: TableReader = read_table) -> TrackRows:
    """Read a table in a child process.

    Args:
        source: Files of the table.
        request: What the command line says about it.
        read: Module-level function that reads it.

    Raises:
        FeaturizeError: As in `read`; also if it takes too much memory or time.
    """
    table_bytes = sum(max(size_of(table), 0) for table in source.tables)
    memory = _MEMORY_BYTES + _MEMORY_PER_BYTE * table_bytes if source.tables else _WITHOUT_TABLES_BYTES
    with explained(), tempfile.TemporaryDirectory(prefix="earmark-") as folder:
        with ChildProcess(*limited(memory, _read_into, folder, source, request, read)) as child:
            try:
                kind, value = child.receive(_SECONDS)
            except TimeoutError as error:
                raise _unusable(source, f"it takes longer than {_SECONDS:g} s") from error
        if kind == "returned":
            # A file for each column, so that one that is no longer used takes no memory.
            columns = [map_table(os.path.join(folder, f"{i}.arrow")) for i in range(len(value.table.schema))]
            table = pa.table([column[0] for column in columns], schema=value.table.schema)
            rows: TrackRows = dataclasses.replace(value, table=table)
            return rows
    if isinstance(value, MemoryError):
        raise _unusable(source, "it takes more memory than a table of its size should")
    if kind == "raised":
        raise value
    raise _unusable(source, describe_death(value))


def _read_into(folder: str, source: Source, request: TableRequest, read: TableReader) -> TrackRows:
    """Read a table and write its columns to Arrow files, `0.arrow` and so on; return everything else."""
    rows = read(source, request)
    for index, name in enumerate(rows.table.column_names):
        column, path = rows.table.select([name]), os.path.join(folder, f"{index}.arrow")
        with explained(), pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, column.schema) as writer:
            writer.write_table(column)
    # A slice would be sent with all of its values.
    return dataclasses.replace(rows, table=rows.table.schema.empty_table())


def _unusable(source: Source, problem: str) -> FeaturizeError:
    named = ", ".join(str(table) for table in source.tables[:3]) or str(source.folder)
    return FeaturizeError(f"{named} cannot be read as a table: {problem}. Expected a table of tracks.")
