"""Training on the nodes of a Ray cluster: one worker with its GPUs, or several workers that train one model.

The training loop is the same as on a laptop. Ray Train starts it on each worker, tells the workers each other's
addresses (TF_CONFIG), and ends all of them if one is lost. The driver then starts as many as there is room for,
which continue from the run's own checkpoints.

Ray Train's own elastic scaling is not used, for reasons that docs/architecture.md gives.
"""

import logging
import queue
import threading
from contextlib import suppress

import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train.v2.api.exceptions import PreemptionError

from featurize.dataset.dataset import open_dataset
from featurize.storage import StoragePath
from train.callbacks import Callbacks
from train.cluster.progress_channel import AttemptEnd, relay_progress, start_progress_channel
from train.cluster.restarts import MOST_FAILURES, Restarts
from train.cluster.room import HAS_TENSORFLOW, Room, wait_for_room
from train.cluster.worker import Assignment, WorkerConfig, read_on_all_cores, train_here
from train.config import TrainConfig
from train.errors import Stopped, TrainError
from train.run import Run
from train.score_records import Metrics

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
    restarts = Restarts(run.latest_step())
    while True:
        workers = wait_for_room(config, callbacks, run)
        end = _attempt(features, run, config, workers, callbacks, metrics)
        if not end.error:
            return
        cause = _describe_error(end.error)
        if not restarts.may_retry(run.latest_step(), end.announced or _is_preemption(end.error)):
            raise TrainError(
                f"the training workers were lost or failed {restarts.failures} times without a new checkpoint: "
                f"{cause} Checkpoints are kept: the same command continues from the latest. Logs: "
                "/tmp/ray/session_latest/logs on the workers' nodes"
            ) from end.error
        if not end.announced:
            failure = f"failure {restarts.failures} of at most {MOST_FAILURES} without a new checkpoint"
            _log.warning("Training workers were lost (%s; %s). All restart.", cause, failure)


def _attempt(
    features: StoragePath, run: Run, config: TrainConfig, workers: int, callbacks: Callbacks, metrics: bool
) -> AttemptEnd:
    """Train with some workers until they finish or end.

    Raises:
        Stopped, TrainError: As `relay_progress`.
    """
    from ray.train.tensorflow import TensorflowTrainer

    channel = start_progress_channel()
    ended: queue.Queue[BaseException | None] = queue.Queue()
    bundle = config.worker_resources
    scratch = run.folder / "ray-train"
    scratch.remove_folder()  # of an earlier attempt
    trainer = TensorflowTrainer(
        train_here,
        train_loop_config=Assignment(features, run.folder, config, channel, metrics),
        tensorflow_config=WorkerConfig(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu="GPU" in bundle,
            resources_per_worker=bundle,
            label_selector=HAS_TENSORFLOW,
            placement_strategy="SPREAD",
        ),
        run_config=ray.train.RunConfig(
            name="run",
            storage_path=scratch.path,
            storage_filesystem=scratch.filesystem,
            failure_config=ray.train.FailureConfig(
                max_failures=0, controller_failure_limit=0, max_preemption_failures=0
            ),
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
    growth = _Growth(run, config, workers)
    try:
        return relay_progress(channel, ended, callbacks, run, config.wait_minutes, growth.is_possible)
    except Stopped:
        with suppress(queue.Empty):  # the workers end, and then Ray Train writes its last files
            ended.get(timeout=_SECONDS_TO_END)
        raise
    finally:
        growth.end()
        ray.kill(channel)
        scratch.remove_folder()  # Ray Train's own files


class _Growth:
    """Looks for room for more workers while some train, and reserves it."""

    def __init__(self, run: Run, config: TrainConfig, workers: int) -> None:
        self._run, self._config, self._workers = run, config, workers
        self._first_step = run.latest_step()
        self._room: Room | None = None

    def is_possible(self) -> bool:
        """Return whether training should go on with more workers; called once the workers have started.

        Not before they have written a checkpoint, so that nodes that come and go cannot prevent all progress.
        """
        missing = self._config.worker_range.most - self._workers
        if not missing:
            return False
        self._room = self._room or Room(self._config.worker_resources, missing)
        more = self._config.worker_range.number_for(self._workers + self._room.found())
        if more == self._workers or self._run.latest_step() == self._first_step:
            return False
        _log.info(
            "There is room for %d workers instead of %d: all restart after a checkpoint.", more, self._workers
        )
        return True

    def end(self) -> None:
        """Release the room."""
        if self._room:
            self._room.release()


def _is_preemption(error: BaseException) -> bool:
    """Return whether Ray reports that workers were lost because their node was preempted."""
    failures = getattr(error, "worker_failures", {}).values()
    return isinstance(error, PreemptionError) or any(
        isinstance(failure, RayActorError) and failure.preempted for failure in failures
    )


def _describe_error(error: BaseException) -> str:
    """Return the last line of what Ray Train reports."""
    return [type(error).__name__, *str(error).strip().splitlines()][-1]


def evaluate_on_cluster(features: StoragePath, run: Run, config: TrainConfig, trust_code: bool = False) -> Metrics:
    """Evaluate a trained run and write its report, on a node that has what one training worker needs.

    Raises:
        DatasetError, TrainError: As `train.evaluation.evaluate.evaluate_run`; also if no such node came.
    """
    wait_for_room(config.model_copy(update={"workers": 1}), Callbacks(), run)
    bundle = config.worker_resources
    remote = ray.remote(
        num_cpus=bundle["CPU"],
        num_gpus=bundle.get("GPU", 0),
        max_retries=MOST_FAILURES,
        label_selector=HAS_TENSORFLOW,
    )(_evaluate)
    try:
        metrics: Metrics = ray.get(remote.remote(features, run.folder, trust_code))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return metrics


def _evaluate(features: StoragePath, run_folder: StoragePath, trust_code: bool) -> Metrics:
    """Evaluate and write the report, in the process of a worker."""
    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page

    read_on_all_cores()
    run, dataset = Run(run_folder), open_dataset(features)
    metrics = evaluate_run(run, dataset, trust_code)
    write_run_page(run, dataset)
    return metrics
