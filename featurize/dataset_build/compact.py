"""Merge the small shards of a dataset. No music is read and nothing is computed: rows are copied.

As in `driver.featurize`, the plan is stored before the first merged shard is written, and `finish` deletes the
small shards after the last one, so that after a kill `featurize` and `compact` both go on from there. Threads of
this process do the work, on a cluster as well: reading, compressing and writing release the interpreter lock.
"""

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from featurize.dataset.advice import how_to_featurize
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.info import read_info
from featurize.dataset.reader import list_shards
from featurize.dataset.shard_table import ShardRecord
from featurize.dataset_build.finalize import finish
from featurize.dataset_build.previous_rows import RowSources, read_previous
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.display import one_line
from featurize.errors import DatasetError, FeaturizeError
from featurize.execution.folder_lock import only_run_in
from featurize.planning.compaction import compact_plan
from featurize.planning.plan import Plan
from featurize.planning.previous_plan import PreviousPlan, read_plan
from featurize.planning.shard_plan import ShardPlan
from featurize.storage import StoragePath, describe, refuse_undecodable

_THREADS = min(4, os.cpu_count() or 1)
_BYTES_IN_MEMORY = 2 << 30  # of rows: a thread has those of a shard
_TRACKS_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Compaction:
    """Result of a compaction.

    Attributes:
        before: Number of shards of the plan before; after a kill, of the plan that the killed run stored.
        after: Number of shards of the dataset.
        tracks: Number of tracks, rejects included.
    """

    before: int
    after: int
    tracks: int


def compact(
    folder: str | os.PathLike[str] | StoragePath,
    tracks_per_shard: int | Literal["auto"] = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Compaction:
    """Merge shards that are less than half full. Rows, folds and digests of tracks stay the same.

    A dataset without such shards is not touched. A compaction that was killed is completed.

    Args:
        folder: Dataset folder; a path or a URI.
        tracks_per_shard: The setting `featurize.tracks_per_shard`.
        on_progress: Called with the numbers of shards written and to be written.

    Raises:
        DatasetError: The folder holds no dataset, or rows are missing or damaged; then nothing was changed.
        FeaturizeError: The folder cannot be written, or another run is active in it.
    """
    folder = StoragePath.of(folder)
    refuse_undecodable(folder)
    _read_plan(folder)  # before the lock, which would create the folder
    try:
        with only_run_in(folder):
            return _compact(folder, tracks_per_shard, on_progress)
    except OSError as error:
        raise FeaturizeError(
            f"cannot compact {folder}: {describe(error)}. No row is lost; fix the problem and run the same "
            "command again to continue."
        ) from error


def _compact(
    folder: StoragePath, tracks_per_shard: int | Literal["auto"], on_progress: Callable[[int, int], None]
) -> Compaction:
    folder.remove_leftovers()
    previous, settings = _read_plan(folder)
    plan = compact_plan(previous, settings, tracks_per_shard, folder)
    stored = set(previous.tracks["shard"].unique().to_pylist())
    result = Compaction(len(stored), len(plan.names), len(plan.tracks))
    finished = list_shards(folder)
    missing = [position for position, name in enumerate(plan.names) if name not in finished]
    if not missing and stored == set(plan.names) and read_info(folder):
        return result
    sources = RowSources(folder, finished - set(plan.names), settings)
    plans = [_shard_plan(plan, position, sources) for position in missing]
    with ThreadPoolExecutor(_threads(plans)) as threads:
        # Read once more before anything changes: a dataset whose music is gone must not lose its other rows to a
        # damaged shard.
        lost = [track for some in threads.map(lambda shard: _without_rows(shard, folder), plans) for track in some]
        if lost:
            more = f" and {len(lost) - _TRACKS_SHOWN} more" if len(lost) > _TRACKS_SHOWN else ""
            raise DatasetError(
                f"{folder} was not changed: expected the rows of all tracks in its shards, found none, or damaged "
                f"ones, of {', '.join(map(one_line, lost[:_TRACKS_SHOWN]))}{more}. Type: earmark featurize MUSIC "
                f"--out {folder.quoted}, which computes them, then the same command again."
            )
        # Until `finish` writes it again, readers must not take the folder for a complete dataset.
        (folder / "dataset.json").remove()
        plan.save(folder)
        made: dict[str, ShardRecord] = {}
        on_progress(0, len(plans))
        for shard, record in zip(plans, threads.map(lambda shard: merge(shard, folder), plans), strict=True):
            made[shard.name] = record
            on_progress(len(made), len(plans))
    finish(folder, plan, made)
    return result


def merge(plan: ShardPlan, folder: StoragePath) -> ShardRecord:
    """Write a shard from the rows in `plan.previous`; `worker.write_features` would write the same bytes.

    Raises:
        DatasetError: Rows are missing or damaged.
        OSError: The shard cannot be written.
    """
    previous = read_previous(plan, folder)
    writer = ShardWriter(plan)
    for track in plan.tracks:
        if copied := previous.rows.get((track.id, track.size)):
            writer.add(track, copied.features, copied.starts)
            for message in copied.remarks:
                writer.remark(track, message)
        elif reject := previous.rejects.get(track.id):
            writer.reject(track, reject)
        else:
            raise DatasetError(
                f"the rows of {one_line(track.id)} in {folder} were lost or damaged while its shards were merged. "
                f"Type: earmark featurize MUSIC --out {folder.quoted}"
            )
    return writer.finish(folder)


def _read_plan(folder: StoragePath) -> tuple[PreviousPlan, FeatureSettings]:
    previous = read_plan(folder)
    if previous is None:
        found = "is missing or broken" if folder.is_folder() else "does not exist"
        raise DatasetError(
            f"{folder / 'tracks.parquet'}, the plan of a dataset, {found}. {how_to_featurize(folder)}"
        )
    if previous.settings is None:
        raise DatasetError(
            f"{folder} was made by a version of Earmark with other feature settings. Featurize again, into "
            "another folder."
        )
    return previous, previous.settings


def _shard_plan(plan: Plan, position: int, sources: RowSources) -> ShardPlan:
    first, stop = plan.bounds[position : position + 2]
    tracks = plan.tracks["track"].slice(first, stop - first).to_pylist()
    return plan.shard(position, sources.of(tracks), retry_rejects=False)


def _threads(plans: list[ShardPlan]) -> int:
    largest = max((len(plan.tracks) * plan.settings.segments_per_track for plan in plans), default=0)
    row_bytes = max((plan.settings.format.row_bytes for plan in plans), default=0)
    return max(1, min(_THREADS, _BYTES_IN_MEMORY // max(1, largest * row_bytes)))


def _without_rows(plan: ShardPlan, folder: StoragePath) -> list[str]:
    """Return the ids of the tracks of a plan that have neither rows nor a reject."""
    previous = read_previous(plan, folder)
    return [
        track.id
        for track in plan.tracks
        if (track.id, track.size) not in previous.rows and track.id not in previous.rejects
    ]
