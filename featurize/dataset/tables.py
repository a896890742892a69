"""Read, encode and write small Parquet tables."""

import pyarrow as pa
import pyarrow.parquet as pq

from featurize.storage import StoragePath


def read_table(path: StoragePath, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Args:
        path: Path of the file.
        columns: Names of the columns to read; None for all.
    """
    # ParquetFile, unlike read_table, adds no column for the folder fold=K in the path.
    return pq.ParquetFile(path.path, **path.arrow).read(columns)


def encode_table(table: pa.Table) -> pa.Buffer:
    """Return a table encoded as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def write_table(path: StoragePath, table: pa.Table) -> None:
    """Write a table as a Parquet file, atomically."""
    path.write(encode_table(table))
