"""Build a dataset: plan its shards, write the missing ones on Ray workers, and finalize it."""

import dataclasses
import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from featurize.audio.filters import Filters
from featurize.collection.catalog import Catalog, build_catalog
from featurize.column_file import one_array
from featurize.config import FeaturizeConfig
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.footer import read_rejects
from featurize.dataset.info import read_info
from featurize.dataset.music_root import write_music
from featurize.dataset.output_folder import refuse_foreign_dataset_folder
from featurize.dataset.reader import UNREADABLE, in_threads, list_shards, shard_sizes
from featurize.dataset.schema import DUPLICATES_SCHEMA, REJECTS_SCHEMA
from featurize.dataset.shard_table import ShardRecord, read_to_open
from featurize.dataset.tables import read_table
from featurize.dataset_build.finalize import Summary, finish, summarize
from featurize.dataset_build.previous_rows import RowSources, describe_damaged
from featurize.dataset_build.worker import ShardResult, write_features
from featurize.errors import CollectionLostError, FeaturizeError, Reject
from featurize.execution.folder_lock import only_run_in
from featurize.execution.kept_tags import KeptTag, forget_tags, keep_tags, read_kept_tags, read_new_tags
from featurize.execution.node_mounts import refuse_unseen
from featurize.execution.ray_metrics import with_ray_metrics
from featurize.execution.ray_tasks import RayTaskPool, on_cluster, ray_workers, run_all
from featurize.execution.retries import PlanAttempts, run_with_retries
from featurize.execution.subprocess_task import SubprocessTask
from featurize.execution.table_reading import read_table_apart
from featurize.execution.tag_reading import Tag
from featurize.planning.groups import Groups, UnreadFiles, add_tags, count_unread, known_groups, unread_files
from featurize.planning.plan import Plan, make_plan
from featurize.planning.previous_plan import PreviousPlan, has_groups, read_plan
from featurize.planning.recovered_plan import recover_plan
from featurize.planning.shard_plan import ShardPlan, plan_id
from featurize.storage import StoragePath, describe, refuse_undecodable

_log = logging.getLogger(__name__)

_KEPT = "Finished shards are kept; fix the problem and run the same command again to continue."
_TAGS_AT_ONCE = 2000  # files per task; with more files to read, workers read the tags


class ShardMaker(Protocol):
    """Function that writes a shard: `write_features`, or a substitute in benchmarks of the driver."""

    def __call__(
        self,
        plan: ShardPlan,
        folder: StoragePath,
        filters: Filters,
        track_timeout: float | None,
        excluded: dict[str, Reject],
    ) -> ShardResult:
        """Write a shard; arguments as in `write_features`."""


@dataclasses.dataclass(frozen=True)
class FeaturizeProgress:
    """Progress of featurizing.

    Attributes:
        done: Tracks in finished shards.
        total: Tracks in the plan.
        done_now: Tracks in shards that this run finished.
        rejected_now: Rejects in shards that this run finished.
        nodes: Nodes of the cluster; None on a single machine.
    """

    done: int
    total: int
    done_now: int = 0
    rejected_now: int = 0
    nodes: int | None = None


def featurize(
    music: str,
    folder: str | os.PathLike[str] | StoragePath,
    config: FeaturizeConfig,
    workers: int | None = None,
    retry_rejects: bool = False,
    on_progress: Callable[[FeaturizeProgress], None] = lambda progress: None,
    make_shard: ShardMaker = write_features,
    allowed_buckets: Collection[str] = (),
    layout: str | None = None,
    columns: str | None = None,
) -> Summary:
    """Build the dataset of a collection, or its missing shards.

    Args:
        music: Folder of class folders, or table of tracks; a path or a URI.
        folder: Dataset folder; a path or a URI.
        config: Settings.
        workers: Maximum number of worker processes; None for one per core, on a cluster per core of every node.
        retry_rejects: Whether rejected tracks of the existing dataset are tried again.
        on_progress: Called before the first shard, after each shard, and every few seconds.
        make_shard: Function that writes one shard, called in a worker.
        allowed_buckets: Names of buckets, besides its own, that a table may name files in.
        layout: Layout of the collection; None to recognize it.
        columns: Columns of a table by role, as in `build_catalog`.

    Returns:
        Summary of the complete dataset. The caller checks the share of rejects with `refuse_too_many_rejects`.

    Raises:
        FeaturizeError: The collection or the folder cannot be used, the folder holds other files, or a worker
            failed.
    """
    folder = StoragePath.of(folder)
    refuse_undecodable(StoragePath.of(music))
    catalog = build_catalog(music, allowed_buckets, read_table_apart, layout, columns)
    with explain_os_errors(folder):
        refuse_foreign_dataset_folder(folder)
    with only_run_in(folder), explain_os_errors(folder), ExitStack() as stack:
        if on_cluster():
            stack.enter_context(ray_workers(workers))
            on_progress = with_ray_metrics(on_progress, str(folder))
            refuse_unseen([StoragePath.of(music)], folder)
        folder.remove_leftovers()
        write_music(folder, catalog.root)
        previous = read_plan(folder)
        lost = previous is None
        groups = known_groups(catalog, config, previous)
        on_workers = on_cluster() or count_unread(groups) > _TAGS_AT_ONCE
        if on_workers:
            stack.enter_context(ray_workers(workers))
        tags = read_all_tags(folder, catalog, groups, on_workers)
        groups = add_tags(catalog, groups, tags)
        plan = make_plan(catalog, config, previous, groups)
        finished = list_shards(folder)
        if lost and not finished <= set(plan.names):
            # The collection or the settings have changed since the plan was made that is missing here.
            previous = _recover_plan(folder, finished, catalog, groups, plan.settings)
            plan = make_plan(catalog, config, previous, groups)
        for remark in plan.remarks:
            _log.warning(remark)
        # The names of shards tell nothing about groups.
        ids = one_array(catalog.tracks["track"])
        saved = previous and not lost and has_groups(previous, groups.grouping, ids, groups.groups)
        del catalog, groups, previous, tags, ids  # memory of a million tracks; the plan has its own columns
        retried = _shards_with_rejects(folder, plan, finished) if retry_rejects else set()
        missing = [i for i, name in enumerate(plan.names) if name not in finished or name in retried]
        if saved and not missing and (summary := _already_complete(folder, plan, finished)):
            return summary
        # Until `finish` writes it again, readers must not take the folder for a complete dataset.
        (folder / "dataset.json").remove()
        plan.save(folder)
        forget_tags(folder)
        total = len(plan.tracks)
        done = total - sum(int(plan.bounds[i + 1] - plan.bounds[i]) for i in missing)
        on_progress(FeaturizeProgress(done, total))
        made: dict[str, ShardRecord] = {}
        if missing:
            # Importing librosa takes 2 s and 150 MB: a separate process does it while Ray starts.
            with SubprocessTask[str]() as process:
                process.submit("filters", Filters.from_librosa, plan.settings)
                stack.enter_context(ray_workers(workers))
                filters = process.result()
            # The largest first, so that no worker is left with one at the end.
            shard_bytes = plan.shard_bytes()
            missing.sort(key=lambda position: -shard_bytes[position])
            sources = RowSources(folder, finished - set(plan.names), plan.settings)
            plans = _shard_plans(plan, missing, sources, retried, retry_rejects)
            pool: RayTaskPool[PlanAttempts] = RayTaskPool(workers)
            done_now = rejected_now = 0
            damaged: list[str] = []

            def report() -> None:
                on_progress(FeaturizeProgress(done + done_now, total, done_now, rejected_now, pool.nodes))

            shared = pool.share(filters)
            for result in run_with_retries(
                pool, plans, config.track_timeout, make_shard, folder, shared, on_wait=report
            ):
                made[result.name] = result.record
                done_now += result.tracks
                rejected_now += result.rejects
                damaged += result.damaged
                report()
            if damaged:
                _log.warning(describe_damaged(folder, sorted(damaged)))
        return finish(folder, plan, made)


def refuse_too_many_rejects(summary: Summary, config: FeaturizeConfig, folder: StoragePath) -> None:
    """Raise a FeaturizeError if more tracks were rejected than `max_reject_fraction` allows."""
    if summary.rejected > config.max_reject_fraction * summary.tracks or summary.rejected == summary.tracks:
        raise FeaturizeError(
            f"{summary.rejected} of {summary.tracks} tracks were rejected, more than "
            f"featurize.max_reject_fraction = {config.max_reject_fraction:g} allows. "
            f"{folder / 'rejects.parquet'} lists them with reasons. Fix the files and run again with "
            "--retry-rejects, or allow more with --set featurize.max_reject_fraction=..."
        )


def read_all_tags(folder: StoragePath, catalog: Catalog, groups: Groups, on_workers: bool) -> list[Tag]:
    """Return the tag of each file of `unread_files`; keep them in the folder in case that this run is interrupted.

    Args:
        folder: Dataset folder.
        catalog: Tracks of the collection.
        groups: Groups from `known_groups`.
        on_workers: Whether Ray workers read the tags; Ray must be running.
    """
    tag = groups.grouping
    kept = read_kept_tags(folder, tag) if count_unread(groups) else {}
    if kept:
        _log.info("The tags of %d files were read by an earlier run.", len(kept))
    started: dict[int, UnreadFiles] = {}

    def calls() -> Iterator[tuple[list[StoragePath | None], list[int], list[KeptTag | None], str]]:
        for index, files in enumerate(unread_files(catalog, groups, _TAGS_AT_ONCE)):
            started[index] = files
            known = [kept.get(key) for key in zip(files.tracks, files.sizes, strict=True)]
            yield files.paths, files.sizes, known, tag

    results = (
        run_all(read_new_tags, calls())
        if on_workers
        else enumerate(read_new_tags(*arguments) for arguments in calls())
    )
    tags: dict[int, list[Tag]] = {}
    same: dict[Tag, Tag] = {}  # an artist has many tracks, whose tags arrive as separate strings
    for index, found in results:
        files = started.pop(index)
        new = [position for position, (_, is_new) in enumerate(found) if is_new]
        if new:
            tracks, sizes = [files.tracks[i] for i in new], [files.sizes[i] for i in new]
            keep_tags(folder, tracks, sizes, [found[i][0] for i in new], tag)
        tags[index] = [same.setdefault(value.tag, value.tag) for value, _ in found]
    return [value for index in sorted(tags) for value in tags[index]]


def _recover_plan(
    folder: StoragePath, finished: set[str], catalog: Catalog, groups: Groups, settings: FeatureSettings
) -> PreviousPlan | None:
    """Rebuild a plan that is missing or broken beside finished shards, and log what was found."""
    previous = recover_plan(folder, finished, catalog, groups, settings)
    if previous:
        _log.warning(
            "%s is missing or broken: the plan of %d tracks was read from the footers of the %d shards.",
            folder / "tracks.parquet",
            len(previous.tracks),
            len(finished),
        )
    return previous


def _already_complete(folder: StoragePath, plan: Plan, finished: set[str]) -> Summary | None:
    """Return the summary of the dataset if it matches the plan and its tables are whole, else None."""
    try:
        info = read_info(folder)
        read_table(folder / "rejects.parquet", schema=REJECTS_SCHEMA)
        read_table(folder / "duplicates.parquet", schema=DUPLICATES_SCHEMA)
        sizes = read_to_open(folder, info) if info else None
    except (FeaturizeError, *UNREADABLE):
        return None
    if info is None or sizes is None or finished != set(plan.names) or info.plan != plan_id(plan.names):
        return None
    if dict(zip(sizes["name"].to_pylist(), sizes["bytes"].to_pylist(), strict=True)) != shard_sizes(folder):
        return None
    stored = (info.classes, info.settings, info.tracks, info.layout)
    same = stored == (plan.classes, plan.settings, len(plan.tracks), plan.layout)
    return summarize(info) if same else None


def _shards_with_rejects(folder: StoragePath, plan: Plan, finished: set[str]) -> set[str]:
    """Return the names of finished shards that have rejects or cannot be read."""
    names = sorted(finished & set(plan.names))
    rejects_of_shards = in_threads(lambda name: read_rejects(folder, name), names)
    return {name for name, rejects in zip(names, rejects_of_shards, strict=True) if rejects is None or rejects}


def _shard_plans(
    plan: Plan, missing: list[int], sources: RowSources, retried: set[str], retry_rejects: bool
) -> Iterator[ShardPlan]:
    """Yield the plans of the missing shards, each with the names of the shards that have rows of its tracks."""
    for position in missing:
        name = plan.names[position]
        first, stop = plan.bounds[position : position + 2]
        tracks = plan.tracks["track"].slice(first, stop - first).to_pylist()
        yield plan.shard(position, (name,) if name in retried else sources.of(tracks), retry_rejects)


@contextmanager
def explain_os_errors(folder: StoragePath) -> Iterator[None]:
    """Turn I/O errors (full disk, lost mount, denied bucket) into errors that state how to continue."""
    try:
        yield
    except OSError as error:
        raise FeaturizeError(f"cannot write to {folder}: {describe(error)}. {_KEPT}") from error
    except CollectionLostError as error:
        raise CollectionLostError(f"{error} {_KEPT}") from error
