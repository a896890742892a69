"""For how many training workers a cluster has room."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from train.callbacks import Callbacks
from train.cluster.progress_channel import describe_cluster
from train.config import TrainConfig
from train.errors import Stopped, TrainError
from train.run import Run

# Selects the nodes for all that needs TensorFlow. In cluster.yaml and jobs/rayjob.yaml, nodes with the packages of
# featurization only have the label `earmark/packages: featurize`; nodes without a label have all packages.
HAS_TENSORFLOW = {"earmark/packages": "!featurize"}
_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_BETWEEN_MESSAGES = 30.0
_SECONDS_FOR_MORE = 5.0  # to find room for more workers than the fewest; nodes that start later are added later

_log = logging.getLogger(__name__)


class Room:
    """Reservations in placement groups, each of the resources of one worker.

    Ray's own scheduler decides which can be placed, so that resources, labels and nodes that are lost or about to
    be preempted count as they do for the workers. Those that cannot be placed make an autoscaler start nodes.
    """

    def __init__(self, bundle: dict[str, float], workers: int) -> None:
        """Request room for some workers."""
        self._groups: list[PlacementGroup] = [
            placement_group([bundle], bundle_label_selector=[HAS_TENSORFLOW]) for _ in range(workers)
        ]

    def found(self) -> int:
        """Return the number of workers that there is room for now."""
        return sum(placement_group_table(group)["state"] == "CREATED" for group in self._groups)

    def release(self) -> None:
        """Give up the reservations."""
        for group in self._groups:
            remove_placement_group(group)
        self._groups = []


@contextmanager
def _requested(bundle: dict[str, float], workers: int) -> Iterator[Room]:
    room = Room(bundle, workers)
    try:
        yield room
    finally:
        room.release()


def wait_for_room(config: TrainConfig, callbacks: Callbacks, run: Run) -> int:
    """Wait until the cluster has room for the workers; waiting makes an autoscaler start nodes.

    Args:
        config: Settings; `device` is cpu or gpu.
        callbacks: May request a stop.
        run: Run folder.

    Returns:
        The number of workers to use: the largest number that there is room for within some seconds, as soon as
        that is enough.

    Raises:
        Stopped: The callbacks asked for it.
        TrainError: There was no room within `train.wait_minutes`.
    """
    bundle, minutes = config.worker_resources, config.wait_minutes
    needs = f"{_describe_workers(config)} with {_describe(bundle)} each"
    start = next_message = time.monotonic()
    with _requested(bundle, config.worker_range.most) as room:
        while True:
            workers = config.worker_range.number_for(room.found())
            now = time.monotonic()
            if workers == config.worker_range.most or (workers and now - start > _SECONDS_FOR_MORE):
                return workers
            if (signum := callbacks.stop()) is not None:
                raise Stopped(signum, run.latest_step())
            if now - start > 60 * minutes and not workers:
                raise TrainError(
                    f"the cluster had no room for {needs} in {minutes:g} minutes: {describe_cluster()}. Add "
                    "nodes, or let the autoscaler add them (ray status shows what it does); wait longer with "
                    "train.wait_minutes; or ask for less: train.workers, train.gpus_per_worker, and "
                    "train.device=cpu to train without GPUs. What is finished is kept."
                )
            if now >= next_message and not workers:
                waited = f"{(now - start) / 60:.1f} of {minutes:g} minutes"
                _log.info("Waiting for room for %s (%s): %s.", needs, waited, describe_cluster())
                next_message = now + _SECONDS_BETWEEN_MESSAGES
            time.sleep(_SECONDS_BETWEEN_POLLS)


def _describe_workers(config: TrainConfig) -> str:
    """Return the numbers of workers that can train in words: "1 worker", "2, 4 or 8 workers"."""
    usable = config.worker_range.usable
    if len(usable) > 1 and usable == [*range(usable[0], usable[-1] + 1)]:
        return f"{usable[0]} to {usable[-1]} workers"
    *others, last = map(str, usable)
    return (f"{', '.join(others)} or " if others else "") + f"{last} worker{'s' if usable != [1] else ''}"


def _describe(bundle: dict[str, float]) -> str:
    return " and ".join(f"{count:g} {kind}{'s' if count > 1 else ''}" for kind, count in bundle.items())
