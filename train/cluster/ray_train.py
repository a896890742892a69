"""Training on the nodes of a Ray cluster: one worker with its GPUs, or several workers that train one model.

The training loop is the same as on a laptop. Ray Train starts it on each worker, tells the workers each other's
addresses (TF_CONFIG), and restarts all of them if one is lost; they continue from the run's own checkpoints. One
worker, the chief, writes files and reports progress through the actor of `train.cluster.progress_channel`.
"""

import logging
import os
import queue
import socket
import tempfile
import threading
import time
from contextlib import nullcontext, suppress
from typing import Any

import pyarrow as pa
import ray
import ray.train
from ray.util.placement_group import placement_group, remove_placement_group

from featurize.dataset.dataset import open_dataset
from featurize.errors import DatasetError
from featurize.storage import StoragePath
from train.callbacks import Callbacks
from train.cluster.progress_channel import (
    RemoteCallbacks,
    describe_cluster,
    logging_to,
    relay_progress,
    start_progress_channel,
)
from train.cluster.training_metrics import report_to_ray
from train.config import TrainConfig
from train.errors import Stopped, TrainError
from train.run import Run
from train.score_records import Metrics

# Selects the nodes for all that needs TensorFlow. In cluster.yaml and jobs/rayjob.yaml, nodes with the packages of
# featurization only have the label `earmark/packages: featurize`; nodes without a label have all packages.
HAS_TENSORFLOW = {"earmark/packages": "!featurize"}
_RESTARTS = 8  # of all workers, each after one was lost
_SECONDS_BETWEEN_POLLS = 1.0
_SECONDS_BETWEEN_MESSAGES = 30.0
_SECONDS_TO_END = 10.0  # of the workers, after they have stopped

_log = logging.getLogger(__name__)


def learn_on_cluster(
    features: StoragePath, run: Run, config: TrainConfig, callbacks: Callbacks, metrics: bool
) -> None:
    """Train the model of a run that has begun, on workers of the cluster that this process is attached to.

    Args:
        features: Dataset folder, visible to every node.
        run: Run folder, visible to every node.
        config: Train settings; `device` is cpu or gpu, because nodes that do not exist yet cannot be inspected.
        callbacks: Receive progress; may request a stop.
        metrics: Whether the workers report metrics to Ray, whose nodes export them on a cluster.

    Raises:
        Stopped: The callbacks asked for it, and a checkpoint holds what was done.
        TrainError: No nodes came, workers were lost too often, or what `train.fit.trainer.learn` raises.
    """
    from ray.train.tensorflow import (
        TensorflowTrainer,  # imports TensorFlow, which the channel's actor does not need
    )

    bundle = config.worker_resources
    _wait_for_room([bundle] * config.workers, config.wait_minutes, callbacks, run)
    channel = start_progress_channel()
    ended: queue.Queue[BaseException | None] = queue.Queue()
    scratch = run.folder / "ray-train"
    scratch.remove_folder()  # of a run that was killed
    trainer = TensorflowTrainer(
        _work,
        train_loop_config={
            "features": features,
            "run": run.folder,
            "config": config,
            "channel": channel,
            "metrics": metrics,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.workers,
            use_gpu="GPU" in bundle,
            resources_per_worker=bundle,
            label_selector=HAS_TENSORFLOW,
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

    # In a thread: the main thread receives signals and relays the chief's messages.
    threading.Thread(target=fit, daemon=True).start()
    try:
        error = relay_progress(channel, ended, callbacks, run, config.wait_minutes)
    except Stopped:
        with suppress(queue.Empty):  # the workers end, and then Ray Train writes its last files
            ended.get(timeout=_SECONDS_TO_END)
        raise
    finally:
        scratch.remove_folder()  # Ray Train's own files
    if error:
        *_, last = [type(error).__name__, *str(error).strip().splitlines()]
        raise TrainError(
            f"the training workers were lost or failed {_RESTARTS + 1} times: {last} Checkpoints are kept: the "
            "same command continues from the latest. Logs: /tmp/ray/session_latest/logs on the workers' nodes"
        ) from error


def evaluate_on_cluster(features: StoragePath, run: Run, config: TrainConfig, trust_code: bool = False) -> Metrics:
    """Evaluate a trained run and write its report, on a node that has what one training worker needs.

    Raises:
        DatasetError, TrainError: As `train.evaluation.evaluate.evaluate_run`; also if no such node came.
    """
    bundle = config.worker_resources
    _wait_for_room([bundle], config.wait_minutes, Callbacks(), run)
    remote = ray.remote(
        num_cpus=bundle["CPU"],
        num_gpus=bundle.get("GPU", 0),
        max_retries=_RESTARTS,
        label_selector=HAS_TENSORFLOW,
    )(_evaluate)
    try:
        metrics: Metrics = ray.get(remote.remote(features, run.folder, trust_code))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return metrics


def _wait_for_room(bundles: list[dict[str, float]], minutes: float, callbacks: Callbacks, run: Run) -> None:
    """Wait until the cluster has room for some workers; waiting makes an autoscaler start nodes.

    Raises:
        Stopped: The callbacks asked for it.
        TrainError: There was no room within `train.wait_minutes`.
    """
    needs = f"{len(bundles)} worker{'s' if len(bundles) > 1 else ''} with {_describe(bundles[0])} each"
    selectors = [HAS_TENSORFLOW] * len(bundles)
    group = placement_group(bundles, strategy="SPREAD", bundle_label_selector=selectors)
    start = next_message = time.monotonic()
    try:
        while not group.wait(_SECONDS_BETWEEN_POLLS):
            if (signum := callbacks.stop()) is not None:
                raise Stopped(signum, run.latest_step())
            now = time.monotonic()
            if now - start > 60 * minutes:
                raise TrainError(
                    f"the cluster had no room for {needs} in {minutes:g} minutes: {describe_cluster()}. Add "
                    "nodes, or let the autoscaler add them (ray status shows what it does); wait longer with "
                    "train.wait_minutes; or ask for less: train.workers, train.gpus_per_worker, and "
                    "train.device=cpu to train without GPUs. What is finished is kept."
                )
            if now >= next_message:
                waited = f"{(now - start) / 60:.1f} of {minutes:g} minutes"
                _log.info("Waiting for room for %s (%s): %s.", needs, waited, describe_cluster())
                next_message = now + _SECONDS_BETWEEN_MESSAGES
    finally:
        remove_placement_group(group)


def _describe(bundle: dict[str, float]) -> str:
    return " and ".join(f"{count:g} {kind}{'s' if count > 1 else ''}" for kind, count in bundle.items())


def _work(given: dict[str, Any]) -> None:
    """Train, in the process of a worker."""
    from train.fit.trainer import learn

    _read_on_all_cores()
    channel, config = given["channel"], given["config"]
    if ray.get(channel.has_failed.remote()):
        return  # restarted after an error that a restart cannot fix
    rank, run = ray.train.get_context().get_world_rank(), Run(given["run"])
    is_chief = rank == 0
    measured = report_to_ray(str(run.folder), rank) if given["metrics"] else Callbacks().measured
    with tempfile.TemporaryDirectory() as scratch, logging_to(channel) if is_chief else nullcontext():
        try:
            if not run.info():
                raise TrainError(
                    f"{run.folder} does not exist on {socket.gethostname()}, a node that should train. Mount "
                    "it on every node at the same path, or use a URI."
                )
            learn(
                open_dataset(given["features"]),
                run,
                config,
                RemoteCallbacks(channel, measured) if is_chief else Callbacks(measured=measured),
                scratch=None if is_chief else Run(scratch),
            )
        except Stopped as stopped:
            ray.get(channel.post.remote("stopped", (stopped.signal, stopped.step)))
        except (TrainError, DatasetError) as error:
            ray.get(channel.post.remote("failed", str(error)))
            raise


def _evaluate(features: StoragePath, run_folder: StoragePath, trust_code: bool) -> Metrics:
    """Evaluate and write the report, in the process of a worker."""
    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page

    _read_on_all_cores()
    run, dataset = Run(run_folder), open_dataset(features)
    metrics = evaluate_run(run, dataset, trust_code)
    write_run_page(run, dataset)
    return metrics


def _read_on_all_cores() -> None:
    """Give Arrow all cores again: for workers, Ray limits all libraries to the CPUs that they ask for."""
    pa.set_cpu_count(os.cpu_count() or 1)
