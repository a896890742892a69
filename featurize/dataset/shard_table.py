"""The manifest `shards.parquet`: a row for each shard, so that nobody opens a million files to use a dataset.

It may come from a stranger, so everything in it is checked before it is used. `row_groups` is binary and not a
list: a list of a billion equal numbers takes a few bytes in a Parquet file, and nothing limits what it decodes to.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.footer import RejectedTrack, ShardFooter, TrackRemark, parse_footer
from featurize.dataset.info import DatasetInfo
from featurize.dataset.reader import UNREADABLE
from featurize.dataset.schema import (
    FOLD_NUMBERS,
    SHARD_NAME,
    SHARDS_SCHEMA,
    TRACKS_PER_ROW_GROUP,
)
from featurize.dataset.tables import read_table, refuse_other_schema
from featurize.display import one_line
from featurize.storage import StoragePath, describe

NAME = "shards.parquet"
DIGEST_BYTES = 16
_TO_OPEN = ["name", "fold", "bytes", "row_groups", "rejects"]
_MOST_BYTES = 4 << 30  # decoded; the manifest of ten million tracks takes 0.3 GB
_PAGE_HEADERS = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class ShardRecord:
    """What is known of a finished shard without reading it.

    Attributes:
        size: Size of the file in bytes.
        row_groups: Number of rows of each row group.
        digests: Digests of the tracks with rows, 16 bytes each, in row order.
        sums: Sums over all frames, little-endian float64 [2, features]: of each feature, and of its square.
        rejects: Tracks without rows.
        remarks: Remarks on tracks with rows.
    """

    size: int
    row_groups: tuple[int, ...]
    digests: bytes
    sums: bytes
    rejects: tuple[RejectedTrack, ...] = ()
    remarks: tuple[TrackRemark, ...] = ()

    @classmethod
    def of(cls, footer: ShardFooter, row_groups: Sequence[int], size: int) -> "ShardRecord":
        """Return the record of a shard from its footer.

        Raises:
            ValueError: A digest in the footer is none.
        """
        digests = bytes.fromhex("".join(footer.tracks.digest))
        if any(len(digest) != 2 * DIGEST_BYTES for digest in footer.tracks.digest):
            raise ValueError("its footer has a digest of another length")
        sums = np.array([footer.statistics.sum, footer.statistics.sum_of_squares], "<f8").tobytes()
        return cls(size, tuple(row_groups), digests, sums, tuple(footer.rejects), tuple(footer.remarks))


def shard_table(names: Sequence[str], folds: Sequence[int], records: Sequence[ShardRecord]) -> pa.Table:
    """Return rows of the manifest, with SHARDS_SCHEMA."""
    columns = [
        names,
        folds,
        [record.size for record in records],
        [np.array(record.row_groups, "<i4").tobytes() for record in records],
        [len(record.rejects) for record in records],
        [len(record.remarks) for record in records],
        [record.digests for record in records],
        [record.sums for record in records],
    ]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, SHARDS_SCHEMA, strict=True)],
        schema=SHARDS_SCHEMA,
    )


def read_to_open(folder: StoragePath, info: DatasetInfo) -> pa.Table:
    """Read the columns of the manifest that opening a dataset needs, and check them.

    Returns:
        Columns `name`, `fold`, `bytes`, `row_groups` and `rejects`.

    Raises:
        UNREADABLE: The manifest is missing, broken, or not that of the dataset. A ValueError continues a sentence
            that begins with the name of the file.
    """
    table = read_table(folder / NAME, _TO_OPEN, SHARDS_SCHEMA, _MOST_BYTES)
    groups, _ = _checked(table, info.settings)
    rows, rejects = int(groups.sum()), int(pc.sum(table["rejects"].cast(pa.int64())).as_py() or 0)
    if rows != info.segments:
        raise ValueError(f"has {rows} rows in its shards, but dataset.json has {info.segments} segments")
    tracks = rows // info.settings.segments_per_track + rejects
    if tracks != info.tracks:
        raise ValueError(f"has {tracks} tracks in its shards, but dataset.json has {info.tracks}")
    return table


def read_records(folder: StoragePath, settings: FeatureSettings) -> dict[str, ShardRecord]:
    """Read what the manifest has on shards without rejects and remarks, whose records are complete in it.

    Returns:
        Records by name; none if the manifest is missing, broken, or of other settings.
    """
    try:
        table = read_table(folder / NAME, None, SHARDS_SCHEMA, _MOST_BYTES)
        _checked(table, settings)
        complete = pc.and_(pc.equal(table["rejects"], 0), pc.equal(table["remarks"], 0))
        return dict(_records(table.filter(complete)))
    except UNREADABLE:
        return {}


def read_all_records(folder: StoragePath, settings: FeatureSettings) -> dict[str, tuple[ShardRecord, int, int]]:
    """Read the whole manifest.

    Returns:
        By name: the record without its rejects and remarks, and their numbers.

    Raises:
        UNREADABLE: The manifest is missing or broken.
    """
    table = read_table(folder / NAME, None, SHARDS_SCHEMA, _MOST_BYTES)
    _checked(table, settings)
    counts = zip(table["rejects"].to_pylist(), table["remarks"].to_pylist(), strict=True)
    return {name: (record, *count) for (name, record), count in zip(_records(table), counts, strict=True)}


def read_record(path: StoragePath, name: str, size: int | None, settings: FeatureSettings) -> ShardRecord | str:
    """Read the footer of a shard; return its record, or a description of what is wrong with the shard.

    Args:
        path: Path of the shard.
        name: Its name.
        size: Size of the file in bytes, from a listing.
        settings: Feature settings that it must have.
    """
    stored = settings.model_dump()
    try:
        metadata = pq.read_metadata(path.path, **path.arrow)
        refuse_other_schema(metadata.schema.to_arrow_schema(), settings.format.schema)
        footer = parse_footer(metadata)
        found = footer.settings
        row_groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        record = ShardRecord.of(footer, row_groups, size or 0)
        if found == stored and len(footer.statistics.sum) != settings.features:
            raise ValueError(f"its footer has sums of {len(footer.statistics.sum)} features")
    except UNREADABLE as error:
        return f"{name} is broken: {describe(error) if isinstance(error, OSError) else one_line(error)}"
    if found != stored:
        differ = ", ".join(
            f"{one_line(key)} {found.get(key)!r}, expected {stored.get(key)!r}"
            for key in sorted(found.keys() | stored.keys())
            if found.get(key) != stored.get(key)
        )
        return f"{name} was made with other settings: {differ}"
    if problem := _wrong_size(metadata, len(footer.tracks.track), settings):
        return f"{name} is broken: {problem}"
    return record


def _wrong_size(metadata: pq.FileMetaData, tracks: int, settings: FeatureSettings) -> str | None:
    """Return what is wrong with the sizes in the metadata of a shard, None if nothing is."""
    segments, largest = settings.segments_per_track, settings.format.largest_row
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if metadata.num_rows != tracks * segments or sum(rows) != metadata.num_rows:
        return f"it has {metadata.num_rows} rows, expected {tracks} tracks of {segments} segments"
    if any(count % segments or not 0 < count <= TRACKS_PER_ROW_GROUP * segments for count in rows):
        return f"it has row groups that are not those of 1 to {TRACKS_PER_ROW_GROUP} tracks"
    for index, count in enumerate(rows):
        if metadata.row_group(index).total_byte_size > count * largest + _PAGE_HEADERS:
            return f"row group {index} claims {metadata.row_group(index).total_byte_size:,} bytes"
    return None


def row_group_sizes(table: pa.Table) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the rows of all row groups of a manifest, and which of them each shard has.

    Returns:
        int32 [row groups]; and bounds, int64 [shards + 1].

    Raises:
        ValueError: They are not 32-bit numbers.
    """
    column = table["row_groups"]
    lengths = pc.binary_length(column).to_numpy().astype(np.int64)
    if (lengths % 4).any():
        raise ValueError("has row groups that are not 32-bit numbers")
    groups = np.frombuffer(b"".join(column.to_pylist()), "<i4")
    return groups, np.concatenate([[0], np.cumsum(lengths // 4)])


def _checked(table: pa.Table, settings: FeatureSettings) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the row groups as `row_group_sizes` does; raise a ValueError if the manifest is none of Earmark's."""
    names: list[str] = table["name"].to_pylist()
    if len(set(names)) < len(names):
        raise ValueError("has a shard twice")
    for name, fold in zip(names, table["fold"].to_pylist(), strict=True):
        match = SHARD_NAME.fullmatch(name)
        if not match:
            raise ValueError(f"has {one_line(name)[:100]}, which is not the name of a shard")
        if int(match[1][:4]) != fold or not 0 <= fold < FOLD_NUMBERS:
            raise ValueError(f"has the fold {fold} for {one_line(name)[:100]}")
    for column, most in (("bytes", 1 << 53), ("rejects", 1 << 31), ("remarks", 1 << 31)):
        if column in table.column_names and len(table):
            numbers = pc.min_max(table[column]).as_py()
            if not 0 <= numbers["min"] <= numbers["max"] < most:
                raise ValueError(f"has {numbers['min']:,} to {numbers['max']:,} in the column {column}")
    groups, bounds = row_group_sizes(table)
    segments = settings.segments_per_track
    if ((groups <= 0) | (groups > TRACKS_PER_ROW_GROUP * segments) | (groups % segments != 0)).any():
        raise ValueError(f"has row groups that are not those of 1 to {TRACKS_PER_ROW_GROUP} tracks")
    if "digests" in table.column_names:
        rows = np.concatenate([[0], np.cumsum(groups, dtype=np.int64)])[bounds]
        lengths = pc.binary_length(table["digests"]).to_numpy()
        if (lengths != np.diff(rows) // segments * DIGEST_BYTES).any():
            raise ValueError("has digests of another number of tracks than it has rows")
        expected = 2 * settings.features * 8
        sums = [np.frombuffer(value, "<f8") for value in table["sums"].to_pylist() if len(value) == expected]
        if len(sums) < len(table) or not all(np.isfinite(value).all() for value in sums):
            raise ValueError(f"has sums that are not those of {settings.features} features")
    return groups, bounds


def _records(table: pa.Table) -> list[tuple[str, ShardRecord]]:
    groups, bounds = row_group_sizes(table)
    columns = (table[column].to_pylist() for column in ("name", "bytes", "digests", "sums"))
    return [
        (name, ShardRecord(size, tuple(groups[bounds[i] : bounds[i + 1]].tolist()), digests, sums))
        for i, (name, size, digests, sums) in enumerate(zip(*columns, strict=True))
    ]
