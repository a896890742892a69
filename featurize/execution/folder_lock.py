"""File lock that allows one run at a time in a folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

# `holder_of` takes the lock for a moment, so both functions wait for that long before they report a holder.
_RUN_TIMEOUT, _QUERY_TIMEOUT = 0.5, 0.1  # seconds
_SECONDS_BETWEEN_TRIES = 0.02


@contextmanager
def only_run_in(folder: StoragePath) -> Iterator[None]:
    """Lock a folder for this process; the operating system releases the lock even if the process is killed.

    The lock is on the file `.lock` in the folder, which contains the process ID and is not deleted. An object
    store has no locks: two runs there do all work twice, and write the same bytes.

    Raises:
        FeaturizeError: Another process holds the lock, or the folder is not writable.
    """
    if not folder.local:
        yield
        return
    path = folder.local / ".lock"
    try:
        folder.local.mkdir(parents=True, exist_ok=True)
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
    if not folder.local or not path.exists():
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


def _write_process_id(file: int) -> None:
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())


def _holder_in(path: Path) -> str:
    return path.read_text() or "unknown"
