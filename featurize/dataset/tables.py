"""Small Parquet tables: read, encoded and written whole."""

import pyarrow as pa
import pyarrow.parquet as pq

from featurize.storage import StoragePath


def read_table(path: StoragePath, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some columns of it."""
    # The file itself and not its path: the folder called fold=K above it is none of its columns.
    return pq.ParquetFile(path.path, **path.arrow).read(columns)


def encode_table(table: pa.Table) -> pa.Buffer:
    """Return a table as the content of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def write_table(path: StoragePath, table: pa.Table) -> None:
    """Write a table as a Parquet file, whole or not at all."""
    path.write(encode_table(table))
