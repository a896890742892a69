"""Training speed: Earmark's trainer on shards and keras.Model.fit on the same rows in memory.

    make bench-train
    make bench-train DEVICE=gpu

Both train the same network on the same synthesized music with the same batch size and the same Adam, each in a
separate process, and alternate epoch by epoch. Earmark runs `train.fit.trainer.train`, which reads from shards and
uses deterministic operations; Keras trains with its defaults on one array.

Also measures what a step takes besides the network: an almost empty model on batches of two segments that are
constants, in calls of 1 and of 32 steps, alternating.

Prints a table with the range over the rounds and writes benchmarks/results/train.json, for each model:

    segments_per_second   throughput of the training steps of an epoch, without the evaluation after them
    ratio_in_memory       segments per second of earmark / those of keras, for each round
    wait_fraction         fraction of earmark's time spent waiting for batches

and for calls of 1 and 32 steps:

    host_ms_per_step      milliseconds a step of the empty model
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group
from featurize.dataset_build.driver import featurize
from jobs.demo.demo import compose_collection
from train.config import TrainConfig
from train.folds import fold_roles
from train.records import EpochRecord

RESULTS = Path(__file__).parent / "results" / "train.json"
MODELS = ("conv3-norm", "modulation")
HOST_STEPS = 320

# Reports the seconds, segments and wait fraction of an epoch, then blocks until the next epoch may start.
Report = Callable[[float, int, float], None]


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=150, help="synthesized tracks in each of three styles")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--batch-size", type=int, default=64, help="segments per batch")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="where to train")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    gpu = gpu_name()
    if arguments.device == "gpu" and gpu is None:
        print("TensorFlow finds no GPU on this machine, which --device gpu needs: nothing was measured.")
        return
    with tempfile.TemporaryDirectory() as folder:
        compose_collection(Path(folder) / "music", 0, arguments.tracks)
        featurize(str(Path(folder) / "music"), Path(folder) / "features", FeaturizeConfig())
        models = {}
        for model in MODELS:
            # The first epoch, in which both trace their graphs, is not counted.
            config = TrainConfig(model=model, batch_size=arguments.batch_size, epochs=arguments.rounds + 1)
            models[model] = measure(Path(folder), config, arguments.device)
    results = {
        "rounds": arguments.rounds,
        "batch_size": arguments.batch_size,
        "cores": os.cpu_count(),
        "device": gpu if arguments.device == "gpu" else "cpu",
        "models": models,
        "host_ms_per_step": measured_alone(host_times, arguments.rounds, arguments.device),
    }
    print_table(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def gpu_name() -> str | None:
    """Return the name of the first GPU that TensorFlow finds, or None."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else None


def measure(folder: Path, config: TrainConfig, device: str) -> dict[str, Any]:
    """Train both contenders in separate processes, alternating after each epoch."""
    spawn = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    processes = []
    for name in CONTENDERS:
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=run_contender, args=(name, folder, config, device, theirs), daemon=True)
        process.start()
        processes.append(process)
        theirs.close()  # so that a contender that ends early is an EOFError here, and no endless wait
        connections[name] = ours
    epochs: dict[str, list[tuple[float, int, float]]] = {name: [] for name in CONTENDERS}
    for round_number in range(config.epochs):
        names = list(CONTENDERS) if round_number % 2 else list(CONTENDERS)[::-1]
        for name in names:
            connections[name].send("go")
            epochs[name].append(connections[name].recv())
    for process in processes:  # a run is written to the end before its folder is removed
        process.join()
    rates = {name: [segments / seconds for seconds, segments, _ in found[1:]] for name, found in epochs.items()}
    return {
        "segments": epochs["earmark"][0][1],
        "segments_per_second": {name: summary(values) for name, values in rates.items()},
        "ratio_in_memory": summary(
            [ours / theirs for ours, theirs in zip(rates["earmark"], rates["keras"], strict=True)]
        ),
        "wait_fraction": summary([waited for _, _, waited in epochs["earmark"][1:]]),
    }


def measured_alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function, called in a separate process that has not imported TensorFlow."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def host_times(rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Return the milliseconds a step of an empty model takes in calls of each length."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import keras
    import numpy as np
    import tensorflow as tf

    from featurize.planning.shard_plan import feature_settings
    from train.fit.optimizer import make_optimizer
    from train.fit.train_step import StepConfig, distributed_steps
    from train.input.batches import ReplicaBatch
    from train.model.strategy import make_strategy

    settings = feature_settings(FeaturizeConfig())
    tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(TrainConfig(device="cpu" if device == "cpu" else "gpu"))
    with strategy.scope():
        layers = [keras.Input(settings.shape), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3)]
        model = keras.Sequential(layers)
        optimizer = make_optimizer(TrainConfig(), steps_per_epoch=1)
        optimizer.build(model.trainable_variables)
    labels = np.zeros(2, np.int32)
    fields = [np.zeros((2, *settings.shape), np.float32), labels, labels, np.ones(2, np.float32)]
    batch = ReplicaBatch(*fields, *np.array([0, 0, 2], np.int64))
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    batches = iter(strategy.distribute_datasets_from_function(lambda context: dataset))
    ones, zeros = np.ones(3, np.float32), np.zeros(settings.features, np.float32)
    function = distributed_steps(strategy, model, optimizer, StepConfig(0, ones, 0.0, 0, 0, zeros), compiled=False)
    found: dict[int, list[float]] = {1: [], 32: []}
    for _ in range(rounds + 1):
        for length, times in found.items():
            start = time.perf_counter()
            for _ in range(HOST_STEPS // length):
                function(batches, tf.constant(length)).losses.numpy()
            times.append((time.perf_counter() - start) / HOST_STEPS * 1000)
    return {str(length): summary(times[1:]) for length, times in found.items()}


def run_contender(name: str, folder: Path, config: TrainConfig, device: str, connection: Connection) -> None:
    """Train in this process, one epoch for each message received from the connection."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    connection.recv()

    def report(seconds: float, segments: int, waited: float) -> None:
        connection.send((seconds, segments, waited))
        if next(left, None) is not None:
            connection.recv()

    left = iter(range(config.epochs - 1))
    CONTENDERS[name](folder, config, report)


def earmark(folder: Path, config: TrainConfig, report: Report) -> None:
    """Train with Earmark on shards."""
    from train.callbacks import Callbacks
    from train.fit.trainer import train
    from train.run import Run

    dataset = open_dataset(folder / "features")

    def on_epoch(entry: EpochRecord, epochs: int) -> None:
        segments = round(entry.examples_per_second * entry.seconds)
        report(entry.seconds, segments, entry.wait_fraction)

    train(dataset, Run(folder / f"run-{config.model}"), config, "", Callbacks(epoch=on_epoch))


def in_memory(folder: Path, config: TrainConfig, report: Report) -> None:
    """Train with keras.Model.fit on arrays in memory."""
    import keras
    import numpy as np

    from train.model.architectures import build_model

    dataset = open_dataset(folder / "features")
    shards = dataset.in_folds(fold_roles(config, dataset.layout).train)
    rows = [read_row_group(shard, index) for shard in shards for index in range(len(shard.row_groups))]
    mfcc, labels = (np.concatenate(column) for column in zip(*rows, strict=True))
    model = build_model(
        config.model, dataset.info.settings.format, len(dataset.classes), config.dropout, synchronized=False
    )
    model.compile(
        keras.optimizers.Adam(config.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    class EpochTimer(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            report(time.perf_counter() - self.started, len(labels), 0.0)

    model.fit(
        mfcc, labels, batch_size=config.batch_size, epochs=config.epochs, verbose=0, callbacks=[EpochTimer()]
    )


CONTENDERS: dict[str, Callable[[Path, TrainConfig, Report], None]] = {"earmark": earmark, "keras": in_memory}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum of the measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    print(
        f"batches of {results['batch_size']}, {results['rounds']} rounds, {results['cores']} cores, "
        f"{results['device']}; median (min to max)"
    )
    for model, found in results["models"].items():
        print(f"{model}, {found['segments']} segments per epoch")
        for name, rate in found["segments_per_second"].items():
            print(f"  {name:<16}{rate['median']:8.0f} segments/s  ({rate['least']:.0f} to {rate['most']:.0f})")
        for name in ("ratio_in_memory", "wait_fraction"):
            value = found[name]
            print(f"  {name:<16}{value['median']:8.3f}  ({value['least']:.3f} to {value['most']:.3f})")
    print("host_ms_per_step, an empty model")
    for length, value in results["host_ms_per_step"].items():
        print(f"  calls of {length:>2}     {value['median']:8.3f}  ({value['least']:.3f} to {value['most']:.3f})")


if __name__ == "__main__":
    sys.exit(main())
