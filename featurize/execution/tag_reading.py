"""Read the tags of many files in a child process with limits, so that a file can harm only its own tags.

The child reads several files at a time. If it dies, runs out of memory or hangs, the files that it may have been
reading are read again one by one, in another child. A file that fails alone is the culprit, and the rest goes on.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from featurize.collection.tags import UnreadableTags, read_tag
from featurize.execution.child_process import ChildProcess
from featurize.execution.limits import describe_death, limited
from featurize.storage import StoragePath

Tag = str | UnreadableTags | None

_AT_ONCE = 16  # threads; each mostly waits for disk or network
_START_SECONDS = 60.0  # for a new process, besides the time for its first file
_FILE_SECONDS = 30.0
_MEMORY_BYTES = 512 << 20  # for all files that are read at once
_OUT_OF_MEMORY = UnreadableTags(MemoryError.__name__)


def read_tags(paths: Sequence[StoragePath | None], tag: str) -> list[Tag]:
    """Read one tag of many files, in order; None for a file without it, and for None.

    Whatever goes wrong with a file, also a crash, makes its own tag an UnreadableTags and no other one.
    """
    tags: list[Tag] = [None] * len(paths)
    waiting = [index for index, path in enumerate(paths) if path is not None]
    while waiting:
        rest, failure = _read(paths, waiting, tag, tags, _AT_ONCE)
        suspects = [index for index in waiting if tags[index] == _OUT_OF_MEMORY]
        waiting = []
        if failure:
            # Files are begun in order.
            suspects, waiting = suspects + rest[:_AT_ONCE], rest[_AT_ONCE:]
        while suspects:
            rest, failure = _read(paths, suspects, tag, tags, 1)
            if failure:
                tags[rest[0]] = UnreadableTags(failure)
            suspects = rest[1:]
    return tags


def _read(
    paths: Sequence[StoragePath | None], indices: list[int], tag: str, tags: list[Tag], at_once: int
) -> tuple[list[int], str | None]:
    """Read files in a child process until all are read or it fails, and store their tags.

    Args:
        paths: All paths.
        indices: Which of them to read.
        tag: Name of the tag.
        tags: Receives the tags, at the same indices.
        at_once: Number of files that are read at a time.

    Returns:
        The indices that are not read, in order, and how the child failed; nothing and None if it did not.
    """
    unread = dict.fromkeys(indices)
    deadline = time.monotonic() + _START_SECONDS + _FILE_SECONDS
    task = limited(_MEMORY_BYTES, _read_all, [paths[index] for index in indices], tag, at_once)
    with ChildProcess(*task) as child:
        while True:
            try:
                kind, value = child.receive(max(deadline - time.monotonic(), 0))
            except TimeoutError:
                return list(unread), f"still reading after {_FILE_SECONDS:g} s"
            if kind == "died":
                return list(unread), describe_death(value)
            if kind != "yielded":
                return list(unread), type(value).__name__ if unread else None
            position, found = value
            oldest = next(iter(unread))
            tags[indices[position]] = found
            del unread[indices[position]]
            if oldest not in unread:
                deadline = time.monotonic() + _FILE_SECONDS


def _read_all(paths: Sequence[StoragePath], tag: str, at_once: int) -> Iterator[tuple[int, Tag]]:
    """Yield the position and the tag of each file; files are begun in order."""
    with ThreadPoolExecutor(at_once) as readers:
        positions = {readers.submit(read_tag, path, tag): position for position, path in enumerate(paths)}
        for done in as_completed(positions):
            yield positions[done], done.result()
