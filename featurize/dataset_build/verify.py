"""How far a dataset is, and whether what lies there is what was written."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurize.dataset.dataset import Dataset
from featurize.dataset.footer import RejectedTrack, parse_footer, read_rejects
from featurize.dataset.info import RejectCount, read_info
from featurize.dataset.reader import Shard, in_threads, list_shards, read_row_group
from featurize.dataset.schema import MFCC_SHAPE
from featurize.dataset_build.finalize import count_rejects
from featurize.dataset_build.shard_writer import digest
from featurize.errors import DatasetError
from featurize.execution.folder_lock import holder_of
from featurize.planning.previous_plan import read_plan
from featurize.storage import StoragePath, describe


@dataclasses.dataclass(frozen=True)
class Status:
    """How far featurizing into a folder is.

    Attributes:
        complete: whether `dataset.json` is there, the last file to be written.
        holder: the id of the process that is at work there, None if there is none, or if the folder is elsewhere.
        shards, shards_done: planned, and of these finished.
        tracks, tracks_done: in all planned shards, and in the finished ones.
        rejects: Counts of the rejects of the finished shards, the most frequent first.
        broken: finished shards whose footers cannot be read.
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
    """Say how far a dataset is; nothing is changed, and a run may be at work there.

    Raises:
        DatasetError: no run was ever begun there.
    """
    plan = read_plan(folder)
    if plan is None:
        raise DatasetError(
            f"{folder} holds no dataset, begun or finished, of this Earmark's format: tracks.parquet is missing "
            f"or broken. Type: earmark featurize MUSIC --out {folder}"
        )
    per_shard = plan.tracks.group_by("shard").aggregate([([], "count_all")])
    planned = dict(zip(per_shard["shard"].to_pylist(), per_shard["count_all"].to_pylist(), strict=True))
    done = sorted(planned.keys() & list_shards(folder))
    rejects: list[RejectedTrack] = []
    broken = []
    for name, found in zip(done, in_threads(lambda name: read_rejects(folder, name), done), strict=True):
        if found is None:
            broken.append(name)
        else:
            rejects += found
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
    """Read every row of every shard back, and compare it with its footer; yield each shard with its problems.

    A shard is as it was written if its rows are those of the tracks in its footer, in order, with the label and
    the fold of the plan, finite, and of the digest that was taken before they were written.
    """
    tracks = dataset.tracks()
    columns = (tracks[name].to_pylist() for name in ("track", "label", "fold", "shard"))
    planned: dict[str, dict[str, tuple[int, int]]] = {}
    for track, label, fold, shard in zip(*columns, strict=True):
        planned.setdefault(shard, {})[track] = (dataset.classes.index(label), fold)

    def check(shard: Shard) -> list[str]:
        try:
            return list(_problems(shard, dataset.segments_per_track, planned[shard.name]))
        except (pa.ArrowException, OSError) as error:
            return [f"cannot be read: {describe(error) if isinstance(error, OSError) else error}"]

    yield from zip(dataset.shards, in_threads(check, dataset.shards), strict=True)


def _problems(shard: Shard, segments: int, planned: dict[str, tuple[int, int]]) -> Iterator[str]:
    with pq.ParquetFile(shard.place.path, **shard.place.arrow) as file:
        footer = parse_footer(file.metadata)
        names = file.read(["track", "segment"], use_threads=False)
    kept = footer.tracks.track
    if {*kept, *(reject.path for reject in footer.rejects)} != planned.keys():
        yield "its tracks are not those of the plan"
    if names["track"].to_pylist() != [track for track in kept for _ in range(segments)]:
        yield "its rows are not those of its tracks"
    if names["segment"].to_pylist() != list(range(segments)) * len(kept):
        yield "its segments are not in order"
    done = 0
    for index in range(len(shard.row_groups)):
        mfcc, labels = read_row_group(shard, index)
        for first in range(0, len(mfcc), segments):
            rows, track = mfcc[first : first + segments], kept[done]
            expected_label, expected_fold = planned.get(track, (-1, -1))
            if rows.shape != (segments, *MFCC_SHAPE) or not np.isfinite(rows).all():
                yield f"{track} has rows that are not finite, or too few"
            elif digest(rows) != footer.tracks.digest[done]:
                yield f"{track} has other numbers than were written"
            if (labels[first : first + segments] != expected_label).any() or shard.fold != expected_fold:
                yield f"{track} has another label or fold than in the plan"
            done += 1
