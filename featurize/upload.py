"""Write a remote file so that it appears whole or not at all, whatever interrupts the write."""

import _thread
import os
from typing import Any

import pyarrow as pa

from featurize.processes import temporary_name

# On object stores, an object appears only when its upload is complete.
_ATOMIC = frozenset({"s3", "gcs", "abfs"})


def has_atomic_uploads(filesystem: Any) -> bool:
    """Return whether a file appears only when it is complete, so that it needs no temporary name."""
    return filesystem.type_name in _ATOMIC


def write_and_rename(filesystem: Any, path: str, content: bytes | pa.Buffer) -> None:
    """Write a file where files are visible while they are written, such as on HDFS, with its parent folders.

    Raises:
        OSError: The file could not be written.
    """
    temporary = f"{os.path.dirname(path)}/{temporary_name()}"
    filesystem.create_dir(os.path.dirname(path), recursive=True)
    with filesystem.open_output_stream(temporary) as file:
        file.write(content)
    filesystem.move(temporary, path)


def upload(filesystem: Any, path: str, content: bytes | pa.Buffer) -> None:
    """Write an object.

    Arrow's output streams have no way to abort: closing one, which their destructor does as well, publishes what
    has been written so far. So no exception may pass while one is open. Signal handlers raise theirs in the main
    thread, between any two operations; this function works in a second thread, and on an exception waits for
    it. If the server fails, Arrow remembers it and closing the stream publishes nothing.

    Args:
        filesystem: `pyarrow.fs.FileSystem` whose objects appear when their upload is complete.
        path: Bucket and key.
        content: Content of the object.

    Raises:
        OSError: The object could not be written.
    """
    whole = pa.py_buffer(content)  # nothing must fail for want of memory, or for its type, while a stream is open
    failures: list[BaseException] = []

    def write() -> None:
        try:
            stream = filesystem.open_output_stream(path)
            try:
                stream.write(whole)
            finally:
                stream.close()
        except BaseException as error:
            failures.append(error)
        finally:
            finished.append(True)
            ended.release()

    # Not a `threading.Thread`: an exception that passes through its `start` corrupts the module's records.
    finished: list[bool] = []
    ended = _thread.allocate_lock()
    ended.acquire()
    _thread.start_new_thread(write, ())
    try:
        ended.acquire()
    except BaseException:
        if not finished:  # otherwise it may have passed after `ended` was acquired
            ended.acquire()
        raise
    if failures:
        raise failures[0]
