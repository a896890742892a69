"""The encoded bytes of one audio file, opened for a decoder that reads them through callbacks."""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from featurize.errors import CollectionLostError, Reject
from featurize.storage import StoragePath, describe

_WHOLE_BYTES = 32 << 20  # files up to this size are read at once, longer ones as the decoder asks for them
_BUFFER_BYTES = 4 << 20


class Source:
    """A file for a decoder that cannot be told of an error.

    A damaged file may send the decoder to a place before its beginning, and a disk may fail in the middle. The
    decoder would take both for the end of the file; here the second is remembered.
    """

    def __init__(self, file: Any) -> None:
        """Take a binary file that can seek."""
        self._file = file
        self.error: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as possible and return how far; 0 at the end, and after an error."""
        try:
            return int(self._file.readinto(buffer))
        except OSError as error:
            self.error = error
            return 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; none at the end, and after an error."""
        try:
            return bytes(self._file.read(size))
        except OSError as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the file, or stay where it is if there is no such place."""
        try:
            return int(self._file.seek(offset, whence))
        except (OSError, ValueError):
            return self.tell()  # which is not what the decoder asked for: it will give up

    def tell(self) -> int:
        """Return where in the file it is."""
        return int(self._file.tell())


class BytesSource(io.BytesIO):
    """A whole file in memory, for the same decoder: reading it cannot fail, and needs no call of Python's."""

    error: OSError | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the file, or stay where it is if there is no such place."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


@contextmanager
def open_source(place: StoragePath) -> Iterator[Source | BytesSource]:
    """Open the bytes of a file.

    Raises:
        Reject: stage `open`: it is missing, empty, no regular file, or may not be read.
        CollectionLostError: it lies elsewhere and cannot be reached, after the file system's own retries.
    """
    try:
        file = _open(place)
    except OSError as error:
        raise _explained(place, error) from error
    with file:
        try:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            source = BytesSource(file.read()) if size <= _WHOLE_BYTES else Source(file)
        except OSError as error:
            raise _explained(place, error) from error
        if not size:
            raise Reject("open", "empty", "0 bytes")
        try:
            yield source
        finally:
            if source.error:
                # In the place of whatever the decoder made of the bytes up to there.
                raise _explained(place, source.error)


def _explained(place: StoragePath, error: OSError) -> Exception:
    """Say whose fault it is that a file cannot be read: its own, or that of the place where all of them lie."""
    if isinstance(error, FileNotFoundError):
        return Reject("open", "missing", "there is no such file")
    if place.local:
        return Reject("open", "unreadable", error.strerror or str(error))
    return CollectionLostError(f"cannot read {place}: {describe(error)}.")


def _open(place: StoragePath) -> Any:
    if not place.local:
        return io.BufferedReader(place.filesystem.open_input_file(place.path), _BUFFER_BYTES)
    # Without waiting: nobody may ever write to a pipe that has an mp3's name.
    descriptor = os.open(place.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Reject("open", "unreadable", "not a regular file")
    return os.fdopen(descriptor, "rb", _BUFFER_BYTES)
