"""Last step of featurizing: collect the footers of the shards and write `dataset.json`."""

import collections
import dataclasses
import logging
import platform
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import soundfile
from numpy.typing import NDArray

from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.footer import RejectedTrack, TrackRemark, count_rejects
from featurize.dataset.info import DEFAULT_LAYOUT, ClassFoldCount, DatasetInfo, FoldStatistics
from featurize.dataset.reader import in_threads, list_shards, shard_sizes
from featurize.dataset.schema import (
    DUPLICATES_SCHEMA,
    FORMAT_VERSION,
    REJECTS_SCHEMA,
    REMARKS_SCHEMA,
    fold_of,
)
from featurize.dataset.shard_table import DIGEST_BYTES, ShardRecord, read_record, read_records, shard_table
from featurize.dataset.shard_table import NAME as MANIFEST
from featurize.dataset.tables import write_table
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.planning.plan import Plan
from featurize.planning.shard_plan import dataset_id, plan_id
from featurize.storage import StoragePath
from featurize.version import VERSION

_log = logging.getLogger(__name__)

_REMARKS_SHOWN = 5
_SHARDS_AT_ONCE = 1 << 12
_TRACKS_AT_ONCE = 1 << 20


@dataclasses.dataclass(frozen=True)
class Summary:
    """Numbers of tracks, segments, rejects and duplicates of a complete dataset.

    Attributes:
        tracks: Number of tracks, rejects included.
        segments: Number of rows.
        rejects: Number of rejected tracks by (stage, reason), most frequent first.
        duplicates: Number of tracks that are exact duplicates of another one.
    """

    tracks: int
    segments: int
    rejects: dict[tuple[str, str], int]
    duplicates: int = 0

    @property
    def rejected(self) -> int:
        """Number of rejected tracks."""
        return sum(self.rejects.values())


def summarize(info: DatasetInfo) -> Summary:
    """Return the summary of the content of `dataset.json`."""
    rejects = {(count.stage, count.reason): count.tracks for count in info.rejects}
    return Summary(info.tracks, info.segments, rejects, info.duplicates)


def finish(folder: StoragePath, plan: Plan, made: dict[str, ShardRecord]) -> Summary:
    """Write `rejects`, `remarks`, `duplicates` and `shards.parquet` and, last, `dataset.json`.

    First removes temporary files of killed workers and shards that are not in the plan, which belong to other
    settings or removed tracks. The files depend only on the plan and the shards, not on the machine or time.

    Args:
        folder: Dataset folder.
        plan: Plan whose shards are all finished.
        made: Records of the shards that this run made, by name; emptied, to free the memory. The footers of other
            shards are read, unless the manifest of an earlier run has them.

    Returns:
        Summary of the dataset.

    Raises:
        FeaturizeError: Shards are broken.
    """
    folder.remove_leftovers()
    # Side by side: in a bucket, each takes several requests, and other settings replace all shards.
    stale = list_shards(folder) - set(plan.names)
    collections.deque(in_threads(lambda name: (folder / "shards" / name).remove(), stale), maxlen=0)
    gathered = _gather(folder, plan, made)
    rejects = sorted(gathered.rejects, key=lambda reject: reject.path)
    rows = [reject.model_dump() for reject in rejects]
    write_table(folder / "rejects.parquet", pa.Table.from_pylist(rows, schema=REJECTS_SCHEMA))
    _write_remarks(folder, sorted(gathered.remarks, key=lambda remark: remark.path))
    duplicates = find_duplicates(gathered.manifest["digests"], gathered.kept, plan.tracks, plan.classes)
    write_table(folder / "duplicates.parquet", duplicates)
    write_table(folder / MANIFEST, gathered.manifest)

    segments = plan.settings.segments_per_track
    info = DatasetInfo(
        format=FORMAT_VERSION,
        id=dataset_id(plan.names, [reject.path for reject in rejects], plan.layout),
        plan=plan_id(plan.names),
        classes=plan.classes,
        settings=plan.settings,
        tracks=len(plan.tracks),
        segments=(len(plan.tracks) - len(rejects)) * segments,
        rejects=count_rejects(rejects),
        duplicates=len(duplicates),
        folds=None if plan.layout == DEFAULT_LAYOUT else plan.layout,
        counts=_counts(plan.tracks, gathered.kept, plan.classes, segments),
        statistics=_statistics(gathered.manifest, plan.settings),
        versions=library_versions(),
    )
    (folder / "dataset.json").write(info.encode())
    return summarize(info)


def _write_remarks(folder: StoragePath, remarks: list[TrackRemark]) -> None:
    """Write `remarks.parquet` and log the first ones, or remove the file if there are none."""
    path = folder / "remarks.parquet"
    if not remarks:
        path.remove()
        return
    rows = [remark.model_dump() for remark in remarks]
    write_table(path, pa.Table.from_pylist(rows, schema=REMARKS_SCHEMA))
    shown = "".join(
        f"\n  - {one_line(remark.path)}: {one_line(remark.message)}" for remark in remarks[:_REMARKS_SHOWN]
    )
    more = f"\n  - and {len(remarks) - _REMARKS_SHOWN} more" if len(remarks) > _REMARKS_SHOWN else ""
    _log.warning(
        "%d tracks are damaged or have wrong headers; what could be decoded is used:%s%s\n%s lists them.",
        len(remarks),
        shown,
        more,
        path,
    )


@dataclasses.dataclass(frozen=True)
class _Gathered:
    """What is known of all shards.

    Attributes:
        manifest: Content of `shards.parquet`, in plan order.
        kept: Whether each track of the plan has rows, bool [tracks].
        rejects: Rejected tracks.
        remarks: Remarks on tracks with rows.
    """

    manifest: pa.Table
    kept: NDArray[np.bool_]
    rejects: list[RejectedTrack]
    remarks: list[TrackRemark]


def _gather(folder: StoragePath, plan: Plan, made: dict[str, ShardRecord]) -> _Gathered:
    sizes = shard_sizes(folder)
    names = [name for name in plan.names if name not in made]
    earlier = read_records(folder, plan.settings) if names else {}
    made |= {name: earlier[name] for name in names if name in earlier and earlier[name].size == sizes.get(name)}
    del earlier
    unread = [name for name in names if name not in made]

    def read(name: str) -> ShardRecord | str:
        return read_record(folder / "shards" / name, name, sizes.get(name), plan.settings)

    for name, record in zip(unread, in_threads(read, unread), strict=True):
        if isinstance(record, ShardRecord):
            made[name] = record
    broken = [name for name in plan.names if name not in made]
    kept = np.ones(len(plan.tracks), np.bool_)
    rejects: list[RejectedTrack] = []
    remarks: list[TrackRemark] = []
    parts = []
    for begin in range(0, len(plan.names), _SHARDS_AT_ONCE):
        some = [name for name in plan.names[begin : begin + _SHARDS_AT_ONCE] if name in made]
        records = [made.pop(name) for name in some]
        parts.append(shard_table(some, [fold_of(name) for name in some], records))
        position_of = {name: begin + i for i, name in enumerate(plan.names[begin : begin + _SHARDS_AT_ONCE])}
        for name, record in zip(some, records, strict=True):
            first, stop = plan.bounds[position_of[name] : position_of[name] + 2]
            if record.rejects:
                rejected = {reject.path for reject in record.rejects}
                ids = plan.tracks["track"].slice(first, stop - first).to_pylist()
                kept[first:stop] = [track not in rejected for track in ids]
            if np.count_nonzero(kept[first:stop]) * DIGEST_BYTES != len(record.digests):
                broken.append(name)
            rejects.extend(record.rejects)
            remarks.extend(record.remarks)
    if broken:
        named = "\n".join(f"  - {folder / 'shards' / name}" for name in sorted(broken))
        raise FeaturizeError(
            f"{len(broken)} shards are broken:\n{named}\nDelete them, then run the same command again."
        )
    return _Gathered(pa.concat_tables(parts).combine_chunks(), kept, rejects, remarks)


def find_duplicates(
    digests: pa.ChunkedArray, kept: NDArray[np.bool_], tracks: pa.Table, classes: list[str]
) -> pa.Table:
    """Return the tracks that share their digest with another track, sorted by digest, with DUPLICATES_SCHEMA.

    Args:
        digests: Column `digests` of the manifest.
        kept: Whether each track has rows, bool [tracks].
        tracks: Tracks of the plan.
        classes: Class names.
    """
    # Numbers first, and strings only for tracks whose number another one has: ten million strings take a gigabyte.
    halves = np.frombuffer(b"".join(chunk for part in digests.chunks for chunk in _binary_values(part)), ">u8")
    prefixes = halves[::2].astype(np.uint64)
    ordered = np.sort(prefixes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    candidates = np.zeros(0, np.int64)
    if len(repeated):
        places = np.minimum(np.searchsorted(repeated, prefixes), len(repeated) - 1)
        candidates = np.flatnonzero(repeated[places] == prefixes)
    pairs = halves.reshape(-1, 2)[candidates].tolist()
    found = tracks.select(["track", "label", "fold"]).take(pa.array(np.flatnonzero(kept)[candidates]))
    found = found.append_column("digest", pa.array([f"{high:016x}{low:016x}" for high, low in pairs], pa.string()))
    digest_counts = found.group_by("digest").aggregate([([], "count_all")])
    shared = digest_counts.filter(pc.greater(digest_counts["count_all"], 1))["digest"].combine_chunks()
    found = found.filter(pc.is_in(found["digest"], value_set=shared))
    labels = pc.take(pa.array(classes, pa.string()), found["label"])
    table = pa.table([found["digest"], found["track"], labels, found["fold"]], schema=DUPLICATES_SCHEMA)
    return table.sort_by([("digest", "ascending"), ("track", "ascending")])


def _binary_values(column: pa.Array) -> list[memoryview]:
    """Return the bytes of all values of a binary array, one after another."""
    _, offsets, values = column.buffers()
    bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return [memoryview(values)[bounds[0] : bounds[-1]]] if values is not None and len(column) else []


def _counts(tracks: pa.Table, kept: NDArray[np.bool_], classes: list[str], segments: int) -> list[ClassFoldCount]:
    """Count tracks, groups and segments of each class in each fold, without rejects."""
    parts = []
    for begin in range(0, len(tracks), _TRACKS_AT_ONCE):
        part = tracks.slice(begin, _TRACKS_AT_ONCE).select(["label", "fold", "group"])
        part = part.filter(pa.array(kept[begin : begin + _TRACKS_AT_ONCE]))
        parts.append(part.group_by(["label", "fold", "group"]).aggregate([([], "count_all")]))
    groups = pa.concat_tables(parts).group_by(["label", "fold", "group"]).aggregate([("count_all", "sum")])
    counts = groups.group_by(["label", "fold"]).aggregate([("count_all_sum", "sum"), ([], "count_all")])
    entries = [
        ClassFoldCount(
            label=classes[row["label"]],
            fold=row["fold"],
            tracks=row["count_all_sum_sum"],
            groups=row["count_all"],
            segments=row["count_all_sum_sum"] * segments,
        )
        for row in counts.to_pylist()
    ]
    return sorted(entries, key=lambda entry: (entry.label, entry.fold))


def _statistics(manifest: pa.Table, settings: FeatureSettings) -> list[FoldStatistics]:
    """Return the mean and standard deviation of each feature for each fold.

    They are stored per fold so that training can combine those of its training folds without using test data.
    """
    folds = manifest["fold"].to_numpy()
    tracks = pc.binary_length(manifest["digests"]).to_numpy().astype(np.int64) // DIGEST_BYTES
    statistics = []
    for fold in np.unique(folds).tolist():
        frames = int(tracks[folds == fold].sum()) * settings.segments_per_track * settings.frames
        if not frames:
            continue
        encoded = b"".join(manifest["sums"].filter(pa.array(folds == fold)).to_pylist())
        sums = np.frombuffer(encoded, "<f8").reshape(-1, 2, settings.features).sum(axis=0)
        mean = sums[0] / frames
        deviation = np.sqrt(np.maximum(sums[1] / frames - mean**2, 0))
        statistics.append(
            FoldStatistics(fold=fold, frames=frames, mean=mean.tolist(), deviation=deviation.tolist())
        )
    return statistics


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that affect the features."""
    packages = ("librosa", "numpy", "scipy", "soundfile", "soxr", "av", "pyarrow")
    return {
        "earmark": VERSION,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "libsndfile": soundfile.__libsndfile_version__,
    }
