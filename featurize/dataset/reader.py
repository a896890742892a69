"""Read shards: names, row groups, and the columns other than the features."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.dataset.schema import SEGMENT_FIELDS, SHARD_NAME, SegmentFormat
from featurize.dataset.tables import MOST_BYTES, read_table
from featurize.errors import DatasetError
from featurize.storage import StoragePath, describe

# Raised when a broken file is read; the last for metadata that a hostile one claims to have.
UNREADABLE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError, OverflowError, MemoryError)
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
        classes: Number of classes; labels are below it.
        size: Size of the file in bytes; None if it is not known.
        format: How its features are stored.
    """

    name: str
    path: StoragePath
    fold: int
    row_groups: tuple[int, ...]
    classes: int = 1 << 31
    size: int | None = None
    format: SegmentFormat = dataclasses.field(kw_only=True)

    @property
    def rows(self) -> int:
        """Number of rows, which are segments."""
        return sum(self.row_groups)


def list_shards(folder: str | os.PathLike[str] | StoragePath) -> set[str]:
    """Return the names of the finished shards in a dataset folder. Lists the folder without opening files."""
    return set(shard_sizes(folder))


def shard_sizes(folder: str | os.PathLike[str] | StoragePath) -> dict[str, int]:
    """Return the size in bytes of each finished shard in a dataset folder, by name, as the listing has them."""
    return {name: size for name, size in (StoragePath.of(folder) / "shards").files() if SHARD_NAME.fullmatch(name)}


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[Result]:
    """Call a function on each item in a thread pool, for many small reads; yield the results in order."""
    with ThreadPoolExecutor(_READERS) as readers:
        yield from readers.map(function, items)


def read_row_group(shard: Shard, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Read one row group.

    Returns:
        Features, float32 [rows, features, frames], a view of Arrow's memory if they are stored as float32; and
        labels, int32 [rows].

    Raises:
        DatasetError: The shard was lost or damaged after the dataset was opened.
    """
    try:
        with pq.ParquetFile(shard.path.path, page_checksum_verification=True, **shard.path.arrow) as file:
            table = file.read_row_group(index, columns=["label", shard.format.column], use_threads=False)
        labels: NDArray[np.int32] = table["label"].to_numpy()
        refuse_other_rows(shard, index, labels)
        return shard.format.array(table[shard.format.column]), labels
    except UNREADABLE as error:
        raise unreadable_shard(shard, error) from error


def refuse_other_rows(shard: Shard, index: int, labels: NDArray[np.int32]) -> None:
    """Raise a ValueError if a row group has other rows than its footer says, or labels that are no class."""
    if len(labels) != shard.row_groups[index]:
        raise ValueError(f"row group {index} has {len(labels)} rows, its footer says {shard.row_groups[index]}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < shard.classes:
        raise ValueError(f"row group {index} has the label {labels.max()}, but there are {shard.classes} classes")


def unreadable_shard(shard: Shard, error: Exception) -> DatasetError:
    """Return the error for a shard that was there when its dataset was opened."""
    why = describe(error) if isinstance(error, OSError) else str(error).splitlines()[0].rstrip(".")
    folder = shard.path.parent.parent.parent
    return DatasetError(
        f"the shard {shard.path} cannot be read: {why}. It was lost or damaged; if it is there, delete it. Type: "
        f"earmark featurize MUSIC --out {folder.quoted}, which writes it again, then the same command as before."
    )


def read_track_ids(shard: Shard, segments_per_track: int) -> list[str]:
    """Return the track ids of a shard, in row order."""
    column = _read_columns(shard, ["track"])["track"]
    return [str(track) for track in column.to_pylist()[::segments_per_track]]


def read_segments(shards: Sequence[Shard]) -> pa.Table:
    """Return the columns `track`, `label`, `segment` and `start` of all rows of some shards, in order."""
    names = [field.name for field in SEGMENT_FIELDS]
    return pa.concat_tables(in_threads(lambda shard: _read_columns(shard, names), shards))


def read_labels(shard: Shard, segments_per_track: int) -> NDArray[np.int32]:
    """Return the label of each track of a shard, int32 [tracks], in row order."""
    labels: NDArray[np.int32] = _read_columns(shard, ["label"])["label"].to_numpy()[::segments_per_track]
    return labels


def _read_columns(shard: Shard, names: Sequence[str]) -> pa.Table:
    """Read columns of all rows of a shard; raise a DatasetError if it was lost or damaged."""
    try:
        table = read_table(
            shard.path, names, shard.format.schema, MOST_BYTES + shard.rows * shard.format.largest_row
        )
        if len(table) != shard.rows:
            raise ValueError(f"it has {len(table)} rows, expected {shard.rows}")
    except UNREADABLE as error:
        raise unreadable_shard(shard, error) from error
    return table
