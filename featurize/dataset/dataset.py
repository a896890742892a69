"""Open a complete dataset, check its shards, and read its tables."""

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
    """A complete dataset whose shards match the list in `tracks.parquet`.

    Attributes:
        folder: Dataset folder.
        info: Content of `dataset.json`.
        shards: Shards, sorted by name.
    """

    folder: StoragePath
    info: DatasetInfo
    shards: list[Shard]

    @property
    def classes(self) -> list[str]:
        """Class names; the `label` of a row is an index into this list."""
        return self.info.classes

    @property
    def segments_per_track(self) -> int:
        """Number of consecutive rows of each track."""
        return self.info.settings.segments_per_track

    @property
    def id(self) -> str:
        """Fingerprint of the dataset; it changes with the collection and the feature settings."""
        return self.info.id

    def in_folds(self, folds: set[int]) -> list[Shard]:
        """Return the shards of the given folds, except shards without rows."""
        return [shard for shard in self.shards if shard.fold in folds and shard.rows]

    def tracks(self) -> pa.Table:
        """Return all tracks of the collection, with TRACKS_SCHEMA."""
        return read_table(self.folder / "tracks.parquet")

    def rejects(self) -> pa.Table:
        """Return the rejected tracks, with REJECTS_SCHEMA."""
        return read_table(self.folder / "rejects.parquet")

    def duplicates(self) -> pa.Table:
        """Return the tracks whose rows are bit-identical to those of another track, with DUPLICATES_SCHEMA."""
        return read_table(self.folder / "duplicates.parquet")

    def music(self) -> StoragePath | None:
        """Return the root folder of the music, which track ids are relative to; None if it is gone."""
        return find_music(self.folder)

    def copies_across(self, fold: int) -> set[str]:
        """Return the ids of a fold's tracks that have an exact duplicate in another fold."""
        duplicates = self.duplicates().select(["digest", "track", "fold"])
        inside = duplicates.filter(pc.equal(duplicates["fold"], fold))
        outside = duplicates.filter(pc.not_equal(duplicates["fold"], fold))["digest"].combine_chunks()
        return set(inside.filter(pc.is_in(inside["digest"], value_set=outside))["track"].to_pylist())


def open_dataset(folder: str | os.PathLike[str] | StoragePath) -> Dataset:
    """Open a dataset and check that every shard exists, is intact, and belongs to it.

    Args:
        folder: Dataset folder; a path or a `pyarrow.fs` URI.

    Raises:
        DatasetError: The folder holds no complete dataset, the dataset has another format, or shards are missing,
            broken, foreign, or made with other settings.
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
    for shard in in_threads(lambda name: _open_shard(folder, name, settings), sorted(names & listed)):
        if isinstance(shard, Shard):
            shards.append(shard)
        else:
            problems.append(shard)
    if problems:
        more = f"\n  ... and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DatasetError(
            f"{folder} is not a complete dataset:\n"
            + "\n".join(f"  - {line}" for line in problems[:10])
            + more
            + "\nDelete the shards that are broken or do not belong here, then type: "
            f"earmark featurize MUSIC --out {folder}"
        )
    return Dataset(folder, info, shards)


def _open_shard(folder: StoragePath, name: str, settings: dict[str, Any]) -> Shard | str:
    """Return a shard, or a description of what is wrong with it."""
    path = folder / "shards" / name
    try:
        metadata = pq.read_metadata(path.path, **path.arrow)
        stored = parse_footer(metadata).settings
    except UNREADABLE as error:
        return f"{name} is broken: {error}"
    if stored != settings:
        differ = ", ".join(
            f"{key} {stored.get(key)!r}, expected {settings.get(key)!r}"
            for key in sorted(stored.keys() | settings.keys())
            if stored.get(key) != settings.get(key)
        )
        return f"{name} was made with other settings: {differ}"
    return Shard(
        name, path, fold_of(name), tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    )
