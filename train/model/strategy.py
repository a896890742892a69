"""The replicas that a model is trained on: devices of this process, and of others where several workers train."""

import contextlib
import functools

import tensorflow as tf

from train.config import TrainConfig
from train.errors import TrainError

_ALL_REDUCES = {
    "auto": None,
    "nccl": tf.distribute.NcclAllReduce,
    "hierarchical": tf.distribute.HierarchicalCopyAllReduce,
}


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """Mirror the model over the devices that a config asks for.

    Raises:
        TrainError: there are fewer GPUs than asked for, or TensorFlow runs already with fewer CPUs.
    """
    if config.workers > 1:
        return _over_workers(config.all_reduce, config.device)
    return _mirrored(config.replicas, config.all_reduce, config.device)


def on_gpus() -> bool:
    """Say whether models are trained on GPUs here."""
    return bool(tf.config.get_visible_devices("GPU"))


def describe(strategy: tf.distribute.Strategy, workers: int) -> str:
    """Name the devices in words: "2 GPUs", "1 CPU", "4 GPUs of 2 workers"."""
    count = strategy.num_replicas_in_sync
    kind = "GPU" if on_gpus() else "CPU"
    return f"{count} {kind}{'s' if count > 1 else ''}" + (f" of {workers} workers" if workers > 1 else "")


def refuse_disagreement(strategy: tf.distribute.Strategy, step: int) -> None:
    """Raise a TrainError where workers would go on from different steps, which no later step would tell.

    They have each looked for the latest checkpoint, in storage that should be the same for all.
    """
    steps = strategy.gather(strategy.run(lambda: tf.constant([step], tf.int64)), axis=0).numpy()
    if len(set(steps)) > 1:
        raise TrainError(
            f"the workers went back to checkpoints of different steps ({', '.join(map(str, steps))}). Do all "
            "nodes see the same folder? Give --out a URI, or a folder that is mounted on every node."
        )


@functools.cache
def _mirrored(replicas: int | None, all_reduce: str, device: str) -> tf.distribute.Strategy:
    """Return a strategy over GPUs, or over logical CPUs where there is no GPU or none is wanted.

    The same strategy each time: TensorFlow numbers the collective operations of a strategy from the same
    beginning, and those of a second one over the same devices would be taken for those of the first.
    """
    gpus = _gpus(device)
    if not gpus:
        return tf.distribute.MirroredStrategy(_logical_cpus(replicas or 1))
    if replicas is not None and replicas > len(gpus):
        raise TrainError(f"train.replicas = {replicas}, but TensorFlow sees {len(gpus)} GPUs. Ask for fewer.")
    devices = [f"/gpu:{i}" for i in range(replicas or len(gpus))]
    way = _ALL_REDUCES[all_reduce]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=way and way())


def _over_workers(all_reduce: str, device: str) -> tf.distribute.Strategy:
    """Return a strategy over all devices of all workers, whose addresses are in the variable TF_CONFIG."""
    _gpus(device)
    communication = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=communication.NCCL if all_reduce == "nccl" else communication.AUTO
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _gpus(device: str) -> list[tf.config.PhysicalDevice]:
    """Return the GPUs to be used, made ready for it."""
    gpus = tf.config.list_physical_devices("GPU")
    if device == "cpu":
        with contextlib.suppress(RuntimeError):  # once TensorFlow has started in this process
            tf.config.set_visible_devices([], "GPU")
        return []
    if device == "gpu" and not gpus:
        raise TrainError(
            "train.device = gpu, but TensorFlow sees none here. Are the driver and the CUDA libraries installed "
            "(pip install tensorflow[and-cuda])? Set train.device=cpu to train without."
        )
    for gpu in gpus:
        # Refused once TensorFlow has started in this process; it then keeps the memory that it took.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    return list(gpus)


def _logical_cpus(count: int) -> list[str]:
    if count > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            if len(tf.config.list_logical_devices("CPU")) < count:
                raise TrainError(
                    f"train.replicas = {count}, but TensorFlow runs already in this process with fewer CPUs. "
                    "Train in a process of its own."
                ) from error
    return [f"/cpu:{i}" for i in range(count)]
