"""Open a complete dataset, check its shards, and read its tables."""

import dataclasses
import os
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurize.dataset.advice import how_to_featurize
from featurize.dataset.footer import parse_footer
from featurize.dataset.info import DatasetInfo, FoldLayout, read_info
from featurize.dataset.music_root import find_music
from featurize.dataset.reader import UNREADABLE, Shard, in_threads, shard_sizes
from featurize.dataset.schema import (
    DUPLICATES_SCHEMA,
    LARGEST_ROW,
    REJECTS_SCHEMA,
    SHARD_SCHEMA,
    TRACKS_PER_ROW_GROUP,
    TRACKS_SCHEMA,
    fold_of,
)
from featurize.dataset.tables import read_table, refuse_other_schema
from featurize.display import one_line
from featurize.errors import DatasetError
from featurize.storage import StoragePath, describe, refuse_undecodable

_PAGE_HEADERS = 1 << 20


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

    @property
    def layout(self) -> FoldLayout:
        """What the folds are for: training, or an official split."""
        return self.info.layout

    def in_folds(self, folds: Collection[int]) -> list[Shard]:
        """Return the shards of the given folds, except shards without rows."""
        return [shard for shard in self.shards if shard.fold in folds and shard.rows]

    def tracks(self) -> pa.Table:
        """Return all tracks of the collection, with TRACKS_SCHEMA."""
        return _read_table(self.folder, "tracks.parquet", TRACKS_SCHEMA)

    def rejects(self) -> pa.Table:
        """Return the rejected tracks, with REJECTS_SCHEMA."""
        return _read_table(self.folder, "rejects.parquet", REJECTS_SCHEMA)

    def duplicates(self) -> pa.Table:
        """Return the tracks whose rows are bit-identical to those of another track, with DUPLICATES_SCHEMA."""
        return _read_table(self.folder, "duplicates.parquet", DUPLICATES_SCHEMA)

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
    refuse_undecodable(folder)
    info = read_info(folder)
    if info is None:
        found = "is a file" if folder.is_file() else "holds no finished dataset: dataset.json is missing"
        found = found if folder.is_file() or folder.is_folder() else "does not exist"
        raise DatasetError(f"{folder} {found}. {how_to_featurize(folder)}")
    sizes = shard_sizes(folder)
    names = sizes.keys()
    listed = set(_read_table(folder, "tracks.parquet", TRACKS_SCHEMA, ["shard"])["shard"].unique().to_pylist())
    problems = [f"{one_line(name)} is missing" for name in sorted(listed - names)]
    problems += [f"{name} does not belong to this dataset" for name in sorted(names - listed)]
    shards = []
    for shard in in_threads(lambda name: _open_shard(folder, name, sizes[name], info), sorted(names & listed)):
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
            f"earmark featurize MUSIC --out {folder.quoted}"
        )
    return Dataset(folder, info, shards)


def _read_table(folder: StoragePath, name: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read one of the dataset's tables.

    Raises:
        DatasetError: The file is missing, broken, too large, or has another schema.
    """
    try:
        return read_table(folder / name, columns, schema)
    except UNREADABLE as error:
        why = describe(error) if isinstance(error, OSError) else str(error).splitlines()[0].rstrip(".")
        raise DatasetError(f"{folder / name} is missing or broken: {why}. {how_to_featurize(folder)}") from error


def _open_shard(folder: StoragePath, name: str, size: int, info: DatasetInfo) -> Shard | str:
    """Return a shard, or a description of what is wrong with it. Reads only the end of the file."""
    path, settings = folder / "shards" / name, info.settings.model_dump()
    try:
        metadata = pq.read_metadata(path.path, **path.arrow)
        refuse_other_schema(metadata.schema.to_arrow_schema(), SHARD_SCHEMA)
        footer = parse_footer(metadata)
        stored = footer.settings
    except UNREADABLE as error:
        return f"{name} is broken: {describe(error) if isinstance(error, OSError) else one_line(error)}"
    if stored != settings:
        differ = ", ".join(
            f"{one_line(key)} {stored.get(key)!r}, expected {settings.get(key)!r}"
            for key in sorted(stored.keys() | settings.keys())
            if stored.get(key) != settings.get(key)
        )
        return f"{name} was made with other settings: {differ}"
    segments = info.settings.segments_per_track
    if problem := _wrong_size(metadata, len(footer.tracks.track), segments):
        return f"{name} is broken: {problem}"
    row_groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    return Shard(name, path, fold_of(name), row_groups, len(info.classes), size)


def _wrong_size(metadata: pq.FileMetaData, tracks: int, segments: int) -> str | None:
    """Return what is wrong with the sizes in the metadata of a shard, None if nothing is."""
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if metadata.num_rows != tracks * segments or sum(rows) != metadata.num_rows:
        return f"it has {metadata.num_rows} rows, expected {tracks} tracks of {segments} segments"
    if any(count % segments or not 0 < count <= TRACKS_PER_ROW_GROUP * segments for count in rows):
        return f"it has row groups that are not those of 1 to {TRACKS_PER_ROW_GROUP} tracks"
    for index, count in enumerate(rows):
        if metadata.row_group(index).total_byte_size > count * LARGEST_ROW + _PAGE_HEADERS:
            return f"row group {index} claims {metadata.row_group(index).total_byte_size:,} bytes"
    return None
