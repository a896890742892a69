"""Distribution strategies: replicas on the devices of this process, or of several workers."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from unittest import mock

import tensorflow as tf
from tensorflow.python.distribute import collective_all_reduce_strategy

from train.config import TrainConfig
from train.errors import TrainError
from train.provenance import Device

_BFLOAT16 = (8, 0)  # compute capability of the first GPUs of NVIDIA whose tensor cores compute in bfloat16

_ALL_REDUCES = {
    "auto": None,
    "nccl": tf.distribute.NcclAllReduce,
    "hierarchical": tf.distribute.HierarchicalCopyAllReduce,
}


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """Return the strategy for the configured devices.

    Raises:
        TrainError: TensorFlow finds too few GPUs, or is already running with too few logical CPUs.
    """
    if config.needs_workers:
        return _over_workers(config.all_reduce, config.device)
    return _mirrored(config.replicas, config.all_reduce, config.device)


def make_elastic_strategy(config: TrainConfig, workers: int) -> tf.distribute.Strategy:
    """Return the strategy of one of some elastic workers, whose number may change while a model is trained.

    On CPUs each worker has the logical CPUs of its share of `WorkerRange.parts`, so that the weights do not depend
    on the number of workers.

    Args:
        config: Settings with a range of workers.
        workers: Current number of workers.

    Raises:
        TrainError: TensorFlow finds no GPU, or is already running with too few logical CPUs.
    """
    if _gpus(config.device):
        return _over_workers(config.all_reduce, config.device)
    count = config.worker_range.parts // workers
    _logical_cpus(count)
    with _all_logical_cpus(count):
        return _over_workers(config.all_reduce, "cpu")


def on_gpus() -> bool:
    """Return whether models are trained on GPUs in this process."""
    return bool(tf.config.get_visible_devices("GPU"))


def resolve_precision(precision: str) -> str:
    """Return `train.precision`, or what `auto` stands for on the devices of this process."""
    if precision != "auto":
        return precision
    gpus = tf.config.get_visible_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return precision_for([found.get("compute_capability", (0, 0)) for found in details])


def precision_for(capabilities: Sequence[tuple[int, int]]) -> str:
    """Return mixed_bfloat16 if all GPUs compute in bfloat16, by their compute capabilities; else float32."""
    return "mixed_bfloat16" if min(capabilities, default=(0, 0)) >= _BFLOAT16 else "float32"


def describe(strategy: tf.distribute.Strategy, workers: int, elastic: bool) -> str:
    """Return the devices in words: "2 GPUs", "1 CPU", "4 GPUs of 2 workers", "3 workers in 6 parts"."""
    count = strategy.num_replicas_in_sync
    if elastic and not on_gpus():
        return f"{workers} worker{'s' if workers > 1 else ''} in {count} part{'s' if count > 1 else ''}"
    kind = "GPU" if on_gpus() else "CPU"
    return f"{count} {kind}{'s' if count > 1 else ''}" + (f" of {workers} workers" if workers > 1 else "")


def devices(strategy: tf.distribute.Strategy) -> Device:
    """Return the devices for run.json; the name is that of this process's GPUs, if they are of one kind."""
    gpus = tf.config.get_visible_devices("GPU")
    names = {tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus}
    name = {"name": names.pop()} if len(names) == 1 and None not in names else {}
    return Device(kind="GPU" if gpus else "CPU", **name, count=strategy.num_replicas_in_sync)


def check_same_step(strategy: tf.distribute.Strategy, step: int) -> None:
    """Check that all workers resume from the same step.

    Each worker has restored the latest checkpoint it found, and they must share that storage. If they differed,
    training would not fail: it would give wrong weights.

    Args:
        strategy: Strategy over all workers.
        step: Number of finished steps on this worker.

    Raises:
        TrainError: The workers have different steps.
    """
    steps = strategy.gather(strategy.run(lambda: tf.constant([step], tf.int64)), axis=0).numpy()
    if len(set(steps)) > 1:
        raise TrainError(
            f"the workers restored checkpoints of different steps ({', '.join(map(str, steps))}). Do all "
            "nodes see the same folder? Give --out a URI, or a folder that is mounted on every node."
        )


@functools.cache
def _mirrored(replicas: int | None, all_reduce: str, device: str) -> tf.distribute.Strategy:
    """Return a strategy over GPUs, or over logical CPUs if no GPU is used.

    Cached, because every strategy numbers its collective operations from the same start: TensorFlow would confuse
    those of a second strategy over the same devices with those of the first.
    """
    gpus = _gpus(device)
    if not gpus:
        return tf.distribute.MirroredStrategy(_logical_cpus(replicas or 1))
    if replicas is not None and replicas > len(gpus):
        raise TrainError(
            f"train.replicas = {replicas}, but TensorFlow sees {len(gpus)} GPUs. Set at most that many."
        )
    devices = [f"/gpu:{i}" for i in range(replicas or len(gpus))]
    cross_device_ops = _ALL_REDUCES[all_reduce]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=cross_device_ops and cross_device_ops())


def _over_workers(all_reduce: str, device: str) -> tf.distribute.Strategy:
    """Return a strategy over all devices of all workers; the variable TF_CONFIG has their addresses."""
    _gpus(device)
    communication = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=communication.NCCL if all_reduce == "nccl" else communication.AUTO
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


@contextlib.contextmanager
def _all_logical_cpus(count: int) -> Iterator[None]:
    """Let a MultiWorkerMirroredStrategy that is made meanwhile have a replica on each logical CPU of a worker.

    TensorFlow gives it all GPUs of a worker, but the first CPU only, and has no argument for it.
    """

    def devices(extended: object, resolver: object, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:CPU:{index}" for index in range(count)), "CPU"

    extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
    with mock.patch.object(extended, "_initialize_local_devices", devices):
        yield


def _gpus(device: str) -> list[tf.config.PhysicalDevice]:
    """Return the GPUs to use, configured to allocate memory on demand; none if `device` is "cpu".

    Raises:
        TrainError: `device` is "gpu" and TensorFlow finds no GPU.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if device == "cpu":
        with contextlib.suppress(RuntimeError):  # raised once TensorFlow has started in this process
            tf.config.set_visible_devices([], "GPU")
        return []
    if device == "gpu" and not gpus:
        raise TrainError(
            "train.device = gpu, but TensorFlow sees none here. Are the driver and the CUDA libraries installed "
            "(pip install tensorflow[and-cuda])? Set train.device=cpu to train on the CPU."
        )
    for gpu in gpus:
        # Raises once TensorFlow has started in this process, which then keeps its memory settings.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    return list(gpus)


def _logical_cpus(count: int) -> list[str]:
    """Return the names of `count` logical CPUs, which split the first physical one."""
    if count > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            if len(tf.config.list_logical_devices("CPU")) < count:
                raise TrainError(
                    f"train.replicas = {count}, but TensorFlow already runs in this process with fewer CPUs. "
                    "Train in a new process."
                ) from error
    return [f"/cpu:{i}" for i in range(count)]
