"""The dataset on disk: its schema, its names, whole files or none, and the way back into memory.

    features/
      dataset.json       classes, settings, counts, statistics; written last, so its presence means "complete"
      tracks.parquet     every track of the collection: id, label, group, fold, the shard it belongs to
      rejects.parquet    the tracks without rows: id, stage, reason, message
      shards/fold=K/part-NNNNN-<fingerprint>.parquet

A row of a shard is one segment. A track has exactly `segments_per_track` rows, in order and never divided over
two row groups. `mfcc` is a fixed-size list without nulls at any level, which Arrow reads half as fast again as
its own tensor type; the shape stands in the field's metadata.
"""

import dataclasses
import json
import os
import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from featurize.errors import FeaturizeError

FORMAT_VERSION = 1
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
            pa.list_(pa.field("element", pa.float32(), nullable=False), MFCC_SHAPE[0] * MFCC_SHAPE[1]),
            nullable=False,
            metadata={"shape": json.dumps(MFCC_SHAPE), "axes": '["coefficient", "frame"]'},
        ),
    ]
)
TRACKS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("track", "label", "group")]
    + [
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("shard", pa.dictionary(pa.int32(), pa.string()), nullable=False),
    ]
)
REJECTS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("path", "stage", "reason", "message")]
)

_SHARD_NAME = re.compile(r"fold=(\d+)/part-\d{5,}-[0-9a-f]{16}\.parquet")
_TEMPORARY = ".tmp"
_FOOTER_KEY = b"earmark"
_PAGE_BYTES = 1 << 26


class DatasetError(FeaturizeError):
    """A folder that is not a complete dataset of this format; the message names the files."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard file: its name below `shards/`, its place, its fold, and the rows of each row group."""

    name: str
    path: Path
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

    folder: Path
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
        return pq.read_table(self.folder / "tracks.parquet")

    def rejects(self) -> pa.Table:
        """Return the tracks without rows, by REJECTS_SCHEMA."""
        return pq.read_table(self.folder / "rejects.parquet")


def open_dataset(folder: Path) -> Dataset:
    """Open a dataset and check that its shards are all there, whole, and its own.

    Raises:
        DatasetError: there is no dataset, it is of another format, or shards are missing, broken or foreign.
    """
    try:
        info = json.loads((folder / "dataset.json").read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(
            f"{folder} holds no finished dataset: dataset.json is missing. "
            f"Type: earmark featurize MUSIC --out {folder}"
        ) from error
    except ValueError as error:
        raise DatasetError(f"{folder / 'dataset.json'} is not JSON: {error}. Featurize again.") from error
    found_version = info.get("format") if isinstance(info, dict) else None
    if found_version != FORMAT_VERSION:
        raise DatasetError(
            f"{folder} has format {found_version}; this Earmark reads {FORMAT_VERSION}. Featurize again."
        )
    names = list_shards(folder)
    listed = set(pq.read_table(folder / "tracks.parquet", columns=["shard"])["shard"].unique().to_pylist())
    problems = [f"{name} is missing" for name in sorted(listed - names)]
    problems += [f"{name} does not belong to this dataset" for name in sorted(names - listed)]
    shards = []
    for name in sorted(names & listed):
        path = folder / "shards" / name
        try:
            metadata = pq.read_metadata(path)
        except (pa.ArrowException, OSError) as error:
            problems.append(f"{name} is broken: {error}")
            continue
        row_groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
        shards.append(Shard(name, path, fold_of(name), row_groups))
    if problems:
        more = f"\n  ... and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise DatasetError(
            f"{folder} is not a whole dataset:\n"
            + "\n".join(f"  - {line}" for line in problems[:10])
            + more
            + f"\nDelete what is broken or foreign, then type: earmark featurize MUSIC --out {folder}"
        )
    return Dataset(folder, info, shards)


def shard_name(fold: int, index: int, fingerprint: str) -> str:
    """Name a shard below `shards/`; the fold is a hive partition."""
    return f"fold={fold}/part-{index:05d}-{fingerprint}.parquet"


def fold_of(name: str) -> int:
    """Return the fold that a shard's name gives."""
    match = _SHARD_NAME.fullmatch(name)
    if not match:
        raise DatasetError(f"{name} is not the name of a shard")
    return int(match[1])


def list_shards(folder: Path) -> set[str]:
    """Return the names of the finished shards in a dataset folder: one listing, no file is opened."""
    shards = folder / "shards"
    names = (path.relative_to(shards).as_posix() for path in shards.glob("fold=*/*.parquet"))
    return {name for name in names if _SHARD_NAME.fullmatch(name)}


def write_shard(folder: Path, name: str, rows: pa.Table, segments_per_track: int, footer: Any) -> None:
    """Write one shard whole: its rows, and in the footer what belongs to them (rejects, statistics).

    Args:
        folder: the dataset's folder.
        name: from `shard_name`.
        rows: by SHARD_SCHEMA, whole tracks one after another.
        segments_per_track: rows of a track, so that no track is divided over two row groups.
        footer: anything JSON can hold.
    """
    schema = SHARD_SCHEMA.with_metadata({_FOOTER_KEY: json.dumps(footer, sort_keys=True).encode()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        schema,
        # The frames that overlapping segments share repeat byte for byte, and ZSTD's fastest level finds them,
        # best with the bytes of the floats split into streams and a whole row group in one page.
        compression="zstd",
        compression_level=1,
        column_encoding={"mfcc.list.element": "BYTE_STREAM_SPLIT"},
        data_page_size=_PAGE_BYTES,
        use_dictionary=["track"],
        write_statistics=["track", "label", "segment"],
    ) as writer:
        writer.write_table(rows, row_group_size=TRACKS_PER_ROW_GROUP * segments_per_track)
    write_whole(folder / "shards" / name, sink.getvalue())


def read_footer(path: Path) -> Any:
    """Return what `write_shard` put into the footer; only the end of the file is read."""
    return json.loads(pq.read_metadata(path).metadata[_FOOTER_KEY])


def read_row_group(shard: Shard, index: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Read one row group.

    Returns:
        float32 [rows, 40, 217], the MFCC, a view of Arrow's memory; and int32 [rows], the labels.
    """
    table = pq.ParquetFile(shard.path).read_row_group(index, columns=["label", "mfcc"], use_threads=False)
    mfcc = table["mfcc"].combine_chunks()
    flat = mfcc.flatten().to_numpy(zero_copy_only=True)
    return flat.reshape(-1, *MFCC_SHAPE), table["label"].to_numpy()


def read_track_ids(shard: Shard, segments_per_track: int) -> list[str]:
    """Return the ids of a shard's tracks in the order of their rows."""
    column = pq.read_table(shard.path, columns=["track"])["track"]
    return [str(track) for track in column.to_pylist()[::segments_per_track]]


def write_whole(path: Path, content: bytes | pa.Buffer) -> None:
    """Write a file so that under its final name it is either whole or not there, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_TEMPORARY}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_table(path: Path, table: pa.Table) -> None:
    """Write a small table as Parquet, whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_whole(path, sink.getvalue())


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that an earlier, killed run left in a dataset folder."""
    for leftover in folder.rglob(f".*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)
