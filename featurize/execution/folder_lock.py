"""File lock that allows one run at a time in a folder."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

# `holder_of` takes the lock for a moment, so both functions wait for that long before they report a holder.
_RUN_TIMEOUT, _QUERY_TIMEOUT = 0.5, 0.1  # seconds
_SECONDS_BETWEEN_TRIES = 0.02
_MOST_BYTES = 64  # of a process ID


@contextmanager
def only_run_in(folder: StoragePath) -> Iterator[None]:
    """Lock a folder for this process; the operating system releases the lock even if the process is killed.

    The lock is on the file `.lock` in the folder, which contains the process ID and is not deleted. An object
    store has no locks: two runs there do all work twice, and write the same bytes.

    Raises:
        FeaturizeError: Another process holds the lock, the folder is not writable, or `.lock` is another file.
    """
    if not folder.local:
        yield
        return
    path = folder.local / ".lock"
    try:
        folder.local.mkdir(parents=True, exist_ok=True)
        if not _is_ours(path):
            raise FeaturizeError(
                f"{path} is not the lock of a run: expected a file that holds a process ID, not a link and not "
                "another program's file. Remove it, or give another --out."
            )
        lock = _file_lock(path, on_acquired=_write_process_id)
        lock.acquire(timeout=_RUN_TIMEOUT, poll_interval=_SECONDS_BETWEEN_TRIES)
    except Timeout as error:
        raise FeaturizeError(
            f"another run (process {_holder_in(path)}) is already running in {folder}. Wait for it, or give "
            "another --out."
        ) from error
    except OSError as error:
        raise FeaturizeError(
            f"cannot write to {folder}: {error.strerror}. Give --out a folder that you may write to."
        ) from error
    try:
        yield
    finally:
        lock.release()


def holder_of(folder: StoragePath) -> str | None:
    """Return the ID of the process that holds the lock of a folder; None if the folder is not locked."""
    path = Path(folder.path, ".lock")
    if not folder.local or not os.path.lexists(path) or not _is_ours(path):
        return None
    try:
        with _file_lock(path).acquire(timeout=_QUERY_TIMEOUT, poll_interval=_SECONDS_BETWEEN_TRIES):
            return None
    except Timeout:
        return _holder_in(path)
    except OSError:
        return None


def _file_lock(path: Path, on_acquired: Callable[[int], None] | None = None) -> FileLock:
    """Create a lock that keeps its file; on a file system without locks, acquiring it raises an OSError."""
    return FileLock(path, preserve_lock_file=True, fallback_to_soft=False, on_acquired=on_acquired)


def _is_ours(path: Path) -> bool:
    """Return whether a lock file is missing, or is one that may be overwritten; a folder is left to `FileLock`."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    if stat.S_ISDIR(status.st_mode):
        return True
    return _is_plain(status) and not _content(path).strip(b"0123456789")


def _is_plain(status: os.stat_result) -> bool:
    """Return whether a file has one name and is no link, pipe or device: writing it changes no other file."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def _write_process_id(file: int) -> None:
    if not _is_plain(os.fstat(file)):  # it has been replaced since it was checked
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())


def _holder_in(path: Path) -> str:
    return _content(path).decode("ascii", "replace") or "unknown"


def _content(path: Path) -> bytes:
    """Return the first bytes of a file, without following a link or waiting for a pipe."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST_BYTES)
    finally:
        os.close(file)
