"""Columns of strings in temporary files, mapped into memory: each takes half a gigabyte for ten million tracks.

The operating system may drop mapped pages at any time and read them again. A file has no name once it is open, so
it disappears with the last column that uses it, also after a kill.
"""

import mmap
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.errors import FeaturizeError
from featurize.storage import describe

ROWS_AT_ONCE = 1 << 18  # of a column that is read, taken or converted in parts
_ROWS_IN_MEMORY = 1 << 18  # columns of fewer rows are not worth a file
MOST_COLUMN_BYTES = (1 << 31) - 1  # of a column: Arrow's strings have 32-bit offsets


class ColumnFile:
    """A column of strings or binary values that is written in parts and then mapped into memory."""

    def __init__(self, kind: pa.DataType, in_memory: int = _ROWS_IN_MEMORY) -> None:
        """Create an empty column.

        Args:
            kind: `pa.string()` or `pa.binary()`.
            in_memory: Columns of at most so many rows stay in memory.
        """
        self._kind, self._in_memory = kind, in_memory
        self._parts: list[pa.Array] = []  # in memory
        self._files: tuple[BinaryIO, BinaryIO] | None = None  # values, and offsets of 32 bits
        self._valid: list[NDArray[np.uint8]] = []
        self._rows = self._bytes = self._nulls = 0

    def append(self, part: pa.Array) -> None:
        """Append values.

        Raises:
            FeaturizeError: There is no room for temporary files, or the column holds more than 2 GiB.
        """
        self._rows += len(part)
        self._parts.append(part)
        if self._rows <= self._in_memory:
            return
        waiting, self._parts = self._parts, []
        for whole in waiting:
            for begin in range(0, len(whole), ROWS_AT_ONCE):
                self._write(whole.slice(begin, ROWS_AT_ONCE))

    def finish(self) -> pa.Array:
        """Return the column; all of it is one array."""
        if self._files is None:
            return pa.concat_arrays(self._parts) if self._parts else pa.array([], self._kind)
        valid = pa.py_buffer(np.packbits(np.concatenate(self._valid), bitorder="little")) if self._nulls else None
        with explained():
            values, offsets = (_mapped(file) for file in self._files)
        return pa.Array.from_buffers(self._kind, self._rows, [valid, offsets, values], self._nulls)

    def _write(self, part: pa.Array) -> None:
        """Write values; at most ROWS_AT_ONCE, so that what is computed of them stays small."""
        _, offset_buffer, values = part.buffers()
        offsets = np.frombuffer(offset_buffer, np.int32)[part.offset : part.offset + len(part) + 1]
        if self._bytes + int(offsets[-1] - offsets[0]) > MOST_COLUMN_BYTES:
            raise FeaturizeError(
                f"a column of the collection has more than {MOST_COLUMN_BYTES:,} bytes. Divide the collection."
            )
        with explained():
            if self._files is None:
                self._files = _unnamed_file(), _unnamed_file()
                self._files[1].write(np.zeros(1, np.int32).tobytes())
            if values is not None:
                self._files[0].write(memoryview(values)[int(offsets[0]) : int(offsets[-1])])
            self._files[1].write((offsets[1:] - offsets[0] + np.int32(self._bytes)).tobytes())
        self._valid.append(np.asarray(part.is_valid().to_numpy(zero_copy_only=False), np.uint8))
        self._nulls += part.null_count
        self._bytes += int(offsets[-1] - offsets[0])


def take(column: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
    """Return the values of a column of strings at some rows; of many rows, in a temporary file."""
    taken = ColumnFile(column.type)
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        taken.append(column.take(pa.array(rows[begin : begin + ROWS_AT_ONCE])))
    return taken.finish()


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without a copy if it has one chunk; `combine_chunks` always copies."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def parts(column: pa.Array | pa.ChunkedArray) -> Iterator[Any]:
    """Yield a column in slices, so that Python's objects are made for a part of it at a time."""
    for begin in range(0, len(column), ROWS_AT_ONCE):
        yield column.slice(begin, ROWS_AT_ONCE)


def texts(column: pa.Array | pa.ChunkedArray) -> Iterator[Any]:
    """Yield the values of a column as Python objects."""
    for part in parts(column):
        yield from part.to_pylist()


def is_ascending(column: pa.Array) -> bool:
    """Return whether each value is greater than the one before, in the order of their bytes; nulls are not."""
    for begin in range(0, len(column) - 1, ROWS_AT_ONCE):
        part = column.slice(begin, ROWS_AT_ONCE + 1)
        pairs = pc.less(part.slice(0, len(part) - 1), part.slice(1))
        if pairs.null_count or not pc.all(pairs).as_py():
            return False
    return True


def map_table(path: str) -> pa.Table:
    """Return a table from an Arrow IPC file, mapped into memory; the file may be removed.

    Raises:
        OSError: It cannot be read.
    """
    with pa.memory_map(path) as source:
        return pa.ipc.open_file(source).read_all()


@contextmanager
def explained() -> Iterator[None]:
    """Turn an OSError into an error that states where temporary files are."""
    try:
        yield
    except OSError as error:
        raise FeaturizeError(
            f"cannot write temporary files to {tempfile.gettempdir()}: {describe(error)}. Free some space there, "
            "or name another folder: TMPDIR=FOLDER"
        ) from error


def _unnamed_file() -> BinaryIO:
    file: BinaryIO = tempfile.TemporaryFile(prefix="earmark-")  # noqa: SIM115 -- `_mapped` closes it
    return file


def _mapped(file: BinaryIO) -> pa.Buffer:
    """Return the content of a file as a buffer that keeps it open."""
    file.flush()
    with file:
        if not file.tell():
            return pa.py_buffer(b"")
        return pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
