"""Sizes of the files that a table names, and which buckets do not answer."""

import os
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from featurize.collection.listing import size_of, size_of_local
from featurize.collection.location import is_outside, locate, parse_uri
from featurize.column_file import texts
from featurize.errors import CollectionLostError, Reject
from featurize.names import is_safe_name
from featurize.storage import StoragePath, describe

Int64 = NDArray[np.int64]
Result = TypeVar("Result")

_READERS = 16  # threads; each mostly waits for the network
_ROWS_AT_ONCE = 10_000
_SECONDS_TO_ANSWER = 30.0  # for the first request to a bucket


def sizes_of(root: StoragePath, paths: pa.Array, listed: bool = True) -> tuple[Int64, dict[str, str]]:
    """Return the size of each file, and the buckets that do not answer.

    Args:
        root: Folder of the audio.
        paths: Paths and URIs from a checked table, string [rows].
        listed: Whether the root's own bucket is listed once instead of asked for each object.

    Returns:
        int64 [rows], size in bytes, -1 for a file that does not exist or cannot be reached; and why each bucket
        does not answer, by URI of the bucket.

    Raises:
        OSError: The root's own bucket cannot be listed.
    """
    known = dict(root.files()) if root.scheme and listed else {}
    sizes = np.empty(len(paths), np.int64)
    unlisted: list[int] = []  # in the root's own bucket, by URIs that are not in the listing
    outside: defaultdict[str, list[int]] = defaultdict(list)
    is_local, root_path = not root.scheme, f"{root.path.rstrip('/')}/"
    absent = None  # the last folder that was found not to exist
    for row, path in enumerate(texts(paths)):
        if is_local and path and "://" not in path and "\0" not in path and path[0] != "/":
            # As below, in a fourth of the time.
            folder = path.rpartition("/")[0]
            sizes[row] = -1 if folder == absent else size_of_local(root_path + path)
            if sizes[row] < 0 and folder and folder != absent and not os.path.isdir(root_path + folder):
                absent = folder
            continue
        size = known.get(path)
        if size is None and is_outside(root, path):
            outside[parse_uri(path).store].append(row)
            continue
        if size is None and not is_local and "://" in path:  # in the root's own bucket
            below = locate(root, path).path
            size = known.get(below[len(root_path) :]) if below.startswith(root_path) else None
        elif size is None and not is_local and listed and is_safe_name(path):
            size = -1  # the listing would have it
        if size is None and not is_local:
            unlisted.append(row)
        else:
            sizes[row] = _size(root, path) if size is None else size
    unreachable = {}
    with ThreadPoolExecutor(_READERS) as readers:

        def ask(rows: list[int]) -> None:
            for begin in range(0, len(rows), _ROWS_AT_ONCE):
                some = rows[begin : begin + _ROWS_AT_ONCE]
                sizes[some] = list(readers.map(lambda row: _size(root, paths[row].as_py()), some))

        ask(unlisted)
        for store, rows in sorted(outside.items()):
            if reason := _why_silent(root, paths[rows[0]].as_py()):
                unreachable[store] = reason
                sizes[rows] = -1
            else:
                ask(rows)
    return sizes, unreachable


def _size(root: StoragePath, path: str) -> int:
    try:
        return size_of(locate(root, path))
    except (Reject, CollectionLostError):
        return -1


def _why_silent(root: StoragePath, path: str) -> str | None:
    """Return why the bucket of a file does not answer, None if it does, whether or not the file exists."""
    try:
        _within(_SECONDS_TO_ANSWER, lambda: _ask(root, path))
    except TimeoutError:
        return f"no answer in {_SECONDS_TO_ANSWER:g} s"
    except CollectionLostError as error:
        return str(error)
    except OSError as error:
        return describe(error)
    return None


def _ask(root: StoragePath, path: str) -> object:
    file = locate(root, path)
    return file.filesystem.get_file_info(file.path)


def _within(seconds: float, function: Callable[[], Result]) -> Result:
    """Call a function in a thread that is abandoned after some seconds: a file system's own limit may be minutes.

    Raises:
        TimeoutError: The function has not returned in time.
    """
    outcome: queue.Queue[tuple[Result | None, Exception | None]] = queue.Queue()

    def call() -> None:
        try:
            outcome.put((function(), None))
        except Exception as error:
            outcome.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error:
        raise error
    return result  # type: ignore[return-value]
