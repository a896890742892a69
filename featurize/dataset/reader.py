"""Reading shards: names, row groups, and the columns beside the features."""

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

UNREADABLE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)  # what reading a broken shard raises
_ROW_GROUPS_AHEAD = 16
_LARGEST_GROUP = 1 << 20  # rows; a row group comes as one batch
_READERS = 16  # each mostly waits for its disk or network

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard file: its name below `shards/`, its place, its fold, and the rows of each row group."""

    name: str
    place: StoragePath
    fold: int
    row_groups: tuple[int, ...]

    @property
    def rows(self) -> int:
        """The number of segments in the shard."""
        return sum(self.row_groups)


def list_shards(folder: str | os.PathLike[str] | StoragePath) -> set[str]:
    """Return the names of the finished shards in a dataset folder: one listing, no file is opened."""
    return {name for name, _ in (StoragePath.of(folder) / "shards").files() if SHARD_NAME.fullmatch(name)}


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[Result]:
    """Read many small files side by side; the results come in order."""
    with ThreadPoolExecutor(_READERS) as readers:
        yield from readers.map(function, items)


def read_row_group(shard: Shard, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Read one row group.

    Returns:
        float32 [rows, 40, 217], the MFCC, a view of Arrow's memory; and int32 [rows], the labels.
    """
    table = pq.ParquetFile(shard.place.path, **shard.place.arrow).read_row_group(
        index, columns=["label", "mfcc"], use_threads=False
    )
    return mfcc_array(table["mfcc"]), table["label"].to_numpy()


def read_row_groups(
    groups: Sequence[tuple[Shard, int]],
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Read many row groups, a few ahead, on all of Arrow's threads; each as `read_row_group` returns it.

    One call of Arrow's for all of them: threads of our own would spend their time on waiting for the interpreter.
    """
    parquet = pads.ParquetFileFormat()
    filesystem = groups[0][0].place.arrow["filesystem"]
    fragments = [
        parquet.make_fragment(shard.place.path, filesystem, row_groups=[index]) for shard, index in groups
    ]
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
    """Return the ids of a shard's tracks in the order of their rows."""
    column = read_table(shard.place, ["track"])["track"]
    return [str(track) for track in column.to_pylist()[::segments_per_track]]


def read_segments(shards: Sequence[Shard]) -> pa.Table:
    """Return `track`, `label`, `segment` and `start` of all rows of some shards, in their order."""
    names = [name for name in SHARD_SCHEMA.names if name != "mfcc"]
    return pa.concat_tables(in_threads(lambda shard: read_table(shard.place, names), shards))


def read_labels(shard: Shard, segments_per_track: int) -> NDArray[np.int32]:
    """Return the labels of a shard's tracks, int32 [tracks], in the order of their rows."""
    labels: NDArray[np.int32] = read_table(shard.place, ["label"])["label"].to_numpy()[::segments_per_track]
    return labels
