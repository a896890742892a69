"""From a collection to a dataset: plan the shards, let Ray make those that are not there yet, finish.

Ray is imported inside the functions: it reads how to authenticate when it is imported, which is after this
module has had its say.
"""

import dataclasses
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from featurize.catalog import build_catalog
from featurize.config import FeaturizeConfig
from featurize.dataset import list_shards, remove_leftovers
from featurize.errors import FeaturizeError
from featurize.finish import Summary, finish, summarize
from featurize.lock import only_run_in
from featurize.shards import ShardPlan, dataset_id, plan_shards
from featurize.worker import ShardResult, write_features

# Ray spreads the work over processes; threads inside them would only fight over the same cores. Read by the
# libraries when they load, hence in the environment of the worker and not in its code.
_ONE_THREAD = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "NUMBA", "VECLIB")
}
# Enough in Ray's queue that no worker waits for the driver, few enough that the driver's memory is bounded.
_TASKS_PER_WORKER = 3
_RAY_OBJECT_STORE_BYTES = 128 << 20  # rows never travel through Ray, so its smallest store will do


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far featurizing is: tracks done of all, of them by this run, and rejects seen by this run."""

    done: int
    total: int
    done_now: int
    rejected_now: int


def featurize(
    music: str,
    folder: Path,
    config: FeaturizeConfig,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_remark: Callable[[str], None] = lambda remark: None,
) -> Summary:
    """Make the dataset of a collection, or what is still missing of it.

    Args:
        music: a folder of class folders, or a table of tracks.
        folder: where the dataset goes.
        config: the settings.
        workers: processes at work at once; None for one per core.
        on_progress: called after each shard, and once before the first.
        on_remark: called with each sentence that the owner of the collection may want to read.

    Returns:
        the figures of the finished dataset. Whether too many tracks were rejected is for
        `refuse_too_many_rejects` to say.

    Raises:
        FeaturizeError: the collection or the folder cannot be used, or a worker failed.
    """
    catalog = build_catalog(music, config)
    for remark in catalog.remarks:
        on_remark(remark)
    plans = plan_shards(catalog, config)
    folder = folder.absolute()  # a worker may run in another one
    with only_run_in(folder):
        remove_leftovers(folder)
        finished = list_shards(folder)
        missing = [plan for plan in plans if plan.name not in finished]
        if not missing and (summary := _already_complete(folder, plans, finished)):
            return summary
        # From here to the end the folder is not a dataset, and nobody may take it for one.
        (folder / "dataset.json").unlink(missing_ok=True)
        total = len(catalog.tracks)
        done = total - sum(len(plan.tracks) for plan in missing)
        on_progress(Progress(done, total, 0, 0))
        done_now = rejected_now = 0
        if missing:
            with _local_ray(workers):
                for result in _make_shards(missing, folder):
                    done_now += result.tracks
                    rejected_now += result.rejects
                    on_progress(Progress(done + done_now, total, done_now, rejected_now))
        return finish(folder, catalog, plans)


def refuse_too_many_rejects(summary: Summary, config: FeaturizeConfig, folder: Path) -> None:
    """Raise a FeaturizeError where more tracks were rejected than `max_reject_fraction` allows."""
    if summary.rejected > config.max_reject_fraction * summary.tracks or summary.rejected == summary.tracks:
        raise FeaturizeError(
            f"{summary.rejected} of {summary.tracks} tracks were rejected, more than "
            f"featurize.max_reject_fraction = {config.max_reject_fraction:g} allows. "
            f"{folder / 'rejects.parquet'} names each of them and why. Mend the files and run again, or allow "
            "more with --set featurize.max_reject_fraction=..."
        )


def _already_complete(folder: Path, plans: Sequence[ShardPlan], finished: set[str]) -> Summary | None:
    """Return the figures of the dataset that lies in the folder if it is the planned one, else None."""
    names = {plan.name for plan in plans}
    try:
        info = json.loads((folder / "dataset.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    return summarize(info) if finished == names and info.get("id") == dataset_id(sorted(names)) else None


def _make_shards(plans: Sequence[ShardPlan], folder: Path) -> Iterator[ShardResult]:
    """Give the plans to Ray, a bounded number at a time, and yield the results as they come."""
    import ray
    from ray.exceptions import RayError

    task = ray.remote(num_cpus=1, max_retries=2)(write_features)
    in_flight: dict[Any, ShardPlan] = {}
    waiting = iter(plans)
    limit = _TASKS_PER_WORKER * int(ray.cluster_resources()["CPU"])
    while True:
        for plan in waiting:
            in_flight[task.remote(plan, folder)] = plan
            if len(in_flight) >= limit:
                break
        if not in_flight:
            return
        (ready, *_), _ = ray.wait(list(in_flight), num_returns=1)
        plan = in_flight.pop(ready)
        try:
            yield ray.get(ready)
        except OSError as error:
            original = getattr(error, "cause", error)  # behind Ray's, whose text is the worker's traceback
            raise FeaturizeError(
                f"cannot write {folder / 'shards' / plan.name}: {original.strerror or original}. Finished shards "
                "are kept; mend it and run the same command again to go on."
            ) from error
        except RayError as error:
            raise FeaturizeError(
                f"a worker failed on {plan.name} ({plan.tracks[0].id} to {plan.tracks[-1].id}): {error}"
            ) from error


@contextmanager
def _local_ray(workers: int | None) -> Iterator[None]:
    """Run Ray on this machine for as long as it is needed; a Ray that already runs here is used as it is."""
    if "ray" not in sys.modules:
        # Ray listens on every interface. A token of this run's own keeps others out and, unlike the one that
        # Ray would make, is not left in the home directory.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    if ray.is_initialized():
        yield
        return
    on_sigterm = signal.getsignal(signal.SIGTERM)
    ray.init(
        address="local",
        num_cpus=workers,  # None: as many as this machine, or its container, has
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=_RAY_OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": _ONE_THREAD},
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in the place of the caller's
    try:
        yield
    finally:
        ray.shutdown()
