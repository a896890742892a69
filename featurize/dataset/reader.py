"""Read shards: names, row groups, and the columns other than the features."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.dataset.schema import SHARD_NAME, SHARD_SCHEMA, mfcc_array
from featurize.dataset.tables import read_table
from featurize.storage import StoragePath

UNREADABLE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)  # raised when a broken shard is read
_ROW_GROUPS_AHEAD = 16
_LARGEST_GROUP = 1 << 20  # rows; a row group is read as one batch
_READERS = 16  # threads; each mostly waits for disk or network

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard file.

    Attributes:
        name: File name below `shards/`.
        path: Path of the file.
        fold: Fold of all its tracks.
        row_groups: Number of rows of each row group.
    """

    name: str
    path: StoragePath
    fold: int
    row_groups: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Number of rows, which are segments."""
        return sum(self.row_groups)


def list_shards(folder: str | os.PathLike[str] | StoragePath) -> set[str]:
    """Return the names of the finished shards in a dataset folder. Lists the folder without opening files."""
    return {name for name, _ in (StoragePath.of(folder) / "shards").files() if SHARD_NAME.fullmatch(name)}


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[Result]:
    """Call a function on each item in a thread pool, for many small reads; yield the results in order."""
    with ThreadPoolExecutor(_READERS) as readers:
        yield from readers.map(function, items)


def read_row_group(shard: Shard, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Read one row group.

    Returns:
        MFCC, float32 [rows, 40, 217], a view of Arrow's memory; and labels, int32 [rows].
    """
    table = pq.ParquetFile(shard.path.path, **shard.path.arrow).read_row_group(
        index, columns=["label", "mfcc"], use_threads=False
    )
    return mfcc_array(table["mfcc"]), table["label"].to_numpy()


def read_row_groups(
    groups: Sequence[tuple[Shard, int]],
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Read row groups with Arrow's threads and read-ahead; yield each as `read_row_group` returns it.

    Arrow scans all row groups in one call because Python threads would compete for the interpreter lock.
    """
    parquet = pads.ParquetFileFormat()
    filesystem = groups[0][0].path.arrow["filesystem"]
    fragments = [parquet.make_fragment(shard.path.path, filesystem, row_groups=[index]) for shard, index in groups]
    scanner = pads.FileSystemDataset(fragments, SHARD_SCHEMA, parquet, filesystem).scanner(
        columns=["label", "mfcc"],
        fragment_readahead=_ROW_GROUPS_AHEAD,
        batch_readahead=1,
        batch_size=_LARGEST_GROUP,
    )
    for batch in scanner.to_batches():
        if len(batch):
            yield mfcc_array(batch["mfcc"]), batch["label"].to_numpy()


def read_track_ids(shard: Shard, segments_per_track: int) -> list[str]:
    """Return the track ids of a shard, in row order."""
    column = read_table(shard.path, ["track"])["track"]
    return [str(track) for track in column.to_pylist()[::segments_per_track]]


def read_segments(shards: Sequence[Shard]) -> pa.Table:
    """Return the columns `track`, `label`, `segment` and `start` of all rows of some shards, in order."""
    names = [name for name in SHARD_SCHEMA.names if name != "mfcc"]
    return pa.concat_tables(in_threads(lambda shard: read_table(shard.path, names), shards))


def read_labels(shard: Shard, segments_per_track: int) -> NDArray[np.int32]:
    """Return the label of each track of a shard, int32 [tracks], in row order."""
    labels: NDArray[np.int32] = read_table(shard.path, ["label"])["label"].to_numpy()[::segments_per_track]
    return labels
