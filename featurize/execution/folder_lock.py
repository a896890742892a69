"""One run at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from featurize.errors import FeaturizeError
from featurize.storage import StoragePath


@contextmanager
def only_run_in(folder: StoragePath) -> Iterator[None]:
    """Hold a folder for this process; the system lets go of it however the process ends.

    An object store has no locks. Two runs there do everything twice, and write the same bytes.

    Raises:
        FeaturizeError: another process holds it, or the folder cannot be written to.
    """
    if not folder.local:
        yield
        return
    try:
        folder.local.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.local / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise FeaturizeError(
            f"cannot write to {folder}: {error.strerror}. Give --out a folder that you may write to."
        ) from error
    try:
        if holder := _hold(lock):
            raise FeaturizeError(
                f"another run (process {holder}) is at work in {folder}. Wait for it, or give another --out."
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def holder_of(folder: StoragePath) -> str | None:
    """Return the id of the process that is at work in a folder, None if there is none."""
    try:
        lock = os.open(f"{folder.path}/.lock", os.O_RDWR)
    except OSError:
        return None
    try:
        return _hold(lock)
    finally:
        os.close(lock)


def _hold(lock: int) -> str | None:
    """Take a lock, or return the id of the process that has it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 32, 0).decode() or "unknown"
    return None
