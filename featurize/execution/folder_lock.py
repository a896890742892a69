"""File lock that allows one run at a time in a folder."""

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from featurize.errors import FeaturizeError
from featurize.execution.bucket_lease import lease_of
from featurize.processes import started_at
from featurize.storage import StoragePath

_RUN_TIMEOUT = 0.5  # seconds
# `holder_of` may share the lock for a moment: a run waits longer for a holder that is not recorded as one.
_QUERIES_TIMEOUT = 10.0  # seconds
_SECONDS_BETWEEN_TRIES = 0.02
_CLOCK_TOLERANCE = 2.0  # seconds
_MOST_BYTES = 64  # of a process ID
_PROCESS_ID = re.compile(rb"[1-9][0-9]{0,9}")


@contextmanager
def only_run_in(folder: StoragePath) -> Iterator[None]:
    """Lock a folder for this process; the operating system releases the lock even if the process is killed.

    The lock is on the file `.lock` in the folder, which contains the process ID and is not deleted. An object
    store has no locks; there, a lease (`bucket_lease`) finds another run, and expires if its process is killed.

    Raises:
        FeaturizeError: Another process holds the lock, the folder is not writable, or `.lock` is another file.
    """
    if not folder.local:
        with lease_of(folder):
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
        # Keeps its file; on a file system without locks, acquiring it raises an OSError.
        lock = FileLock(path, preserve_lock_file=True, fallback_to_soft=False, on_acquired=_write_process_id)
        _acquire(lock, path)
    except Timeout as error:
        raise FeaturizeError(
            f"another run (process {_recorded(path) or 'unknown'}) is already running in {folder}. Wait for it, "
            "or give another --out."
        ) from error
    except OSError as error:
        raise FeaturizeError(
            f"cannot write to {folder}: {error.strerror}. Give --out a folder that you may write to."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # such as a folder that was removed
            _clear(path)
        lock.release()


def holder_of(folder: StoragePath) -> str | None:
    """Return the ID of the process that holds the lock of a folder; None if it is not locked, or in a bucket.

    A run that begins in this moment is not disturbed: the lock is not taken, and it is shared for a moment only if
    the process in its file is not on this machine, which is so after a kill, and for a run on another machine.
    """
    path = Path(folder.path, ".lock")
    if not folder.local or not os.path.lexists(path) or not _is_ours(path):
        return None
    try:
        recorded = _recorded(path)
        if recorded is None or _is_running(int(recorded), os.stat(path).st_mtime):
            return recorded
        return recorded if _is_locked(path) else None
    except OSError:
        return None


def _acquire(lock: FileLock, path: Path) -> None:
    deadline = time.monotonic() + _QUERIES_TIMEOUT
    while True:
        try:
            lock.acquire(timeout=_RUN_TIMEOUT, poll_interval=_SECONDS_BETWEEN_TRIES)
            return
        except Timeout:
            recorded = _recorded(path)
            is_run = recorded is not None and _is_running(int(recorded), os.stat(path).st_mtime)
            if is_run or time.monotonic() > deadline:
                raise


def _is_locked(path: Path) -> bool:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)  # releases it
    return False


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


def _clear(path: Path) -> None:
    """Remove the process ID from a lock that is about to be released."""
    file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if _is_plain(os.fstat(file)):
            os.ftruncate(file, 0)
    finally:
        os.close(file)


def _recorded(path: Path) -> str | None:
    """Return the process ID in a lock file; None if it has none."""
    content = _content(path)
    return content.decode() if _PROCESS_ID.fullmatch(content) else None


def _content(path: Path) -> bytes:
    """Return the first bytes of a file, without following a link or waiting for a pipe."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(file, _MOST_BYTES) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


def _is_running(pid: int, since: float) -> bool:
    """Return whether a process of this machine runs that started before a point in time (seconds since epoch)."""
    started = started_at(pid)
    return started is not None and started <= since + _CLOCK_TOLERANCE
