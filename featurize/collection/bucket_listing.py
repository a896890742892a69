"""List a large folder of a bucket: many prefixes at a time.

A listing has at most a thousand objects in an answer, and each answer names the place where the next one begins.
So a folder with a million objects takes a thousand requests, one after another. Its folders can be listed side by
side.
"""

import collections
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from featurize.column_file import texts
from featurize.storage import StoragePath

_AT_ONCE = 16  # listings
_MOST_FOLDERS = 4096  # listed apart; each costs a request even if it has few objects

Files = list[tuple[str, int]]
Item = TypeVar("Item")
Result = TypeVar("Result")


def list_by_prefix(root: StoragePath) -> Iterator[tuple[str, int]]:
    """List all objects below a folder of a bucket, as `StoragePath.files` does, folder by folder.

    First-level folders are listed side by side; if there are few, so are those of the second level.

    Raises:
        OSError: It cannot be listed.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        top = _list_level(root, "")
        if top is None:
            names, sizes = _list_below(root, "")
            yield from zip(texts(names), sizes, strict=True)
            return
        files, folders = top
        yield from files
        if len(folders) < _AT_ONCE:
            whole, deeper = [], []
            for folder, level in zip(
                folders, pool.map(lambda name: _list_level(root, name), folders), strict=True
            ):
                if level is None or len(level[1]) > _MOST_FOLDERS // _AT_ONCE:
                    whole.append(folder)
                else:
                    yield from level[0]
                    deeper += level[1]
            folders = whole + deeper
        for names, sizes in _in_order(pool, lambda name: _list_below(root, name), folders):
            yield from zip(texts(names), sizes, strict=True)


def _list_level(root: StoragePath, below: str) -> tuple[Files, list[str]] | None:
    """Return the objects and the folders directly in a folder, as paths below the root.

    Returns:
        None if the folder has names with empty parts or dots, such as `a//b`, which no path to a folder reaches.
    """
    files, folders = [], []
    for info in root.filesystem.get_file_info(pafs.FileSelector(_path(root, below), allow_not_found=True)):
        name = info.path[len(root.path) + 1 :]
        if info.type == pafs.FileType.File:
            files.append((name, info.size))
        elif (
            not name.startswith(f"{below}/" if below else "") or info.base_name in ("", ".", "..") or name == below
        ):
            return None
        else:
            folders.append(name)
    return files, folders


def _list_below(root: StoragePath, below: str) -> tuple[pa.Array, Sequence[int]]:
    """Return all objects below a folder as columns: paths below the root, string, and sizes in bytes."""
    selector = pafs.FileSelector(_path(root, below), allow_not_found=True, recursive=True)
    begin = len(root.path) + 1
    found = [info for info in root.filesystem.get_file_info(selector) if info.type == pafs.FileType.File]
    return pa.array([info.path[begin:] for info in found], pa.string()), array(
        "q", [-1 if info.size is None else info.size for info in found]
    )


def _path(root: StoragePath, below: str) -> str:
    return f"{root.path}/{below}" if below else root.path


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield the results of a function in order; only so many are ahead of the caller."""
    waiting: collections.deque[Future[Result]] = collections.deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > 2 * _AT_ONCE:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
