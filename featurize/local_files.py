"""Files of this machine: opened only if regular, listed, and written completely or not at all.

Python's functions are used and not those of `pyarrow.fs`: they support file names that are not UTF-8 and raise
specific exceptions.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from featurize.processes import temporary_name


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading, unbuffered.

    Raises:
        OSError: It cannot be opened, or is a pipe, a device or a folder. Never waits for a writer of a pipe.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return os.fdopen(descriptor, "rb", buffering=0)


def list_files(folder: str) -> Iterator[tuple[str, int]]:
    """List all files below a folder, hidden ones included; links to folders are not followed.

    Yields:
        Path relative to the folder and size in bytes; nothing if the folder does not exist.
    """
    folders = [""]
    while folders:
        below = folders.pop()
        try:
            entries = os.scandir(os.path.join(folder, below))
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{below}{entry.name}/")
                elif entry.is_file():
                    try:
                        size = entry.stat().st_size
                    except FileNotFoundError:  # a temporary file that was renamed in the meantime
                        continue
                    yield below + entry.name, size


def write_whole(path: Path, content: bytes | pa.Buffer) -> None:
    """Write a local file atomically, with its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name())
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _discard(temporary)
        if error.filename in (None, str(temporary)):  # a full disk has no name; of two names, the second is shown
            error.filename = str(path)
        raise
    except BaseException:
        _discard(temporary)
        raise


def _discard(file: Path) -> None:
    with contextlib.suppress(OSError):  # on a read-only disk, removing a missing file is an error, too
        file.unlink(missing_ok=True)
