"""The replicas that a model is trained on."""

import contextlib
import functools

import tensorflow as tf

from train.config import TrainError


@functools.cache
def make_strategy(replicas: int | None, all_reduce: str = "auto") -> tf.distribute.Strategy:
    """Mirror the model over GPUs, or over logical CPUs where there is no GPU.

    The same strategy each time: TensorFlow numbers the collective operations of a strategy from the same
    beginning, and those of a second one over the same devices would be taken for those of the first.

    Args:
        replicas: how many; None for every GPU, or one CPU.
        all_reduce: how GPUs add up: auto, nccl or hierarchical. CPUs have one way only.

    Raises:
        TrainError: there are fewer GPUs than replicas asked for, or TensorFlow runs already with fewer CPUs.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return tf.distribute.MirroredStrategy(_logical_cpus(replicas or 1))
    if replicas is not None and replicas > len(gpus):
        raise TrainError(f"train.replicas = {replicas}, but TensorFlow sees {len(gpus)} GPUs. Ask for fewer.")
    for gpu in gpus:
        # Refused once TensorFlow has started in this process; it then keeps the memory that it took.
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)
    ways = {
        "auto": None,
        "nccl": tf.distribute.NcclAllReduce(),
        "hierarchical": tf.distribute.HierarchicalCopyAllReduce(),
    }
    devices = [f"/gpu:{i}" for i in range(replicas or len(gpus))]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=ways[all_reduce])


def on_gpus() -> bool:
    """Say whether models are trained on GPUs here."""
    return bool(tf.config.list_physical_devices("GPU"))


def describe(strategy: tf.distribute.Strategy) -> str:
    """Name the devices in words: "2 GPUs", "1 CPU"."""
    count = strategy.num_replicas_in_sync
    kind = "GPU" if on_gpus() else "CPU"
    return f"{count} {kind}{'s' if count > 1 else ''}"


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
