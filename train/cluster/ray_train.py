"""Training on the nodes of a Ray cluster: one worker with its GPUs, or several that train together.

The loop is the one that trains on a laptop. Ray Train starts it on each worker, tells the workers of one another
(TF_CONFIG), and starts all of them again where one is lost; what they go on from are the run's own checkpoints.
One worker, the chief, writes and speaks; what it says goes through an actor beside the driver.
"""

import os
import queue
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import ray
import ray.train
from ray.util.placement_group import placement_group, remove_placement_group

from featurize.dataset.dataset import open_dataset
from featurize.errors import DatasetError
from featurize.storage import StoragePath
from train.callbacks import Callbacks, Stopped
from train.cluster.progress_channel import (
    RemoteCallbacks,
    cluster_in_words,
    relay_progress,
    start_progress_channel,
)
from train.config import TrainConfig, TrainError
from train.records import Metrics
from train.run import Run

_RESTARTS = 8  # of all workers, each after one was lost
_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_BETWEEN_SENTENCES = 30.0


def learn_on_cluster(features: StoragePath, run: Run, config: TrainConfig, callbacks: Callbacks) -> None:
    """Train the model of a run that is begun on workers of the cluster that this process is attached to.

    Args:
        features: the dataset, where every node sees it.
        run: where everything goes, where every node sees it.
        config: the settings; its device is cpu or gpu, for what a cluster may still get cannot be looked up.
        callbacks: Receive progress; may request a stop.

    Raises:
        Stopped: the listener asked for it, and a checkpoint holds what was done.
        TrainError: the nodes did not come, workers were lost too often, or what `train.fit.trainer.learn` raises.
    """
    from ray.train.tensorflow import TensorflowTrainer  # loads TensorFlow, which the office does without

    bundle = _resources(config)
    _wait_for_room([bundle] * config.workers, config.wait_minutes, callbacks, run)
    channel = start_progress_channel()
    ended: queue.Queue[BaseException | None] = queue.Queue()
    scratch = run.folder / "ray-train"
    trainer = TensorflowTrainer(
        _work,
        train_loop_config={
            "features": str(features),
            "run": str(run.folder),
            "config": config,
            "office": channel,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers,
            use_gpu="GPU" in bundle,
            resources_per_worker=bundle,
            placement_strategy="SPREAD",
        ),
        run_config=ray.train.RunConfig(
            name="run",
            storage_path=scratch.path,
            storage_filesystem=scratch.filesystem,
            failure_config=ray.train.FailureConfig(max_failures=_RESTARTS),
        ),
    )

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    # Beside the main thread, which hears signals and passes on what the chief says.
    threading.Thread(target=fit, daemon=True).start()
    error = relay_progress(channel, ended, callbacks, run, config.wait_minutes)
    scratch.remove_folder()  # Ray Train's own notes
    if error:
        *_, last = [type(error).__name__, *str(error).strip().splitlines()]
        raise TrainError(
            f"the training workers were lost or failed {_RESTARTS + 1} times: {last} Checkpoints are kept: the "
            "same command goes on from the latest. Their logs: /tmp/ray/session_latest/logs on their nodes"
        ) from error


def evaluate_on_cluster(
    features: StoragePath, run: Run, config: TrainConfig, remark: Callable[[str], None]
) -> Metrics:
    """Evaluate a trained run, see `evaluate_run`, on a node that has what one training worker needs.

    Raises:
        DatasetError, TrainError: as `judge`; also where no such node came.
    """
    bundle = _resources(config)
    _wait_for_room([bundle], config.wait_minutes, Callbacks(remark), run)
    remote = ray.remote(num_cpus=bundle["CPU"], num_gpus=bundle.get("GPU", 0), max_retries=_RESTARTS)(_evaluate)
    try:
        metrics: Metrics = ray.get(remote.remote(str(features), str(run.folder)))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return metrics


def _resources(config: TrainConfig) -> dict[str, float]:
    """Return what one worker takes of its node."""
    return {"CPU": 1} if config.device == "cpu" else {"CPU": 1, "GPU": config.gpus_per_worker}


def _wait_for_room(bundles: list[dict[str, float]], minutes: float, callbacks: Callbacks, run: Run) -> None:
    """Wait until the cluster has room for some workers, which makes it start nodes for them where it can.

    Raises:
        Stopped: the listener asked for it.
        TrainError: it has no room in the time that `train.wait_minutes` gives.
    """
    needs = f"{len(bundles)} worker{'s' if len(bundles) > 1 else ''} with {_in_words(bundles[0])} each"
    group = placement_group(bundles, strategy="SPREAD")
    begun = next_sentence = time.monotonic()
    try:
        while not group.wait(_SECONDS_BETWEEN_POLLS):
            if (signum := callbacks.stop()) is not None:
                raise Stopped(signum, run.latest_step())
            now = time.monotonic()
            if now - begun > 60 * minutes:
                raise TrainError(
                    f"the cluster had no room for {needs} in {minutes:g} minutes: {cluster_in_words()}. Add "
                    "nodes, or let the autoscaler (ray status tells what it does); wait longer by "
                    "train.wait_minutes; or ask for less: train.workers, train.gpus_per_worker, and "
                    "train.device=cpu for training without GPUs. What is finished is kept."
                )
            if now >= next_sentence:
                waited = f"{(now - begun) / 60:.1f} of {minutes:g} minutes"
                callbacks.remark(f"Waiting for room for {needs} ({waited}): {cluster_in_words()}.")
                next_sentence = now + _SECONDS_BETWEEN_SENTENCES
    finally:
        remove_placement_group(group)


def _in_words(bundle: dict[str, float]) -> str:
    return " and ".join(f"{count:g} {kind}{'s' if count > 1 else ''}" for kind, count in bundle.items())


def _work(given: dict[str, Any]) -> None:
    """Train, in the process of a worker."""
    from train.fit.trainer import learn

    _read_on_all_cores()
    channel, config = given["office"], given["config"]
    if ray.get(channel.has_failed.remote()):
        return  # started again though no start can mend it
    rank, run = ray.train.get_context().get_world_rank(), Run(given["run"])
    with tempfile.TemporaryDirectory() as scratch:
        try:
            if not run.info():
                raise TrainError(
                    f"{run.folder} is not there on {socket.gethostname()}, a node that is to train. Mount it on "
                    "every node at the same path, or use a URI."
                )
            learn(
                open_dataset(given["features"]),
                run,
                config,
                RemoteCallbacks(channel) if rank == 0 else Callbacks(),
                apart=Run(scratch) if rank else None,
            )
        except Stopped as stopped:
            ray.get(channel.post.remote("stopped", (stopped.signal, stopped.step)))
        except (TrainError, DatasetError) as error:
            ray.get(channel.post.remote("failed", str(error)))
            raise


def _evaluate(features: str, run_folder: str) -> Metrics:
    """Evaluate and write the report, in the process of a worker."""
    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page

    _read_on_all_cores()
    run, dataset = Run(run_folder), open_dataset(features)
    metrics = evaluate_run(run, dataset)
    write_run_page(run, dataset)
    return metrics


def _read_on_all_cores() -> None:
    """Undo for Arrow what Ray sets for all libraries: one thread for each CPU asked for."""
    pa.set_cpu_count(os.cpu_count() or 1)
