"""Copies of row groups on a disk of this machine, so that each is read from a bucket only once.

The copy of a shard is a sparse file of the same size: it has the bytes of the footer and of the row groups that
were read, at their places, and is read as the shard itself is, checksums included. A file beside it has a byte for
each row group that is complete. Nothing depends on the copies: what is missing, damaged or gone is read from
the bucket again, so no lock is needed.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurize.dataset.reader import Shard
from featurize.dataset.tables import refuse_other_schema
from featurize.errors import DatasetError
from featurize.io_errors import describe
from featurize.storage import StoragePath

_log = logging.getLogger(__name__)

_PREFIX = "earmark-rows-"
_READERS = 64  # threads; each waits for the bucket most of the time
_TAIL = 64 << 10  # bytes that are read for a footer, which has usually 10 to 40 kB
_MEASURED_EVERY = 256  # row groups; other processes may write to the same folder
_END = 8  # bytes after the footer: its length, and PAR1
_COMPLETE = b"\1"

Group = tuple[Shard, int]


@dataclasses.dataclass
class _Copy:
    """A shard on this machine.

    Attributes:
        shard: The copy, as a shard; only its `present` row groups can be read.
        original: The shard it is a copy of.
        ranges: First byte and number of bytes of each row group.
        present: Indices of the row groups that are in the copy.
        remote: The open original; None until a row group is missing.
    """

    shard: Shard
    original: Shard
    ranges: list[tuple[int, int]]
    present: set[int]
    remote: Any = None


class RowGroupCache:
    """Row groups of one dataset in a folder of this machine. It may be used from several threads and processes."""

    def __init__(self, folder: Path, limit: int, dataset: StoragePath) -> None:
        """Create the folder; make room by removing copies of other datasets, those not used for longest first.

        Args:
            folder: Folder of the copies of all datasets, on a disk of this machine.
            limit: Most bytes of all copies in it.
            dataset: Folder of the dataset.

        Raises:
            DatasetError: The folder cannot be written, or belongs to another user.
        """
        name = _PREFIX + hashlib.sha256(str(dataset).encode()).hexdigest()[:16]
        self._folder, self._limit = folder / name, limit
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if self._folder.lstat().st_uid != os.geteuid():
                raise PermissionError(f"{self._folder} belongs to another user")
            os.utime(self._folder)
            self._used = _make_room(self._folder, limit)
        except OSError as error:
            raise DatasetError(
                f"cannot keep rows in {folder}: {describe(error)}. Set train.cache to a folder on a disk of this "
                "machine that you can write."
            ) from error
        self._copies: dict[str, _Copy | None] = {}
        self._opening: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._copied = 0
        self._is_full = False
        self._readers = ThreadPoolExecutor(_READERS, "row-group-cache")

    def copies(self, groups: Sequence[Group]) -> list[Shard | None]:
        """Copy the row groups that are not here yet, each with one request.

        Returns:
            For each row group, the copy of its shard, which has it; None if it must be read from the dataset,
            because there is no room or because its shard is damaged.

        Raises:
            OSError, pyarrow.ArrowException: The dataset cannot be read.
        """
        return list(self._readers.map(self._copy, groups))

    def forget(self, groups: Sequence[Group]) -> None:
        """Remove the copies of the shards of some row groups, because one of them cannot be read."""
        for name in {shard.name for shard, _ in groups}:
            with self._lock:
                self._copies.pop(name, None)
            self._discard(name)

    def _copy(self, group: Group) -> Shard | None:
        shard, index = group
        copy = self._open(shard)
        if copy is None or index >= len(copy.ranges):
            return None
        if index in copy.present:
            return copy.shard
        start, length = copy.ranges[index]
        with self._lock:
            self._copied += 1
            if self._copied % _MEASURED_EVERY == 0:
                self._used = sum(map(_bytes_of, self._folder.parent.glob(f"{_PREFIX}*")))
            if self._used + length > self._limit:
                self._stop(f"has no room for more than {self._limit / 1e9:,.1f} GB (train.cache_gigabytes)")
            if self._is_full:
                return None
            self._used += length
        if copy.remote is None:
            copy.remote = _open_original(copy.original)
        content = copy.remote.read_at(length, start)
        if len(content) != length:
            return None  # the shard is cut off: reading it says so
        try:
            _write(copy.shard.path.path, content, start)
            _write(_marks(copy.shard.path.path), _COMPLETE, index)
        except OSError as error:
            with self._lock:
                self._stop(describe(error))
            return None
        copy.present.add(index)
        return copy.shard

    def _open(self, shard: Shard) -> _Copy | None:
        """Return the copy of a shard, which may have no row groups yet; None if there can be none."""
        with self._lock:
            opening = self._opening.setdefault(shard.name, threading.Lock())
        with opening:
            if shard.name not in self._copies:
                copy = self._found(shard) or self._begun(shard)
                with self._lock:
                    self._copies[shard.name] = copy
            return self._copies[shard.name]

    def _found(self, shard: Shard) -> _Copy | None:
        """Return the copy that an earlier training or another process has made; None if there is none."""
        path = self._place(shard.name)
        try:
            if os.path.getsize(path) != shard.size:
                raise ValueError
            marks = Path(_marks(path)).read_bytes()
            ranges = _ranges(pq.read_metadata(path), os.path.getsize(path), shard.format.schema)
        except (OSError, ValueError, pa.ArrowException):
            self._discard(shard.name)
            return None
        return self._described(
            shard, path, ranges, {i for i in range(len(marks)) if marks[i : i + 1] == _COMPLETE}
        )

    def _begun(self, shard: Shard) -> _Copy | None:
        """Copy the footer of a shard."""
        remote = _open_original(shard)
        size = remote.size()
        if size <= _END or (shard.size is not None and size != shard.size):
            return None  # it was replaced or cut off: reading it says so
        tail = remote.read_at(min(_TAIL, size), max(size - _TAIL, 0))
        length = int.from_bytes(tail[-_END:-4], "little") + _END
        if length > min(size, len(tail)):
            tail = remote.read_at(min(length, size), size - min(length, size))
        path = self._place(shard.name)
        try:
            _write(path, tail, size - len(tail))
            _write(_marks(path), b"", 0)
            ranges = _ranges(pq.read_metadata(path), size, shard.format.schema)
        except (OSError, ValueError, pa.ArrowException) as error:
            if isinstance(error, OSError):
                with self._lock:
                    self._stop(describe(error))
            return None
        copy = self._described(shard, path, ranges, set())
        copy.remote = remote
        return copy

    def _described(self, shard: Shard, path: str, ranges: list[tuple[int, int]], present: set[int]) -> _Copy:
        here = dataclasses.replace(shard, path=StoragePath.of(path), size=os.path.getsize(path))
        return _Copy(here, shard, ranges, present)

    def _place(self, name: str) -> str:
        """Return the path of the copy of a shard, whose name has a folder of its fold."""
        return str(self._folder / name.replace("/", "-"))

    def _discard(self, name: str) -> None:
        for path in (self._place(name), _marks(self._place(name))):
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _stop(self, why: str) -> None:
        """Keep no further row groups; the lock is held by the caller."""
        if not self._is_full:
            self._is_full = True
            _log.warning(
                "%s: %s. Rows that are not in it are read from the dataset in each epoch.", self._folder, why
            )


def _marks(path: str) -> str:
    """Return the file that says which row groups of a copy are complete."""
    return f"{path}.groups"


def _open_original(shard: Shard) -> Any:
    return shard.path.filesystem.open_input_file(shard.path.path)


def _ranges(metadata: pq.FileMetaData, size: int, schema: pa.Schema) -> list[tuple[int, int]]:
    """Return the first byte and the number of bytes of each row group of a file of `size` bytes.

    Raises:
        ValueError: The file has another schema, or a row group is not in it, or begins in no page.
    """
    # First, because the metadata of a column may end the process if a byte of its description is damaged.
    refuse_other_schema(metadata.schema.to_arrow_schema(), schema)
    ranges = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        columns = [group.column(number) for number in range(group.num_columns)]
        starts = [
            min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
            for column in columns
        ]
        ends = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
        if not 0 <= min(starts) < max(ends) <= size:
            raise ValueError("a row group that is not in the file")
        ranges.append((min(starts), max(ends) - min(starts)))
    return ranges


def _write(path: str, content: bytes, offset: int) -> None:
    """Write a part of a file, which need not exist and is not shortened."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(content)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(descriptor)


def _make_room(own: Path, limit: int) -> int:
    """Remove folders of other datasets until all have at most half of the limit; return the bytes that remain.

    Half, because the copy of this dataset grows.
    """
    used = _bytes_of(own)
    others = [other for other in own.parent.glob(f"{_PREFIX}*") if other != own and other.is_dir()]
    for other in sorted(others, key=lambda folder: folder.lstat().st_mtime, reverse=True):
        size = _bytes_of(other)
        if used + size > limit // 2:
            shutil.rmtree(other, ignore_errors=True)
        else:
            used += size
    return used


def _bytes_of(folder: Path) -> int:
    """Return the bytes that the files of a folder take on the disk; those of removed files are not counted."""
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += file.lstat().st_blocks * 512
    return total
