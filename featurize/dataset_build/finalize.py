"""The last step of featurizing: gather what the shards' footers say and declare the dataset complete."""

import dataclasses
import platform
from collections import Counter
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import soundfile

from featurize.dataset.footer import FeatureSums, RejectedTrack, read_footer
from featurize.dataset.info import ClassFoldCount, DatasetInfo, FoldStatistics, RejectCount
from featurize.dataset.reader import in_threads, list_shards
from featurize.dataset.schema import DUPLICATES_SCHEMA, FORMAT_VERSION, REJECTS_SCHEMA, fold_of
from featurize.dataset.tables import write_table
from featurize.errors import FeaturizeError
from featurize.planning.plan import Plan
from featurize.planning.shard_plan import dataset_id, plan_id
from featurize.storage import StoragePath
from featurize.version import VERSION


@dataclasses.dataclass(frozen=True)
class Summary:
    """A finished dataset in figures.

    Attributes:
        tracks: in the collection, rejects included.
        segments: rows in the shards.
        rejects: how many tracks have no rows, by (stage, reason), the most frequent first.
        duplicates: how many tracks have the very rows of another one.
    """

    tracks: int
    segments: int
    rejects: dict[tuple[str, str], int]
    duplicates: int = 0

    @property
    def rejected(self) -> int:
        """The number of tracks without rows."""
        return sum(self.rejects.values())


def summarize(info: DatasetInfo) -> Summary:
    """Read the figures out of `dataset.json`."""
    rejects = {(count.stage, count.reason): count.tracks for count in info.rejects}
    return Summary(info.tracks, info.segments, rejects, info.duplicates)


def finish(folder: StoragePath, plan: Plan) -> Summary:
    """Write `rejects.parquet`, `duplicates.parquet` and, last of all, `dataset.json`.

    Before that, what killed workers have left behind is removed, and so are shards that are not in the plan:
    they belong to other settings or to tracks that are gone, and a folder never holds a mixture. What is written
    depends on the plan alone, not on who made the shards or when.
    """
    folder.remove_leftovers()
    for stale in list_shards(folder) - set(plan.names):
        (folder / "shards" / stale).remove()
    gathered = _gather(folder, plan)
    rejects = sorted(gathered.rejects, key=lambda reject: reject.path)
    rows = [reject.model_dump() for reject in rejects]
    write_table(folder / "rejects.parquet", pa.Table.from_pylist(rows, schema=REJECTS_SCHEMA))
    tracks = plan.tracks.append_column("digest", pa.chunked_array(gathered.digests))
    duplicates = _duplicates(tracks, plan.classes)
    write_table(folder / "duplicates.parquet", duplicates)

    segments = plan.settings.segments_per_track
    info = DatasetInfo(
        format=FORMAT_VERSION,
        id=dataset_id(plan.names, [reject.path for reject in rejects]),
        plan=plan_id(plan.names),
        classes=plan.classes,
        settings=plan.settings,
        tracks=len(plan.tracks),
        segments=(len(plan.tracks) - len(rejects)) * segments,
        rejects=count_rejects(rejects),
        duplicates=len(duplicates),
        counts=_counts(tracks, plan.classes, segments),
        statistics=_statistics(gathered.statistics),
        versions=_versions(),
    )
    (folder / "dataset.json").write(info.encode())
    return summarize(info)


def count_rejects(rejects: list[RejectedTrack]) -> list[RejectCount]:
    """Count rejects by stage and reason, the most frequent first."""
    reasons = Counter((reject.stage, reject.reason) for reject in rejects)
    return [
        RejectCount(stage=stage, reason=reason, tracks=count)
        for (stage, reason), count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    ]


@dataclasses.dataclass(frozen=True)
class _Gathered:
    """What the footers say: rejects; the digest of each track in the plan's order, null for rejects; the sums."""

    rejects: list[RejectedTrack]
    digests: list[pa.Array]
    statistics: list[tuple[int, FeatureSums]]


def _gather(folder: StoragePath, plan: Plan) -> _Gathered:
    gathered = _Gathered([], [], [])
    broken = []
    for index, footer in enumerate(in_threads(lambda name: read_footer(folder, name), plan.names)):
        if footer is None:
            broken.append(plan.names[index])
            continue
        digest_of = dict(zip(footer.tracks.track, footer.tracks.digest, strict=True))
        first, stop = plan.bounds[index : index + 2]
        ids = plan.tracks["track"].slice(first, stop - first).to_pylist()
        gathered.digests.append(pa.array([digest_of.get(track) for track in ids], pa.string()))
        gathered.rejects.extend(footer.rejects)
        gathered.statistics.append((fold_of(plan.names[index]), footer.statistics))
    if broken:
        named = "\n".join(f"  - {folder / 'shards' / name}" for name in broken)
        raise FeaturizeError(
            f"{len(broken)} shards are broken:\n{named}\nDelete them, then run the same command again."
        )
    return gathered


def _duplicates(tracks: pa.Table, classes: list[str]) -> pa.Table:
    """Return the tracks whose digest is also another one's, side by side, by DUPLICATES_SCHEMA."""
    # By the first 60 bits, as numbers: a million names of groups would take hundreds of megabytes.
    beginnings = np.fromiter(
        (int(digest.as_py()[:15], 16) if digest.is_valid else -1 - i for i, digest in enumerate(tracks["digest"])),
        np.int64,
        len(tracks),
    )
    values, counts = np.unique(beginnings, return_counts=True)
    alike = tracks.filter(pa.array(np.isin(beginnings, values[counts > 1])))
    whole = alike.group_by("digest").aggregate([([], "count_all")])
    shared = whole.filter(pc.greater(whole["count_all"], 1))["digest"].combine_chunks()
    found = alike.filter(pc.is_in(alike["digest"], value_set=shared))
    labels = pc.take(pa.array(classes, pa.string()), found["label"])
    table = pa.table([found["digest"], found["track"], labels, found["fold"]], schema=DUPLICATES_SCHEMA)
    return table.sort_by([("digest", "ascending"), ("track", "ascending")])


def _counts(tracks: pa.Table, classes: list[str], segments: int) -> list[ClassFoldCount]:
    """Count tracks, groups and segments of each class in each fold, rejects left out."""
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
    """Return the mean and the standard deviation of each coefficient, fold by fold.

    By fold, so that a trainer can combine those of its training folds and never look at the others.
    """
    by_fold: dict[int, list[FeatureSums]] = {}
    for fold, part in sums:
        by_fold.setdefault(fold, []).append(part)
    statistics = []
    for fold, parts in sorted(by_fold.items()):
        frames = sum(part.frames for part in parts)
        if not frames:
            continue
        mean = np.sum([part.sum for part in parts], axis=0) / frames
        variance = np.sum([part.sum_of_squares for part in parts], axis=0) / frames - mean**2
        deviation = np.sqrt(np.maximum(variance, 0))
        statistics.append(
            FoldStatistics(fold=fold, frames=frames, mean=mean.tolist(), deviation=deviation.tolist())
        )
    return statistics


def _versions() -> dict[str, str]:
    packages = ("librosa", "numpy", "scipy", "soundfile", "soxr", "pyarrow")
    return {
        "earmark": VERSION,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "libsndfile": soundfile.__libsndfile_version__,
    }
