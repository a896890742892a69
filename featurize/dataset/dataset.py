"""A finished dataset: opened, checked against its own list of shards, and asked for its tracks."""

import dataclasses
import os
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurize.dataset.footer import parse_footer
from featurize.dataset.info import DatasetInfo, read_info
from featurize.dataset.music_root import find_music
from featurize.dataset.reader import UNREADABLE, Shard, in_threads, list_shards
from featurize.dataset.schema import fold_of
from featurize.dataset.tables import read_table
from featurize.errors import DatasetError
from featurize.storage import StoragePath


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A complete dataset, checked against its own list of shards.

    Attributes:
        folder: where it lies.
        info: Content of `dataset.json`.
        shards: in the order of their names.
    """

    folder: StoragePath
    info: DatasetInfo
    shards: list[Shard]

    @property
    def classes(self) -> list[str]:
        """The class names; a row's `label` is an index into them."""
        return self.info.classes

    @property
    def segments_per_track(self) -> int:
        """How many consecutive rows each track has."""
        return self.info.settings.segments_per_track

    @property
    def id(self) -> str:
        """The fingerprint of the whole: another collection or other settings have another."""
        return self.info.id

    def in_folds(self, folds: set[int]) -> list[Shard]:
        """Return the shards of some folds, without those that hold no rows."""
        return [shard for shard in self.shards if shard.fold in folds and shard.rows]

    def tracks(self) -> pa.Table:
        """Return every track of the collection, by TRACKS_SCHEMA."""
        return read_table(self.folder / "tracks.parquet")

    def rejects(self) -> pa.Table:
        """Return the tracks without rows, by REJECTS_SCHEMA."""
        return read_table(self.folder / "rejects.parquet")

    def duplicates(self) -> pa.Table:
        """Return the tracks that share their rows to the bit with another one, by DUPLICATES_SCHEMA."""
        return read_table(self.folder / "duplicates.parquet")

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
    names, settings = list_shards(folder), info.settings.model_dump()
    try:
        listed = set(read_table(folder / "tracks.parquet", ["shard"])["shard"].unique().to_pylist())
    except UNREADABLE as error:
        raise DatasetError(
            f"{folder / 'tracks.parquet'} is missing or broken: {error}. "
            f"Type: earmark featurize MUSIC --out {folder}"
        ) from error
    problems = [f"{name} is missing" for name in sorted(listed - names)]
    problems += [f"{name} does not belong to this dataset" for name in sorted(names - listed)]
    shards = []
    for found in in_threads(lambda name: _open_shard(folder, name, settings), sorted(names & listed)):
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


def _open_shard(folder: StoragePath, name: str, settings: dict[str, Any]) -> Shard | str:
    """Return a shard, or what is wrong with it."""
    place = folder / "shards" / name
    try:
        metadata = pq.read_metadata(place.path, **place.arrow)
        found = parse_footer(metadata).settings
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
