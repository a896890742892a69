"""The encoded bytes of one audio file, for a decoder that reads through callbacks."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featurize.errors import CollectionLostError, Reject
from featurize.storage import StoragePath, describe

_WHOLE_BYTES = 32 << 20  # read files up to this size at once, longer ones on demand
_BUFFER_BYTES = 4 << 20


class Source:
    """A file for a decoder whose callbacks cannot raise.

    A damaged file may make the decoder seek before the start of the file, and a disk may fail in mid-file. To the
    decoder both look like the end of the file; `error` keeps the failure of the disk.
    """

    def __init__(self, file: Any) -> None:
        """Wrap a seekable binary file."""
        self._file = file
        self.error: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer and return the number of bytes read; 0 at the end and after an error."""
        try:
            return int(self._file.readinto(buffer))
        except OSError as error:
            self.error = error
            return 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; none at the end and after an error."""
        try:
            return bytes(self._file.read(size))
        except OSError as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek, or stay at the current position if the target does not exist."""
        try:
            return int(self._file.seek(offset, whence))
        except (OSError, ValueError):
            return self.tell()  # not the requested position, so the decoder gives up

    def tell(self) -> int:
        """Return the current position."""
        return int(self._file.tell())


class BytesSource(io.BytesIO):
    """A whole file in memory: reading it cannot fail."""

    error: OSError | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek, or stay at the current position if the target does not exist."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


@contextmanager
def open_source(path: StoragePath) -> Iterator[Source | BytesSource]:
    """Open the bytes of a file.

    Raises:
        Reject: Stage `open`: the file is missing, empty, not a regular file, or not readable.
        CollectionLostError: The file is remote and cannot be reached, after the file system's own retries.
    """
    try:
        file = _open(path)
    except OSError as error:
        raise _read_error(path, error) from error
    with file:
        try:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            source = BytesSource(file.read()) if size <= _WHOLE_BYTES else Source(file)
        except OSError as error:
            raise _read_error(path, error) from error
        if not size:
            raise Reject("open", "empty", "0 bytes")
        try:
            yield source
        finally:
            if source.error:
                # Replaces whatever error the truncated bytes caused in the decoder.
                raise _read_error(path, source.error)


def _read_error(path: StoragePath, error: OSError) -> Exception:
    """Return a Reject if only this file cannot be read, a CollectionLostError if its storage is gone."""
    if isinstance(error, FileNotFoundError):
        return Reject("open", "missing", "there is no such file")
    if path.local:
        return Reject("open", "unreadable", error.strerror or str(error))
    return CollectionLostError(f"cannot read {path}: {describe(error)}.")


def _open(path: StoragePath) -> Any:
    if not path.local:
        return io.BufferedReader(path.filesystem.open_input_file(path.path), _BUFFER_BYTES)
    # Non-blocking: opening a pipe named *.mp3 would otherwise wait for a writer forever.
    descriptor = os.open(path.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Reject("open", "unreadable", "not a regular file")
    return os.fdopen(descriptor, "rb", _BUFFER_BYTES)
