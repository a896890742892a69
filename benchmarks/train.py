"""What an epoch from shards costs: Earmark's trainer beside keras.Model.fit on the same rows in memory.

    make bench-train
    make bench-train DEVICE=gpu

Both train the same network on the same composed music with the same batches and the same Adam, each in a process
of its own, epoch by epoch in turn. Earmark's epochs are those of `train.fit.trainer.train`, reading from
shards, with deterministic operations; Keras has everything in one array and is as fast as it comes.

Prints a table with the spread over the rounds and writes benchmarks/results/train.json, for each model:

    segments_per_second   of the steps of an epoch, without the judging that follows them
    ratio_in_memory       segments a second of earmark over those of keras, round by round
    wait_fraction         of earmark's time, what it waited for batches
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
from train.records import EpochRecord

RESULTS = Path(__file__).parent / "results" / "train.json"
MODELS = ("conv3-norm", "modulation")

# Sends the seconds of an epoch, the segments in it and the share of waiting; waits to be told to go on.
Report = Callable[[float, int, float], None]


def main() -> None:
    """Measure everything, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=150, help="composed in each of three styles")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write")
    arguments = parser.parse_args()
    gpu = gpu_name()
    if arguments.device == "gpu" and gpu is None:
        print("TensorFlow sees no GPU here, so there is nothing to measure with --device gpu.")
        return
    with tempfile.TemporaryDirectory() as folder:
        compose_collection(Path(folder) / "music", 0, arguments.tracks)
        featurize(str(Path(folder) / "music"), Path(folder) / "features", FeaturizeConfig())
        models = {}
        for model in MODELS:
            # One epoch more, the first, in which both trace their graphs.
            config = TrainConfig(model=model, batch_size=arguments.batch_size, epochs=arguments.rounds + 1)
            models[model] = measure(Path(folder), config, arguments.device)
    results = {
        "rounds": arguments.rounds,
        "batch_size": arguments.batch_size,
        "cores": os.cpu_count(),
        "device": gpu if arguments.device == "gpu" else "cpu",
        "models": models,
    }
    show(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def gpu_name() -> str | None:
    """Name the first GPU that TensorFlow sees."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else None


def measure(folder: Path, config: TrainConfig, device: str) -> dict[str, Any]:
    """Let both train in turn, an epoch each."""
    spawn = multiprocessing.get_context("spawn")
    ends: dict[str, Connection] = {}
    for name in CONTENDERS:
        ours, theirs = spawn.Pipe()
        spawn.Process(target=contend, args=(name, folder, config, device, theirs), daemon=True).start()
        ends[name] = ours
    epochs: dict[str, list[tuple[float, int, float]]] = {name: [] for name in CONTENDERS}
    for round_number in range(config.epochs):
        names = list(CONTENDERS) if round_number % 2 else list(CONTENDERS)[::-1]
        for name in names:
            ends[name].send("go")
            epochs[name].append(ends[name].recv())
    rates = {name: [segments / seconds for seconds, segments, _ in found[1:]] for name, found in epochs.items()}
    return {
        "segments": epochs["earmark"][0][1],
        "segments_per_second": {name: summary(values) for name, values in rates.items()},
        "ratio_in_memory": summary(
            [ours / theirs for ours, theirs in zip(rates["earmark"], rates["keras"], strict=True)]
        ),
        "wait_fraction": summary([waited for _, _, waited in epochs["earmark"][1:]]),
    }


def contend(name: str, folder: Path, config: TrainConfig, device: str, end: Connection) -> None:
    """Train in this process, an epoch each time that one is asked for."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    end.recv()

    def report(seconds: float, segments: int, waited: float) -> None:
        end.send((seconds, segments, waited))
        if next(left, None) is not None:
            end.recv()

    left = iter(range(config.epochs - 1))
    CONTENDERS[name](folder, config, report)


def earmark(folder: Path, config: TrainConfig, report: Report) -> None:
    """Train from shards."""
    from train.callbacks import Callbacks
    from train.fit.trainer import train
    from train.run import Run

    dataset = open_dataset(folder / "features")

    def on_epoch(entry: EpochRecord, epochs: int) -> None:
        segments = round(entry.examples_per_second * entry.seconds)
        report(entry.seconds, segments, entry.wait_fraction)

    train(dataset, Run(folder / f"run-{config.model}"), config, "", Callbacks(epoch=on_epoch))


def in_memory(folder: Path, config: TrainConfig, report: Report) -> None:
    """Train by keras.Model.fit on arrays."""
    import keras
    import numpy as np

    from train.model.architectures import build_model

    dataset = open_dataset(folder / "features")
    shards = dataset.in_folds(config.training_folds)
    rows = [read_row_group(shard, index) for shard in shards for index in range(len(shard.row_groups))]
    mfcc, labels = (np.concatenate(column) for column in zip(*rows, strict=True))
    model = build_model(config.model, len(dataset.classes), config.dropout, synchronized=False)
    model.compile(
        keras.optimizers.Adam(config.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            report(time.perf_counter() - self.started, len(labels), 0.0)

    model.fit(mfcc, labels, batch_size=config.batch_size, epochs=config.epochs, verbose=0, callbacks=[Turns()])


CONTENDERS: dict[str, Callable[[Path, TrainConfig, Report], None]] = {"earmark": earmark, "keras": in_memory}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of some measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    print(
        f"batches of {results['batch_size']}, {results['rounds']} rounds, {results['cores']} cores, "
        f"{results['device']}; median (least to most)"
    )
    for model, found in results["models"].items():
        print(f"{model}, {found['segments']} segments an epoch")
        for name, rate in found["segments_per_second"].items():
            print(f"  {name:<16}{rate['median']:8.0f} segments/s  ({rate['least']:.0f} to {rate['most']:.0f})")
        for name in ("ratio_in_memory", "wait_fraction"):
            value = found[name]
            print(f"  {name:<16}{value['median']:8.3f}  ({value['least']:.3f} to {value['most']:.3f})")


if __name__ == "__main__":
    sys.exit(main())
