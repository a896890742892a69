"""The files of a listing as Arrow columns: Python objects of ten million files would take four gigabytes."""

import itertools
import os
from collections.abc import Iterable

import pyarrow as pa

from featurize.collection.listing import AudioFile
from featurize.column_file import ColumnFile
from featurize.storage import is_safe_name

_FILES_AT_ONCE = 1 << 14


def file_columns(files: Iterable[AudioFile]) -> pa.Table:
    """Return the columns `track`, `path` and `size` of a catalog for audio files, in their order.

    Raises:
        FeaturizeError: There is no room for temporary files.
    """
    ids, paths = ColumnFile(pa.string()), ColumnFile(pa.binary())
    sizes = [pa.array([], pa.int64())]
    for some in _batches(files):
        ids.append(pa.array([printable(file.path) for file in some], pa.string()))
        paths.append(pa.array([_raw_name(file.path) for file in some], pa.binary()))
        sizes.append(pa.array([file.size for file in some], pa.int64()))
    return pa.table({"track": ids.finish(), "path": paths.finish(), "size": pa.concat_arrays(sizes)})


def printable(name: str) -> str:
    """Escape bytes of a file name that are not UTF-8, which neither Arrow nor JSON can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name


def _raw_name(path: str) -> bytes | None:
    """Return what the column `path` holds for a path below the root, see Catalog."""
    if not is_safe_name(path):
        return b""
    return None if printable(path) == path else os.fsencode(path)


def _batches(files: Iterable[AudioFile]) -> Iterable[list[AudioFile]]:
    waiting = iter(files)
    return iter(lambda: list(itertools.islice(waiting, _FILES_AT_ONCE)), [])
