"""Read, encode and write small Parquet tables; what is read is checked against a schema and limits first."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurize.storage import StoragePath

_MOST_ROWS = 50_000_000
MOST_BYTES = 1 << 30  # decoded
MOST_PLAN_BYTES = 4 << 30  # encoded; the plan of ten million tracks takes 0.9 GB


def read_table(
    path: StoragePath,
    columns: Sequence[str] | None = None,
    schema: pa.Schema | None = None,
    most_bytes: int = MOST_BYTES,
) -> pa.Table:
    """Read a Parquet file.

    Args:
        path: Path of the file.
        columns: Names of the columns to read; None for all.
        schema: Schema that the whole file must have, apart from metadata; None for any.
        most_bytes: Limit on the decoded size of all columns, also those that are not read.

    Raises:
        pa.ArrowException, OSError: The file cannot be read.
        ValueError: Its schema is another one, or it exceeds the limits of a small table. The message continues a
            sentence that begins with the name of the file.
    """
    metadata = pq.read_metadata(path.path, **path.arrow)
    found = metadata.schema.to_arrow_schema()
    if schema is not None:
        refuse_other_schema(found, schema)
    wanted = found.names if columns is None else list(columns)
    _refuse_large(metadata, most_bytes)
    # An encoded string may be repeated a million times: strings are counted before they are decoded.
    strings = [name for name in wanted if found.field(name).type in (pa.string(), pa.binary())]
    # ParquetFile, unlike read_table, adds no column for the folder fold=K in the path.
    file = pq.ParquetFile(path.path, read_dictionary=strings, page_checksum_verification=True, **path.arrow)
    table = file.read(wanted)
    if len(table) != metadata.num_rows:
        raise ValueError(f"has {len(table)} rows, but its footer says {metadata.num_rows}")
    for name in strings:
        column = table[name]
        if sum(map(_decoded_size, column.chunks)) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES:,} bytes in the column {name}")
        table = table.set_column(
            table.column_names.index(name), found.field(name), column.cast(found.field(name).type)
        )
    return table


def refuse_other_schema(found: pa.Schema, expected: pa.Schema) -> None:
    """Raise a ValueError that names the differing columns if two schemas differ in more than metadata."""
    if found.equals(expected):
        return
    missing = [f"lacks the column {field.name}" for field in expected if field.name not in found.names]
    others = [
        f"its column {field.name} is {_describe(found.field(field.name))}, expected {_describe(field)}"
        for field in expected
        if found.names.count(field.name) == 1 and not found.field(field.name).equals(field)
    ]
    known = [f"has the unknown column {name!r}"[:100] for name in found.names if name not in expected.names]
    problems = [*missing, *others, *known] or ["its columns are repeated or in another order"]
    more = f" and {len(problems) - 5} more differences" if len(problems) > 5 else ""
    raise ValueError("; ".join(problems[:5]) + more)


def encode_table(table: pa.Table) -> pa.Buffer:
    """Return a table encoded as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def write_table(path: StoragePath, table: pa.Table) -> None:
    """Write a table as a Parquet file, atomically."""
    path.write(encode_table(table))


def _refuse_large(metadata: pq.FileMetaData, most_bytes: int) -> None:
    """Raise a ValueError if the footer of a file promises more than a small table has.

    The metadata of columns is not touched: for some that are made to do so, `RowGroupMetaData.column` ends the
    process ("Definition level histogram size mismatch"), because pyarrow declares no exception there. Reading the
    same file raises one.
    """
    if metadata.num_rows > _MOST_ROWS:
        raise ValueError(f"has {metadata.num_rows:,} rows, expected at most {_MOST_ROWS:,}")
    size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if size > most_bytes:
        raise ValueError(f"has {size:,} bytes, expected at most {most_bytes:,}")


def _decoded_size(chunk: pa.DictionaryArray) -> int:
    lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
    return int(pc.sum(lengths.take(chunk.indices)).as_py() or 0)


def _describe(field: pa.Field) -> str:
    return f"{field.type}{'' if field.nullable else ' without nulls'}"
