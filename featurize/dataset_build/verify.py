"""Read the status of a dataset, and verify its shards."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq

from featurize.dataset.advice import how_to_featurize
from featurize.dataset.dataset import Dataset
from featurize.dataset.footer import RejectedTrack, count_rejects, parse_footer, read_rejects
from featurize.dataset.info import RejectCount, read_info
from featurize.dataset.reader import UNREADABLE, Shard, in_threads, list_shards, read_row_group
from featurize.dataset.shard_table import NAME as MANIFEST
from featurize.dataset.shard_table import ShardRecord, read_all_records
from featurize.dataset_build.shard_writer import digest
from featurize.display import one_line
from featurize.errors import DatasetError
from featurize.execution.folder_lock import holder_of
from featurize.execution.node_mounts import refuse_unseen
from featurize.execution.ray_tasks import on_cluster, ray_workers, run_all
from featurize.planning.previous_plan import read_plan
from featurize.storage import StoragePath, describe


@dataclasses.dataclass(frozen=True)
class Status:
    """Status of featurizing into a folder.

    Attributes:
        complete: Whether `dataset.json`, the last file to be written, exists.
        holder: Id of the process that holds the lock of the folder; None if unlocked or remote.
        shards, shards_done: Number of planned shards, and of finished shards.
        tracks, tracks_done: Number of tracks in planned shards, and in finished shards.
        rejects: Reject counts of the finished shards, most frequent first.
        broken: Names of finished shards whose footers cannot be read.
    """

    complete: bool
    holder: str | None
    shards: int
    shards_done: int
    tracks: int
    tracks_done: int
    rejects: list[RejectCount]
    broken: list[str]


def read_status(folder: StoragePath) -> Status:
    """Return the status of a dataset folder. Changes nothing, so a run may be active.

    Raises:
        DatasetError: No run was started in the folder.
    """
    plan = read_plan(folder)
    if plan is None:
        shards = len(list_shards(folder))
        if shards:
            raise DatasetError(
                f"{folder / 'tracks.parquet'}, the plan of {shards} shards that are there, is missing or broken. "
                f"Type: earmark featurize MUSIC --out {folder.quoted}, which keeps the shards and writes the "
                "plan again."
            )
        raise DatasetError(
            f"{folder} holds no complete or partial dataset in the format of this version of Earmark: "
            f"tracks.parquet is missing or broken. {how_to_featurize(folder)}"
        )
    per_shard = plan.tracks.group_by("shard").aggregate([([], "count_all")])
    planned = dict(zip(per_shard["shard"].to_pylist(), per_shard["count_all"].to_pylist(), strict=True))
    done = sorted(planned.keys() & list_shards(folder))
    rejects: list[RejectedTrack] = []
    broken = []
    for name, shard_rejects in zip(done, in_threads(lambda name: read_rejects(folder, name), done), strict=True):
        if shard_rejects is None:
            broken.append(name)
        else:
            rejects += shard_rejects
    return Status(
        complete=read_info(folder) is not None,
        holder=holder_of(folder) if folder.local else None,
        shards=len(planned),
        shards_done=len(done),
        tracks=len(plan.tracks),
        tracks_done=sum(planned[name] for name in done),
        rejects=count_rejects(rejects),
        broken=broken,
    )


def verify(dataset: Dataset) -> Iterator[tuple[Shard, list[str]]]:
    """Read all rows of all shards and compare them with the footers, the manifest and the plan.

    The rows of a shard must belong to the tracks in its footer, in order, with the label and fold of the plan; the
    features must be finite and match the digest that was computed before they were written.

    Args:
        dataset: Dataset to verify.

    On a cluster each shard is a Ray task; elsewhere threads read the shards.

    Yields:
        Each shard with the problems found, an empty list if there are none; on a cluster in the order in which
        they are read.

    Raises:
        DatasetError: The plan or the manifest is broken.
        FeaturizeError: The cluster cannot be used, or a node does not see the dataset.
    """
    tracks = dataset.tracks()
    columns = (tracks[name].to_pylist() for name in ("track", "label", "fold", "shard"))
    planned: dict[str, dict[str, tuple[int, int]]] = {}
    index_of = {label: index for index, label in enumerate(dataset.classes)}
    if unknown := set(tracks["label"].unique().to_pylist()) - index_of.keys():
        raise DatasetError(
            f"{dataset.folder / 'tracks.parquet'} has the class {min(unknown)!r}, which "
            f"{dataset.folder / 'dataset.json'} lacks: the two files are not of one dataset. "
            f"Type: earmark featurize MUSIC --out {dataset.folder.quoted}"
        )
    for track, label, fold, shard in zip(*columns, strict=True):
        planned.setdefault(shard, {})[track] = (index_of[label], fold)

    try:
        manifest = read_all_records(dataset.folder, dataset.info.settings)
    except FileNotFoundError:  # a dataset of an earlier version
        manifest = {}
    except UNREADABLE as error:
        raise DatasetError(
            f"{dataset.folder / MANIFEST} is broken: {one_line(error)}. "
            f"Delete it, then type: earmark featurize MUSIC --out {dataset.folder.quoted}"
        ) from error

    calls = (
        (shard, dataset.segments_per_track, planned.pop(shard.name, {}), manifest.get(shard.name))
        for shard in dataset.shards
    )
    if not on_cluster():
        yield from zip(dataset.shards, in_threads(lambda call: check_shard(*call), calls), strict=True)
        return
    with ray_workers(None):
        refuse_unseen([dataset.folder])
        for index, problems in run_all(check_shard, calls):
            yield dataset.shards[index], problems


def check_shard(
    shard: Shard,
    segments: int,
    planned: dict[str, tuple[int, int]],
    listed: tuple[ShardRecord, int, int] | None,
) -> list[str]:
    """Return what is wrong with a shard. Called in a worker on a cluster.

    Args:
        shard: The shard.
        segments: Segments per track.
        planned: Class index and fold of each of its tracks in the plan, by id.
        listed: What the manifest has of it, as in `read_all_records`; None if there is no manifest.
    """
    try:
        return list(_problems(shard, segments, planned, listed))
    except DatasetError as error:  # raised by the reader of the features; its first sentence says what is wrong
        return [f"cannot be read: {error.__cause__ or error}"]
    except UNREADABLE as error:
        return [f"cannot be read: {describe(error) if isinstance(error, OSError) else error}"]


def _problems(
    shard: Shard,
    segments: int,
    planned: dict[str, tuple[int, int]],
    listed: tuple[ShardRecord, int, int] | None,
) -> Iterator[str]:
    with pq.ParquetFile(shard.path.path, page_checksum_verification=True, **shard.path.arrow) as file:
        footer = parse_footer(file.metadata)
        rows = file.read(["track", "segment", "start"], use_threads=False)
        row_groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    kept = footer.tracks.track
    if listed is not None:
        found = ShardRecord.of(footer, row_groups, listed[0].size)
        counted = (len(found.rejects), len(found.remarks))
        if (dataclasses.replace(found, rejects=(), remarks=()), *counted) != listed:
            yield "its footer differs from shards.parquet"
    if {*kept, *(reject.path for reject in footer.rejects)} != planned.keys():
        yield "its tracks differ from those of the plan"
    if rows["track"].to_pylist() != [track for track in kept for _ in range(segments)]:
        yield "its rows do not match the tracks in its footer"
    if rows["segment"].to_pylist() != list(range(segments)) * len(kept):
        yield "its segments are not in order"
    starts = rows["start"].to_numpy()
    if not (np.isfinite(starts) & (starts >= 0)).all():
        yield "it has segments whose start is not a time"
    done = 0
    if len(kept) * segments != shard.rows:
        yield f"it has {shard.rows} rows, but its footer has {len(kept)} tracks"
        return
    for index in range(len(shard.row_groups)):
        rows_read, labels = read_row_group(shard, index)
        for first in range(0, len(rows_read), segments):
            features, track = rows_read[first : first + segments], kept[done]
            expected_label, expected_fold = planned.get(track, (-1, -1))
            if features.shape != (segments, *shard.format.shape) or not np.isfinite(features).all():
                yield f"{track} has too few rows, or NaN or infinity in them"
            elif digest(features) != footer.tracks.digest[done]:
                yield f"{track} has values that differ from those written"
            if (labels[first : first + segments] != expected_label).any() or shard.fold != expected_fold:
                yield f"{track} has a label or fold that differs from the plan"
            done += 1
