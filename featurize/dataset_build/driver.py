"""From a collection to a dataset: plan the shards, have those made that are not there yet, finish."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from featurize.audio.mfcc import Filters
from featurize.collection.catalog import build_catalog
from featurize.collection.tags import read_tags
from featurize.config import FeaturizeConfig
from featurize.dataset.footer import read_rejects
from featurize.dataset.info import read_info
from featurize.dataset.music_root import write_music
from featurize.dataset.reader import in_threads, list_shards
from featurize.dataset.schema import part_of
from featurize.dataset_build.finalize import Summary, finish, summarize
from featurize.dataset_build.worker import ShardResult, write_features
from featurize.errors import CollectionLostError, FeaturizeError, Reject
from featurize.execution.folder_lock import only_run_in
from featurize.execution.node_mounts import refuse_unseen
from featurize.execution.ray_tasks import RayTaskPool, on_cluster, ray_workers, run_all
from featurize.execution.retries import PlanAttempts, run_with_retries
from featurize.execution.subprocess_task import SubprocessTask
from featurize.planning.groups import add_tags, known_groups, unread_files
from featurize.planning.plan import Plan, make_plan
from featurize.planning.previous_plan import read_plan
from featurize.planning.shard_plan import ShardPlan, plan_id
from featurize.storage import StoragePath, describe

_KEPT = "Finished shards are kept; mend it and run the same command again to go on."
_TAGS_AT_ONCE = 2000  # files; with more of them to read, the workers share the work


class ShardMaker(Protocol):
    """What makes a shard: `write_features`, or what stands in for it when the driver itself is measured."""

    def __call__(
        self,
        plan: ShardPlan,
        folder: StoragePath,
        filters: Filters,
        track_timeout: float | None,
        excluded: dict[str, Reject],
    ) -> ShardResult:
        """Write the shard."""


@dataclasses.dataclass(frozen=True)
class FeaturizeProgress:
    """How far featurizing is: tracks done of all, of them by this run, rejects seen by this run; nodes at work."""

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
) -> Summary:
    """Make the dataset of a collection, or what is still missing of it.

    Args:
        music: a folder of class folders, or a table of tracks; a path or a URI.
        folder: where the dataset goes; a path or a URI.
        config: the settings.
        workers: processes at work at once; None for one per core, on a cluster of each node that is there.
        retry_rejects: try again the tracks that are rejects in the dataset as it is.
        on_progress: called after each shard and every few seconds, and once before the first.
        make_shard: makes one shard, in a worker.

    Returns:
        the figures of the finished dataset. Whether too many tracks were rejected is for
        `refuse_too_many_rejects` to say.

    Raises:
        FeaturizeError: the collection or the folder cannot be used, or a worker failed.
    """
    folder = StoragePath.of(folder)
    catalog = build_catalog(music)
    with only_run_in(folder), _explained(folder), ExitStack() as stack:
        if on_cluster():
            stack.enter_context(ray_workers(workers))
            refuse_unseen([StoragePath.of(music)], folder)
        folder.remove_leftovers()
        write_music(folder, catalog.root)
        previous = read_plan(folder)
        groups = known_groups(catalog, config, previous)
        unread = unread_files(catalog, groups)
        if on_cluster() or len(unread) > _TAGS_AT_ONCE:
            stack.enter_context(ray_workers(workers))
            tags = _read_tags_on_workers(unread, config.group_by)
        else:
            tags = read_tags(unread, config.group_by)
        groups = add_tags(catalog, groups, tags)
        plan = make_plan(catalog, config, previous, groups)
        del catalog, groups, previous, tags, unread  # of a million tracks; the plan has its own columns
        finished = list_shards(folder)
        again = _with_rejects(folder, plan, finished) if retry_rejects else set()
        missing = [i for i, name in enumerate(plan.names) if name not in finished or name in again]
        if not missing and (summary := _already_complete(folder, plan, finished)):
            return summary
        # From here to the end the folder is not a dataset, and nobody may take it for one.
        (folder / "dataset.json").remove()
        plan.save(folder)
        total = len(plan.tracks)
        done = total - sum(int(plan.bounds[i + 1] - plan.bounds[i]) for i in missing)
        on_progress(FeaturizeProgress(done, total))
        if missing:
            # librosa takes two seconds and 150 MB, which this process need not spend.
            with SubprocessTask[str]() as apart:
                apart.submit("filters", Filters.from_librosa)
                stack.enter_context(ray_workers(workers))
                filters = apart.result()
            plans = _with_predecessors(plan, missing, finished, again)
            pool: RayTaskPool[PlanAttempts] = RayTaskPool(workers)
            done_now = rejected_now = 0

            def report() -> None:
                on_progress(FeaturizeProgress(done + done_now, total, done_now, rejected_now, pool.nodes))

            shared = pool.share(filters)
            for result in run_with_retries(
                pool, plans, config.track_timeout, make_shard, folder, shared, on_wait=report
            ):
                done_now += result.tracks
                rejected_now += result.rejects
                report()
        return finish(folder, plan)


def refuse_too_many_rejects(summary: Summary, config: FeaturizeConfig, folder: StoragePath) -> None:
    """Raise a FeaturizeError where more tracks were rejected than `max_reject_fraction` allows."""
    if summary.rejected > config.max_reject_fraction * summary.tracks or summary.rejected == summary.tracks:
        raise FeaturizeError(
            f"{summary.rejected} of {summary.tracks} tracks were rejected, more than "
            f"featurize.max_reject_fraction = {config.max_reject_fraction:g} allows. "
            f"{folder / 'rejects.parquet'} names each of them and why. Mend the files and run again with "
            "--retry-rejects, or allow more with --set featurize.max_reject_fraction=..."
        )


def _read_tags_on_workers(files: list[StoragePath], tag: str) -> list[str | None]:
    """Do what `read_tags` does, on Ray's workers."""
    calls = ((files[i : i + _TAGS_AT_ONCE], tag) for i in range(0, len(files), _TAGS_AT_ONCE))
    return [group for part in run_all(read_tags, calls) for group in part]


def _already_complete(folder: StoragePath, plan: Plan, finished: set[str]) -> Summary | None:
    """Return the figures of the dataset that lies in the folder if it is the planned one, else None."""
    try:
        info = read_info(folder)
    except FeaturizeError:
        return None
    complete = info is not None and finished == set(plan.names) and info.plan == plan_id(plan.names)
    return summarize(info) if info and complete else None


def _with_rejects(folder: StoragePath, plan: Plan, finished: set[str]) -> set[str]:
    """Return the shards that have rejects, or cannot be read."""
    names = sorted(finished & set(plan.names))
    found = in_threads(lambda name: read_rejects(folder, name), names)
    return {name for name, rejects in zip(names, found, strict=True) if rejects is None or rejects}


def _with_predecessors(plan: Plan, missing: list[int], finished: set[str], again: set[str]) -> Iterator[ShardPlan]:
    """Yield the work for the missing shards, each with the shard whose rows it may take over."""
    before = {part_of(name): name for name in sorted(finished - set(plan.names))}
    for index in missing:
        name = plan.names[index]
        previous = name if name in again else before.get(part_of(name))
        yield plan.shard(index, previous, name in again)


@contextmanager
def _explained(folder: StoragePath) -> Iterator[None]:
    """Say of a full disk, a lost mount or a denied bucket what it means for the run."""
    try:
        yield
    except OSError as error:
        raise FeaturizeError(f"cannot write to {folder}: {describe(error)}. {_KEPT}") from error
    except CollectionLostError as error:
        raise CollectionLostError(f"{error} {_KEPT}") from error
