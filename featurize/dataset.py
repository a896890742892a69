"""The dataset on disk: its schemas, its names, and the way back into memory.

    features/
      dataset.json         classes, settings, counts, statistics; written last, so its presence means "complete"
      tracks.parquet       every track: id, label, group, fold, size, its shard; written first, it is the plan
      rejects.parquet      the tracks without rows: id, stage, reason, message
      duplicates.parquet   tracks whose rows are the same to the bit: digest, id, label, fold
      music.json           where the music was: the folder that the tracks' ids begin at
      shards/fold=K/part-NNNNN-<fingerprint>.parquet

A row of a shard is one segment. A track has exactly `segments_per_track` rows, in order and never divided over
two row groups. `mfcc` is fixed-size binary: little-endian float32, coefficient by coefficient, the shape in the
field's metadata. Arrow reads it five times as fast as a fixed-size list of floats.
"""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.errors import FeaturizeError
from featurize.music import find_music
from featurize.storage import StoragePath, describe

FORMAT_VERSION = 3
FOLDS = 5
MFCC_SHAPE = (40, 217)
TRACKS_PER_ROW_GROUP = 8

SHARD_SCHEMA = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("start", pa.float64(), nullable=False, metadata={"unit": "seconds"}),
        pa.field(
            "mfcc",
            pa.binary(MFCC_SHAPE[0] * MFCC_SHAPE[1] * 4),
            nullable=False,
            metadata={"dtype": "<f4", "shape": json.dumps(MFCC_SHAPE), "axes": '["coefficient", "frame"]'},
        ),
    ]
)
TRACKS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("track", "label", "group")]
    + [
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("shard", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
)
REJECTS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("path", "stage", "reason", "message")]
)

DUPLICATES_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("digest", "track", "label")]
    + [pa.field("fold", pa.int32(), nullable=False)]
)

_SHARD_NAME = re.compile(r"fold=(\d+)/part-(\d{5,})-[0-9a-f]{16}\.parquet")
FOOTER_KEY = b"earmark"
UNREADABLE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError)  # what reading a broken shard raises
_ROW_GROUPS_AHEAD = 16
_LARGEST_GROUP = 1 << 20  # rows; a row group comes as one batch
_READERS = 16  # each mostly waits for its disk or network

Item = TypeVar("Item")
Result = TypeVar("Result")


class DatasetError(FeaturizeError):
    """A folder that is not a complete dataset of this format; the message names the files."""


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


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A complete dataset, checked against its own list of shards.

    Attributes:
        folder: where it lies.
        info: what `dataset.json` says.
        shards: in the order of their names.
    """

    folder: StoragePath
    info: dict[str, Any]
    shards: list[Shard]

    @property
    def classes(self) -> list[str]:
        """The class names; a row's `label` is an index into them."""
        return list(self.info["classes"])

    @property
    def segments_per_track(self) -> int:
        """How many consecutive rows each track has."""
        return int(self.info["settings"]["segments_per_track"])

    @property
    def id(self) -> str:
        """The fingerprint of the whole: another collection or other settings have another."""
        return str(self.info["id"])

    def in_folds(self, folds: set[int]) -> list[Shard]:
        """Return the shards of some folds, without those that hold no rows."""
        return [shard for shard in self.shards if shard.fold in folds and shard.rows]

    def tracks(self) -> pa.Table:
        """Return every track of the collection, by TRACKS_SCHEMA."""
        return _read_table(self.folder / "tracks.parquet")

    def rejects(self) -> pa.Table:
        """Return the tracks without rows, by REJECTS_SCHEMA."""
        return _read_table(self.folder / "rejects.parquet")

    def duplicates(self) -> pa.Table:
        """Return the tracks that share their rows to the bit with another one, by DUPLICATES_SCHEMA."""
        return _read_table(self.folder / "duplicates.parquet")

    def music(self) -> StoragePath | None:
        """Return the folder that the tracks' ids begin at; None where it is no longer there."""
        return find_music(self.folder)

    def copies_across(self, fold: int) -> set[str]:
        """Return the tracks of a fold that have their very rows in another fold, too."""
        copies = self.duplicates().select(["digest", "track", "fold"])
        here = copies.filter(pc.equal(copies["fold"], fold))
        elsewhere = copies.filter(pc.not_equal(copies["fold"], fold))["digest"].combine_chunks()
        return set(here.filter(pc.is_in(here["digest"], value_set=elsewhere))["track"].to_pylist())


def open_dataset(folder: str | os.PathLike[str] | StoragePath) -> Dataset:
    """Open a dataset and check that its shards are all there, whole, and its own.

    Args:
        folder: a path or a `pyarrow.fs` URI.

    Raises:
        DatasetError: there is no dataset, it is of another format, or shards are missing, broken, foreign or
            made with other settings.
    """
    folder = StoragePath.of(folder)
    info = read_info(folder)
    if info is None:
        raise DatasetError(
            f"{folder} holds no finished dataset: dataset.json is missing. "
            f"Type: earmark featurize MUSIC --out {folder}"
        )
    names = list_shards(folder)
    try:
        listed = set(_read_table(folder / "tracks.parquet", ["shard"])["shard"].unique().to_pylist())
    except UNREADABLE as error:
        raise DatasetError(
            f"{folder / 'tracks.parquet'} is missing or broken: {error}. "
            f"Type: earmark featurize MUSIC --out {folder}"
        ) from error
    problems = [f"{name} is missing" for name in sorted(listed - names)]
    problems += [f"{name} does not belong to this dataset" for name in sorted(names - listed)]
    shards = []
    for found in in_threads(lambda name: _open_shard(folder, name, info["settings"]), sorted(names & listed)):
        if isinstance(found, Shard):
            shards.append(found)
        else:
            problems.append(found)
    if problems:
        more = f"\n  ... and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DatasetError(
            f"{folder} is not a whole dataset:\n"
            + "\n".join(f"  - {line}" for line in problems[:10])
            + more
            + f"\nDelete what is broken or foreign, then type: earmark featurize MUSIC --out {folder}"
        )
    return Dataset(folder, info, shards)


def read_info(folder: StoragePath) -> dict[str, Any] | None:
    """Return the content of `dataset.json`, None where there is none.

    Raises:
        DatasetError: it cannot be read, or is of another format.
    """
    place = folder / "dataset.json"
    try:
        info = json.loads(place.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DatasetError(f"cannot read {place}: {describe(error)}.") from error
    except ValueError as error:
        raise DatasetError(f"{place} is not JSON: {error}. Featurize again.") from error
    found_version = info.get("format") if isinstance(info, dict) else None
    if found_version != FORMAT_VERSION:
        raise DatasetError(
            f"{folder} has format {found_version}; this Earmark reads {FORMAT_VERSION}. Featurize again."
        )
    return dict(info)


def _open_shard(folder: StoragePath, name: str, settings: dict[str, Any]) -> Shard | str:
    """Return a shard, or what is wrong with it."""
    place = folder / "shards" / name
    try:
        metadata = pq.read_metadata(place.path, **place.arrow)
        found = json.loads(metadata.metadata[FOOTER_KEY])["settings"]
    except UNREADABLE as error:
        return f"{name} is broken: {error}"
    if found != settings:
        differ = ", ".join(
            f"{key} {found.get(key)!r}, expected {settings.get(key)!r}"
            for key in sorted(found.keys() | settings.keys())
            if found.get(key) != settings.get(key)
        )
        return f"{name} was made with other settings: {differ}"
    return Shard(
        name, place, fold_of(name), tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    )


def shard_name(fold: int, index: int, fingerprint: str) -> str:
    """Name a shard below `shards/`; the fold is a hive partition."""
    return f"fold={fold}/part-{index:05d}-{fingerprint}.parquet"


def part_of(name: str) -> tuple[int, int]:
    """Return the fold, and the index in it, that a shard's name gives."""
    match = _SHARD_NAME.fullmatch(name)
    if not match:
        raise DatasetError(f"{name} is not the name of a shard")
    return int(match[1]), int(match[2])


def fold_of(name: str) -> int:
    """Return the fold that a shard's name gives."""
    return part_of(name)[0]


def list_shards(folder: str | os.PathLike[str] | StoragePath) -> set[str]:
    """Return the names of the finished shards in a dataset folder: one listing, no file is opened."""
    return {name for name, _ in (StoragePath.of(folder) / "shards").files() if _SHARD_NAME.fullmatch(name)}


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterable[Result]:
    """Read many small files side by side; the results come in order."""
    with ThreadPoolExecutor(_READERS) as readers:
        yield from readers.map(function, items)


def read_footer(place: StoragePath) -> Any:
    """Return what a `ShardWriter` put into the footer; only the end of the file is read."""
    return json.loads(pq.read_metadata(place.path, **place.arrow).metadata[FOOTER_KEY])


def rejects_of(folder: StoragePath, name: str) -> list[dict[str, str]] | None:
    """Return the tracks that a shard rejects, None where the shard cannot be read."""
    try:
        return list(read_footer(folder / "shards" / name)["rejects"])
    except UNREADABLE:
        return None


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


def mfcc_array(column: pa.ChunkedArray | pa.Array) -> NDArray[np.float32]:
    """Return a column of MFCC as float32 [rows, 40, 217], a view of Arrow's memory where that is in one piece."""
    chunk = column
    if isinstance(column, pa.ChunkedArray):
        chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    numbers = np.frombuffer(chunk.buffers()[1], "<f4").reshape(-1, *MFCC_SHAPE)
    return numbers[chunk.offset : chunk.offset + len(chunk)]


def mfcc_column(mfcc: NDArray[np.float32]) -> pa.Array:
    """Return float32 [rows, 40, 217] as a column of SHARD_SCHEMA."""
    content = pa.py_buffer(np.ascontiguousarray(mfcc, "<f4"))
    return pa.Array.from_buffers(SHARD_SCHEMA.field("mfcc").type, len(mfcc), [None, content])


def read_track_ids(shard: Shard, segments_per_track: int) -> list[str]:
    """Return the ids of a shard's tracks in the order of their rows."""
    column = _read_table(shard.place, ["track"])["track"]
    return [str(track) for track in column.to_pylist()[::segments_per_track]]


def read_segments(shards: Sequence[Shard]) -> pa.Table:
    """Return `track`, `label`, `segment` and `start` of all rows of some shards, in their order."""
    names = [name for name in SHARD_SCHEMA.names if name != "mfcc"]
    return pa.concat_tables(in_threads(lambda shard: _read_table(shard.place, names), shards))


def read_labels(shard: Shard, segments_per_track: int) -> NDArray[np.int32]:
    """Return the labels of a shard's tracks, int32 [tracks], in the order of their rows."""
    labels: NDArray[np.int32] = _read_table(shard.place, ["label"])["label"].to_numpy()[::segments_per_track]
    return labels


def _read_table(place: StoragePath, columns: list[str] | None = None) -> pa.Table:
    # The file itself and not its path: the folder called fold=K above it is none of its columns.
    return pq.ParquetFile(place.path, **place.arrow).read(columns)
