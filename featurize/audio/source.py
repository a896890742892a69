"""The encoded bytes of one audio file, for a decoder that reads through callbacks."""

import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from featurize.audio.remote_file import Beginning, FileChangedError, PartlyReadFile
from featurize.errors import CollectionLostError, Reject
from featurize.storage import StoragePath, describe

WHOLE_BYTES = 32 << 20  # read files up to this size at once, longer ones on demand
_BUFFER_BYTES = 4 << 20


class Source:
    """A file for a decoder whose callbacks cannot raise.

    A damaged file may make the decoder seek before the start of the file, and a disk may fail in mid-file. To the
    decoder both look like the end of the file; `error` keeps the failure of the disk.
    """

    def __init__(self, file: Any) -> None:
        """Wrap a seekable binary file, at its beginning."""
        self._file = file
        self._size = int(file.seek(0, io.SEEK_END))
        self._position = 0
        self.error: OSError | None = None

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer and return the number of bytes read; 0 at the end and after an error."""
        try:
            # Not in `seek`: decoders ask for the size by seeking to the end, and the buffer of a remote file would
            # have to be read again.
            if self._file.tell() != self._position:
                self._file.seek(self._position)
            read = int(self._file.readinto(buffer))
        except OSError as error:
            self.error = error
            return 0
        self._position += read
        return read

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; none at the end and after an error."""
        buffer = bytearray(max(self._size - self._position, 0) if size < 0 else size)
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek, or stay at the current position if the target does not exist."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset >= 0:  # otherwise not the requested position, so the decoder gives up
            self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return the current position."""
        return self._position


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
def open_source(
    path: StoragePath, fetched: Callable[[], Beginning] | None = None
) -> Iterator[Source | BytesSource]:
    """Open the bytes of a file.

    Args:
        path: Audio file.
        fetched: Returns what was read of a remote file ahead of time, or raises OSError; None if nothing was.

    Raises:
        Reject: Stage `open`: the file is missing, empty, not a regular file, not readable, or changed while it was
            read (reason `changed`, maybe on exit, in place of an error that the mixed bytes caused).
        CollectionLostError: The file is remote and cannot be reached, after the file system's own retries.
    """
    try:
        beginning = fetched() if fetched else None
        file = _open(path) if beginning is None else _reopen(path, beginning)
    except OSError as error:
        raise _read_error(path, error) from error
    with file:
        try:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            at_once = size <= WHOLE_BYTES and not isinstance(file, PartlyReadFile)
            # A whole object is one request, whose answer is one version of it. For the rest of a partly read one,
            # its size is compared.
            before = None if beginning or (at_once and path.scheme) else _state(path, file)
            source = BytesSource(file.read()) if at_once else Source(file)
        except OSError as error:
            raise _read_error(path, error) from error
        if before and isinstance(source, BytesSource):
            _refuse_changed(path, before, len(source.getbuffer()))
        if not size:
            raise Reject("open", "empty", "0 bytes")
        try:
            yield source
        finally:
            # Each replaces whatever error the truncated or mixed bytes caused in the decoder.
            if source.error:
                raise _read_error(path, source.error)
            if before and isinstance(source, Source):
                _refuse_changed(path, before, size)


class _State(NamedTuple):
    """What changes when a file is written: size in bytes, time of the last change in nanoseconds if known."""

    size: int
    changed_at: int | None


def _state(path: StoragePath, file: Any = None) -> _State:
    """Return the state of the file that has a name; of an open file if that is local and given."""
    if path.local:
        status = os.fstat(file.fileno()) if file else os.stat(path.path)
        return _State(status.st_size, status.st_mtime_ns)
    info = path.filesystem.get_file_info(path.path)
    return _State(-1 if info.size is None else info.size, info.mtime_ns)


def _refuse_changed(path: StoragePath, before: _State, read: int) -> None:
    """Raise a Reject if a file is not what it was before it was read, or not all of it was read.

    Args:
        path: The file. If another file has taken its name, that counts as a change, and so does its removal.
        before: State of the file that was opened.
        read: Size of the file while it was read, in bytes.
    """
    try:
        after = _state(path)
    except OSError as error:
        raise _read_error(path, error) from error
    if after != before or read != before.size:
        raise Reject("open", "changed", f"{before.size:,} bytes before it was read and {after.size:,} after")


def _read_error(path: StoragePath, error: OSError) -> Exception:
    """Return a Reject if only this file cannot be read, a CollectionLostError if its storage is gone."""
    if isinstance(error, FileChangedError):
        return Reject("open", "changed", str(error))
    if isinstance(error, FileNotFoundError):
        return Reject("open", "missing", "there is no such file")
    if path.local:
        return Reject("open", "unreadable", error.strerror or str(error))
    return CollectionLostError(f"cannot read {path}: {describe(error)}.")


def _reopen(path: StoragePath, beginning: Beginning) -> Any:
    """Return a file whose beginning has been read."""
    if len(beginning.content) == beginning.size:
        return io.BytesIO(beginning.content)
    return PartlyReadFile(path, beginning)


def _open(path: StoragePath) -> Any:
    if not path.local:
        return io.BufferedReader(path.filesystem.open_input_file(path.path), _BUFFER_BYTES)
    # Before it is opened, because opening a device may have effects; after, because the name may have changed.
    _refuse_irregular(os.stat(path.path))
    # Non-blocking: opening a pipe named *.mp3 would otherwise wait for a writer forever.
    descriptor = os.open(path.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_irregular(os.fstat(descriptor))
    except Reject:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb", _BUFFER_BYTES)


def _refuse_irregular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(status.st_mode), "a device")
        raise Reject("open", "unreadable", f"not a regular file but {kind}")
