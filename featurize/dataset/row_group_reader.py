"""Read the features of many row groups; from a bucket, each with one request."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from numpy.typing import NDArray

from featurize.dataset.reader import (
    UNREADABLE,
    Shard,
    in_threads,
    read_row_group,
    refuse_other_rows,
    unreadable_shard,
)
from featurize.dataset.row_group_cache import Group, RowGroupCache
from featurize.errors import DatasetError

Rows = tuple[NDArray[np.floating], NDArray[np.int32]]

# Row groups that are read at once, 3.3 MB each with default settings; from a bucket a whole window, because each
# answer takes long.
_AHEAD, _AHEAD_REMOTE = 16, 48
_LARGEST_GROUP = 1 << 20  # rows; a row group is read as one batch
_SHARDS_OPEN = 4096  # about 30 kB of metadata each
_OPTIONS = pads.ParquetFragmentScanOptions(page_checksum_verification=True)


class RowGroupReader:
    """Reads row groups, and keeps the metadata of the shards that it has read from.

    Without it, each visit to a row group is three requests, one after another: the size of the file, its footer,
    and the columns. It may be used from several threads.
    """

    def __init__(self, cache: RowGroupCache | None = None) -> None:
        """Create a reader; nothing is opened yet.

        Args:
            cache: Copies on this machine, which are made and read instead of the dataset; None for no copies.
        """
        self._cache = cache
        self._format = pads.ParquetFileFormat(default_fragment_scan_options=_OPTIONS)
        self._open: OrderedDict[str, pads.ParquetFileFragment] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, groups: Sequence[Group]) -> Iterator[Rows]:
        """Read row groups with Arrow's threads and read-ahead.

        Arrow scans all row groups in one call because Python threads would compete for the interpreter lock.

        Args:
            groups: Shards of one dataset, and indices of row groups in them.

        Yields:
            For each row group, in order: features, [rows, features, frames], in the type in which they are
            stored, a view of Arrow's memory; and labels, int32 [rows].

        Raises:
            DatasetError: A shard was lost or damaged after the dataset was opened.
        """
        if self._cache is None:
            yield from self._read(groups)
            return
        try:
            copies = self._cache.copies(groups)
        except UNREADABLE as error:
            raise _unreadable_group(groups, error) from error
        of_copies = self._read_copies(groups, copies)
        of_dataset = self._read([group for group, copy in zip(groups, copies, strict=True) if copy is None])
        for copy in copies:
            yield next(of_copies if copy else of_dataset)

    def _read_copies(self, groups: Sequence[Group], copies: Sequence[Shard | None]) -> Iterator[Rows]:
        """Read the row groups that have a copy; from the dataset if a copy is damaged or was removed."""
        copied = [(group, (copy, group[1])) for group, copy in zip(groups, copies, strict=True) if copy]
        done = 0
        try:
            for rows in self._read([copy for _, copy in copied]):
                yield rows
                done += 1
        except DatasetError:
            originals = [group for group, _ in copied[done:]]
            if self._cache is not None:
                self._cache.forget(originals)
            yield from self._read(originals)

    def _read(self, groups: Sequence[Group]) -> Iterator[Rows]:
        """Read row groups from the files of their shards."""
        if not groups:
            return
        done, form = 0, groups[0][0].format
        try:
            for batch in self._scan(groups):
                labels: NDArray[np.int32] = batch["label"].to_numpy()
                refuse_other_rows(*groups[done], labels)
                yield form.stored_array(batch[form.column]), labels
                done += 1
            if done < len(groups):
                raise ValueError("it has too few rows")
        except UNREADABLE as error:
            with self._lock:
                self._open.clear()  # a shard that is written again has other metadata
            raise _unreadable_group(groups[done:] or groups[-1:], error) from error

    def _scan(self, groups: Sequence[Group]) -> Iterator[pa.RecordBatch]:
        """Yield the labels and features of row groups, a batch for each."""
        opened = self._fragments([shard for shard, _ in groups])
        fragments = [opened[shard.path.path].subset(row_group_ids=[index]) for shard, index in groups]
        place, form = groups[0][0].path, groups[0][0].format
        scanner = pads.FileSystemDataset(fragments, form.schema, self._format, place.filesystem).scanner(
            columns=["label", form.column],
            fragment_readahead=_AHEAD_REMOTE if place.scheme else _AHEAD,
            batch_readahead=1,
            batch_size=_LARGEST_GROUP,
        )
        yield from (batch for batch in scanner.to_batches() if len(batch))

    def _fragments(self, shards: Sequence[Shard]) -> dict[str, pads.ParquetFileFragment]:
        """Return the fragment of each shard by its path; read the footers of those that are not open."""
        by_path = {shard.path.path: shard for shard in shards}
        with self._lock:
            opened = {path: self._open[path] for path in by_path if path in self._open}
        new = [shard for path, shard in by_path.items() if path not in opened]
        opened |= {
            shard.path.path: fragment for shard, fragment in zip(new, in_threads(self._fragment, new), strict=True)
        }
        with self._lock:
            self._open |= opened
            for path in by_path:
                self._open.move_to_end(path)
            while len(self._open) > _SHARDS_OPEN:
                self._open.popitem(last=False)
        return opened

    def _fragment(self, shard: Shard) -> pads.ParquetFileFragment:
        fragment = self._format.make_fragment(shard.path.path, shard.path.filesystem, file_size=shard.size)
        fragment.ensure_complete_metadata()
        return fragment


def _unreadable_group(groups: Sequence[Group], error: Exception) -> DatasetError:
    """Return the error for the first of some row groups that cannot be read.

    Arrow reads ahead, and its message may not name the file.
    """
    for shard, index in groups:
        try:
            read_row_group(shard, index)
        except DatasetError as found:
            return found
    return unreadable_shard(groups[0][0], error)
