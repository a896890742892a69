"""Open a complete dataset, check its shards, and read its tables."""

import dataclasses
import os
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from featurize.dataset.advice import how_to_featurize
from featurize.dataset.info import DatasetInfo, FoldLayout, read_info
from featurize.dataset.music_root import find_music
from featurize.dataset.reader import UNREADABLE, Shard, in_threads, shard_sizes
from featurize.dataset.schema import (
    DUPLICATES_SCHEMA,
    REJECTS_SCHEMA,
    TRACKS_SCHEMA,
    fold_of,
)
from featurize.dataset.shard_table import NAME as MANIFEST
from featurize.dataset.shard_table import read_record, read_to_open, row_group_sizes
from featurize.dataset.tables import MOST_BYTES, MOST_PLAN_BYTES, read_table
from featurize.display import one_line
from featurize.errors import DatasetError
from featurize.storage import StoragePath, describe, refuse_undecodable


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A complete dataset whose shards match the list in `shards.parquet`.

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

    def refuse_broken_tracks(self) -> None:
        """Check that the table of all tracks can be read; training needs it at its end only.

        Raises:
            DatasetError: `tracks.parquet` is missing or broken.
        """
        _read_table(self.folder, "tracks.parquet", TRACKS_SCHEMA, ["fold"])

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
    """Open a dataset and check that every shard exists, has its size, and belongs to it.

    Reads `dataset.json`, `shards.parquet` and one listing of the shards, whose footers are read only if there is
    something wrong with them, or no `shards.parquet`. Damage inside of a shard is found when it is read.

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
    listed = _listed(folder, info)
    problems = [f"{one_line(name)} is missing" for name in sorted(listed.keys() - sizes.keys())]
    problems += [f"{name} does not belong to this dataset" for name in sorted(sizes.keys() - listed.keys())]
    # A shard of another size is broken, or replaced; its footer says more than its size does.
    changed = sorted(name for name in listed.keys() & sizes.keys() if listed[name].size != sizes[name])
    for opened in in_threads(lambda name: _open_shard(folder, name, sizes[name], info), changed):
        if isinstance(opened, str):
            problems.append(opened)
        elif (expected := listed[opened.name].size) is not None:
            problems.append(f"{opened.name} has {opened.size:,} bytes, expected {expected:,}")
        else:
            listed[opened.name] = opened
    if problems:
        more = f"\n  ... and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DatasetError(
            f"{folder} is not a complete dataset:\n"
            + "\n".join(f"  - {line}" for line in problems[:10])
            + more
            + "\nDelete the shards that are broken or do not belong here, then type: "
            f"earmark featurize MUSIC --out {folder.quoted}"
        )
    return Dataset(folder, info, [listed[name] for name in sorted(listed)])


def _listed(folder: StoragePath, info: DatasetInfo) -> dict[str, Shard]:
    """Return the shards that a dataset has according to its manifest, by name.

    A dataset of an earlier version has no manifest. Its shards are those of the plan, without sizes: they have to
    be opened. The next `featurize` writes the manifest.

    Raises:
        DatasetError: The manifest is broken, or not that of the dataset.
    """
    shards, classes = folder / "shards", len(info.classes)
    try:
        table = read_to_open(folder, info)
    except FileNotFoundError:
        names = _read_table(folder, "tracks.parquet", TRACKS_SCHEMA, ["shard"])["shard"].unique().to_pylist()
        return {name: _unopened(folder, name, info) for name in names}
    except UNREADABLE as error:
        raise _broken_table(folder, MANIFEST, error) from error
    groups, bounds = row_group_sizes(table)
    form = info.settings.format
    columns = (table[name].to_pylist() for name in ("name", "fold", "bytes"))
    rows, ends = groups.tolist(), bounds.tolist()
    return {
        name: Shard(name, shards.below(name), fold, tuple(rows[ends[i] : ends[i + 1]]), classes, size, format=form)
        for i, (name, fold, size) in enumerate(zip(*columns, strict=True))
    }


def _unopened(folder: StoragePath, name: str, info: DatasetInfo) -> Shard:
    """Return a shard of a plan, of which neither size nor rows are known."""
    path = dataclasses.replace(folder, path=f"{folder.path}/shards/{name}")
    return Shard(name, path, -1, (), len(info.classes), None, format=info.settings.format)


def _read_table(folder: StoragePath, name: str, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Read one of the dataset's tables.

    Raises:
        DatasetError: The file is missing, broken, too large, or has another schema.
    """
    try:
        return read_table(
            folder / name, columns, schema, MOST_PLAN_BYTES if schema is TRACKS_SCHEMA else MOST_BYTES
        )
    except UNREADABLE as error:
        raise _broken_table(folder, name, error) from error


def _broken_table(folder: StoragePath, name: str, error: Exception) -> DatasetError:
    why = describe(error) if isinstance(error, OSError) else (str(error).splitlines() or [""])[0].rstrip(".")
    return DatasetError(f"{folder / name} is missing or broken: {why}. {how_to_featurize(folder)}")


def _open_shard(folder: StoragePath, name: str, size: int, info: DatasetInfo) -> Shard | str:
    """Return a shard, or a description of what is wrong with it. Reads only the end of the file."""
    path = folder / "shards" / name
    found = read_record(path, name, size, info.settings)
    if isinstance(found, str):
        return found
    return Shard(name, path, fold_of(name), found.row_groups, len(info.classes), size, format=info.settings.format)
