"""Last step of featurizing: collect the footers of the shards and write `dataset.json`."""

import dataclasses
import logging
import platform
from collections import Counter
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import soundfile

from featurize.dataset.footer import FeatureSums, RejectedTrack, TrackRemark, read_footer
from featurize.dataset.info import DEFAULT_LAYOUT, ClassFoldCount, DatasetInfo, FoldStatistics, RejectCount
from featurize.dataset.reader import in_threads, list_shards
from featurize.dataset.schema import DUPLICATES_SCHEMA, FORMAT_VERSION, REJECTS_SCHEMA, REMARKS_SCHEMA, fold_of
from featurize.dataset.tables import write_table
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.planning.plan import Plan
from featurize.planning.shard_plan import dataset_id, plan_id
from featurize.storage import StoragePath
from featurize.version import VERSION

_log = logging.getLogger(__name__)

_REMARKS_SHOWN = 5


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


def finish(folder: StoragePath, plan: Plan) -> Summary:
    """Write `rejects.parquet`, `remarks.parquet`, `duplicates.parquet` and, last, `dataset.json`.

    First removes temporary files of killed workers and shards that are not in the plan, which belong to other
    settings or removed tracks. The files depend only on the plan and the shards, not on the machine or time.

    Args:
        folder: Dataset folder.
        plan: Plan whose shards are all finished.

    Returns:
        Summary of the dataset.

    Raises:
        FeaturizeError: Shards are broken.
    """
    folder.remove_leftovers()
    for stale in list_shards(folder) - set(plan.names):
        (folder / "shards" / stale).remove()
    gathered = _gather(folder, plan)
    rejects = sorted(gathered.rejects, key=lambda reject: reject.path)
    rows = [reject.model_dump() for reject in rejects]
    write_table(folder / "rejects.parquet", pa.Table.from_pylist(rows, schema=REJECTS_SCHEMA))
    _write_remarks(folder, sorted(gathered.remarks, key=lambda remark: remark.path))
    tracks = plan.tracks.append_column("digest", pa.chunked_array(gathered.digests))
    duplicates = _duplicates(tracks, plan.classes)
    write_table(folder / "duplicates.parquet", duplicates)

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
        counts=_counts(tracks, plan.classes, segments),
        statistics=_statistics(gathered.statistics),
        versions=_versions(),
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


def count_rejects(rejects: list[RejectedTrack]) -> list[RejectCount]:
    """Count rejects by stage and reason, most frequent first."""
    reasons = Counter((reject.stage, reject.reason) for reject in rejects)
    return [
        RejectCount(stage=stage, reason=reason, tracks=count)
        for (stage, reason), count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]


@dataclasses.dataclass(frozen=True)
class _Gathered:
    """Content of the footers of all shards, in plan order.

    Attributes:
        rejects: Rejected tracks.
        remarks: Remarks on tracks with rows.
        digests: For each shard the digest of each track, string [tracks]; null for rejects.
        statistics: For each shard its fold and its sums.
    """

    rejects: list[RejectedTrack]
    remarks: list[TrackRemark]
    digests: list[pa.Array]
    statistics: list[tuple[int, FeatureSums]]


def _gather(folder: StoragePath, plan: Plan) -> _Gathered:
    gathered = _Gathered([], [], [], [])
    broken = []
    for position, footer in enumerate(in_threads(lambda name: read_footer(folder, name), plan.names)):
        if footer is None:
            broken.append(plan.names[position])
            continue
        digest_of = dict(zip(footer.tracks.track, footer.tracks.digest, strict=True))
        first, stop = plan.bounds[position : position + 2]
        ids = plan.tracks["track"].slice(first, stop - first).to_pylist()
        gathered.digests.append(pa.array([digest_of.get(track) for track in ids], pa.string()))
        gathered.rejects.extend(footer.rejects)
        gathered.remarks.extend(footer.remarks)
        gathered.statistics.append((fold_of(plan.names[position]), footer.statistics))
    if broken:
        named = "\n".join(f"  - {folder / 'shards' / name}" for name in broken)
        raise FeaturizeError(
            f"{len(broken)} shards are broken:\n{named}\nDelete them, then run the same command again."
        )
    return gathered


def _duplicates(tracks: pa.Table, classes: list[str]) -> pa.Table:
    """Return the tracks that share their digest with another track, sorted by digest, with DUPLICATES_SCHEMA."""
    # Compare the first 60 bits as integers first: a million strings would take hundreds of megabytes.
    prefixes = np.fromiter(
        (int(digest.as_py()[:15], 16) if digest.is_valid else -1 - i for i, digest in enumerate(tracks["digest"])),
        np.int64,
        len(tracks),
    )
    values, counts = np.unique(prefixes, return_counts=True)
    candidates = tracks.filter(pa.array(np.isin(prefixes, values[counts > 1])))
    digest_counts = candidates.group_by("digest").aggregate([([], "count_all")])
    shared = digest_counts.filter(pc.greater(digest_counts["count_all"], 1))["digest"].combine_chunks()
    duplicates = candidates.filter(pc.is_in(candidates["digest"], value_set=shared))
    labels = pc.take(pa.array(classes, pa.string()), duplicates["label"])
    table = pa.table(
        [duplicates["digest"], duplicates["track"], labels, duplicates["fold"]], schema=DUPLICATES_SCHEMA
    )
    return table.sort_by([("digest", "ascending"), ("track", "ascending")])


def _counts(tracks: pa.Table, classes: list[str], segments: int) -> list[ClassFoldCount]:
    """Count tracks, groups and segments of each class in each fold, without rejects."""
    kept = tracks.select(["label", "fold", "group"]).filter(pc.is_valid(tracks["digest"]))
    counts = kept.group_by(["label", "fold"]).aggregate([([], "count_all"), ("group", "count_distinct")])
    entries = [
        ClassFoldCount(
            label=classes[row["label"]],
            fold=row["fold"],
            tracks=row["count_all"],
            groups=row["group_count_distinct"],
            segments=row["count_all"] * segments,
        )
        for row in counts.to_pylist()
    ]
    return sorted(entries, key=lambda entry: (entry.label, entry.fold))


def _statistics(sums: list[tuple[int, FeatureSums]]) -> list[FoldStatistics]:
    """Return the mean and standard deviation of each coefficient for each fold.

    They are stored per fold so that training can combine those of its training folds without using test data.
    """
    by_fold: dict[int, list[FeatureSums]] = {}
    for fold, shard_sums in sums:
        by_fold.setdefault(fold, []).append(shard_sums)
    statistics = []
    for fold, fold_sums in sorted(by_fold.items()):
        frames = sum(shard.frames for shard in fold_sums)
        if not frames:
            continue
        mean = np.sum([shard.sum for shard in fold_sums], axis=0) / frames
        variance = np.sum([shard.sum_of_squares for shard in fold_sums], axis=0) / frames - mean**2
        deviation = np.sqrt(np.maximum(variance, 0))
        statistics.append(
            FoldStatistics(fold=fold, frames=frames, mean=mean.tolist(), deviation=deviation.tolist())
        )
    return statistics


def _versions() -> dict[str, str]:
    packages = ("librosa", "numpy", "scipy", "soundfile", "soxr", "av", "pyarrow")
    return {
        "earmark": VERSION,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "libsndfile": soundfile.__libsndfile_version__,
    }
