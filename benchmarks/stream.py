"""Throughput of shuffled training batches: Earmark's stream and the alternatives, interleaved in one run.

    make bench-stream
    python -m benchmarks.stream --device gpu

Every contender delivers the same synthetic rows, float32 [256, features, frames] and int32 [256], from files in
the page cache:

    earmark         SegmentStream (train/input/batches.py) on Parquet shards, with a window of 4096 segments
    tfrecord        tf.train.Example with the MFCC as a float_list, shuffle(4096), parsed in whole batches
    tfrecord_bytes  the same with the MFCC as raw bytes
    ray_data        Ray Data on the same shards as earmark, with a local shuffle buffer of 4096
    memory          from_tensor_slices on the whole dataset, fully shuffled: no files, unbounded memory

Ray Data is measured where it is installed (pip install "ray[data]"). Petastorm is not measured: 0.13.1 can be
installed with pyarrow 26 but not imported, because it needs pyarrow.filesystem, which was removed.

Prints a table of medians with their range over the rounds, and writes benchmarks/results/stream.json:

    segments_per_second     throughput of a pass from its start to its last batch, including the time to fill
                            buffers; a pass is one epoch, or its part within --seconds of the first batch
    segments_per_pass       segments in the shortest pass
    seconds_to_first_batch  time from the start of a pass to its first batch
    ratio_tfrecord, ratio_tfrecord_bytes, ratio_other, ratio_memory
                            segments per second of earmark / those of the other contender, for each round; the key
                            `other` names the contender of ratio_other
    peak_mb                 memory that a pass adds to a process after its imports; for the contender memory, this
                            includes the rows, and for ray_data, Ray's processes and object store
    window_mb               upper bound on the size of earmark's shuffle windows
"""

import argparse
import contextlib
import importlib.util
import itertools
import json
import logging
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

# TensorFlow and Ray read these when they are imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import numpy as np
import tensorflow as tf

from benchmarks.rows import SETTINGS, compose, shards_of
from featurize.dataset.reader import read_row_group
from train.input.batches import SegmentStream
from train.input.sampler import ShuffleSampler

RESULTS = Path(__file__).parent / "results" / "stream.json"
BATCH_SIZE = 256
WINDOW = 4096  # shuffle window or buffer of every contender except memory, in segments
WINDOWS_HELD = 3  # most windows that earmark holds in memory at once
SEGMENT_BYTES = SETTINGS.format.row_bytes
SETTLE_SECONDS = 0.5  # between passes, so that the read-ahead of the previous pass can finish
SAMPLING_SECONDS = 0.05  # between two memory measurements

Batches = Iterable[tuple[tf.Tensor, tf.Tensor]]
Contender = Callable[[], Batches]  # starts a pass


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=61440, help="synthetic rows")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds")
    parser.add_argument("--seconds", type=float, default=20, help="longest pass, from its first batch")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="gpu: copy the batches to GPU:0")
    parser.add_argument("--only", choices=CONTENDERS, help="only print the memory, in MB, that one contender adds")
    parser.add_argument("--data", type=Path, help="folder of rows for --only")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        print("TensorFlow finds no GPU on this machine, which --device gpu needs: nothing was measured.")
        return
    if arguments.only:
        print(added_megabytes(arguments.only, arguments.data, arguments.device, arguments.seconds))
        return
    with tempfile.TemporaryDirectory() as folder:
        compose(Path(folder), arguments.segments)
        results = measure(Path(folder), arguments.rounds, arguments.seconds, arguments.device)
    print_table(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def earmark(folder: Path, device: str) -> Contender:
    """Return Earmark's stream: one stream for all passes, each pass a different epoch, as in training.

    Only even epochs are used, so that no pass starts with rows that the previous pass read ahead.
    """
    shards = shards_of(folder)
    sizes = [rows for shard in shards for rows in shard.row_groups]
    stream = SegmentStream(shards, ShuffleSampler(sizes, seed=0, window_rows=WINDOW, batch_size=BATCH_SIZE))
    epochs = itertools.count(0, 2)

    def begin() -> Batches:
        first = next(epochs) * stream.steps_per_epoch
        batches = stream.dataset(first, first + stream.steps_per_epoch, 1, [0])
        return prefetch_to(batches.map(lambda part: (part.mfcc, part.labels)), device)

    return begin


def tfrecord(folder: Path, device: str) -> Contender:
    """Return batches from TFRecords whose Examples hold the MFCC as floats."""
    floats = tf.io.FixedLenFeature(SETTINGS.shape, tf.float32)
    return examples(folder / "tfrecord", floats, lambda mfcc: mfcc, device)


def tfrecord_bytes(folder: Path, device: str) -> Contender:
    """Return batches from TFRecords whose Examples hold the MFCC as raw bytes."""
    decode = lambda mfcc: tf.reshape(tf.io.decode_raw(mfcc, tf.float32), [-1, *SETTINGS.shape])  # noqa: E731
    return examples(folder / "tfrecord_bytes", tf.io.FixedLenFeature([], tf.string), decode, device)


def examples(folder: Path, feature: Any, decode: Callable[[Any], Any], device: str) -> Contender:
    """Return batches from TFRecord files with parallel, nondeterministic reads."""
    features = {"mfcc": feature, "label": tf.io.FixedLenFeature([], tf.int64)}

    def parse(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = tf.io.parse_example(batch, features)
        return decode(row["mfcc"]), tf.cast(row["label"], tf.int32)

    any_order = tf.data.Options()
    any_order.deterministic = False
    files = sorted(str(path) for path in folder.iterdir())
    rows = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE).with_options(any_order)
    batches = rows.shuffle(WINDOW).batch(BATCH_SIZE).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return lambda: prefetch_to(batches.prefetch(tf.data.AUTOTUNE), device)


def ray_data(folder: Path, device: str) -> Contender:
    """Return Ray Data's batches. Ray is started here, outside the timed passes, and not stopped."""
    import ray
    import ray.data

    ray.init(address="local", num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    files = [shard.path.path for shard in shards_of(folder)]
    # One block per shard: Ray's default, a few large blocks, delays the first batch.
    rows = ray.data.read_parquet(files, partitioning=None, override_num_blocks=len(files))
    rows = rows.select_columns(["mfcc", "label"])

    def begin() -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        for batch in rows.iter_tf_batches(
            batch_size=BATCH_SIZE, prefetch_batches=4, local_shuffle_buffer_size=WINDOW
        ):
            with tf.device(f"/{device}:0"):
                mfcc = tf.io.decode_raw(batch["mfcc"], tf.float32)
                yield tf.reshape(mfcc, [-1, *SETTINGS.shape]), tf.identity(batch["label"])

    return begin


def memory(folder: Path, device: str) -> Contender:
    """Return batches of rows that were read into memory beforehand."""
    shards = shards_of(folder)
    total = sum(shard.rows for shard in shards)
    mfcc, labels = np.empty((total, *SETTINGS.shape), np.float32), np.empty(total, np.int32)
    end = 0
    for shard in shards:
        for index, size in enumerate(shard.row_groups):
            mfcc[end : end + size], labels[end : end + size] = read_row_group(shard, index)
            end += size
    with tf.device("/cpu:0"):  # eager tensors, so that the rows are not embedded in the graph
        rows = tf.data.Dataset.from_tensor_slices((tf.constant(mfcc), tf.constant(labels)))
    del mfcc  # TensorFlow has its own copy
    batches = rows.shuffle(total).batch(BATCH_SIZE, num_parallel_calls=tf.data.AUTOTUNE)
    return lambda: prefetch_to(batches.prefetch(tf.data.AUTOTUNE), device)


CONTENDERS: dict[str, Callable[[Path, str], Contender]] = {
    "earmark": earmark,
    "tfrecord": tfrecord,
    "tfrecord_bytes": tfrecord_bytes,
    "ray_data": ray_data,
    "memory": memory,
}


def prefetch_to(batches: tf.data.Dataset, device: str) -> tf.data.Dataset:
    """Return the batches, prefetched to the GPU if `device` is "gpu"."""
    return batches.apply(tf.data.experimental.prefetch_to_device("/gpu:0")) if device == "gpu" else batches


def installed_contenders() -> list[str]:
    """Return the names of the contenders whose libraries are installed."""
    has_ray_data = all(importlib.util.find_spec(name) for name in ("pandas", "fsspec"))
    return [name for name in CONTENDERS if name != "ray_data" or has_ray_data]


def measure(folder: Path, rounds: int, seconds: float, device: str) -> dict[str, Any]:
    """Measure the contenders one after another in each round, after an untimed pass of each.

    Each round starts with a different contender.
    """
    names = installed_contenders()
    peaks = {name: peak_megabytes(name, folder, device, seconds) for name in names}
    contenders = {name: CONTENDERS[name](folder, device) for name in names}
    for contender in contenders.values():
        timed_pass(contender, seconds)
    passes: dict[str, list[tuple[int, float, float]]] = {name: [] for name in names}
    for round_number in range(rounds):
        offset = round_number % len(names)
        for name in names[offset:] + names[:offset]:
            passes[name].append(timed_pass(contenders[name], seconds))
    rates = {name: [segments / elapsed for segments, elapsed, _ in passes[name]] for name in names}
    others = {"tfrecord": "tfrecord", "tfrecord_bytes": "tfrecord_bytes", "other": "ray_data", "memory": "memory"}
    return {
        "segments": sum(shard.rows for shard in shards_of(folder)),
        "batch_size": BATCH_SIZE,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "device": device,
        "segments_per_second": {name: summary(values) for name, values in rates.items()},
        "segments_per_pass": {name: min(segments for segments, _, _ in passes[name]) for name in names},
        "seconds_to_first_batch": {name: summary([first for _, _, first in passes[name]]) for name in names},
        "other": "ray_data" if "ray_data" in names else None,
        **{f"ratio_{key}": ratio(rates["earmark"], rates[name]) for key, name in others.items() if name in names},
        "peak_mb": peaks,
        "window_mb": WINDOWS_HELD * WINDOW * SEGMENT_BYTES / 2**20,
    }


def timed_pass(contender: Contender, limit: float) -> tuple[int, float, float]:
    """Iterate over the batches of one pass.

    Args:
        contender: Function that starts a pass.
        limit: Seconds from the first batch after which the pass is stopped.

    Returns:
        Segments delivered, seconds to the last batch, and seconds to the first batch.
    """
    time.sleep(SETTLE_SECONDS)
    segments, first, elapsed = 0, 0.0, 0.0
    started = time.perf_counter()
    for mfcc, labels in contender():
        segments += int(labels.shape[0])
        elapsed = time.perf_counter() - started
        first = first or elapsed
        assert mfcc.shape == (len(labels), *SETTINGS.shape)
        if elapsed - first > limit:
            break
    return segments, elapsed, first


def peak_megabytes(name: str, folder: Path, device: str, seconds: float) -> float:
    """Return the memory, in MB, that a pass of one contender adds to a separate process."""
    command = [sys.executable, "-m", "benchmarks.stream", "--only", name, "--data", str(folder)]
    command += ["--device", device, "--seconds", str(seconds)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, check=True, cwd=root, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def added_megabytes(name: str, folder: Path, device: str, seconds: float) -> float:
    """Run a pass; return the increase, in MB, to the peak memory of this process and its descendants."""
    before = most = used_megabytes()
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(SAMPLING_SECONDS):
            most = max(most, used_megabytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    timed_pass(CONTENDERS[name](folder, device), seconds)
    ended.set()
    watcher.join()
    return most - before


def used_megabytes() -> float:
    """Return the memory of this process and its descendants, in MB; shared pages count once."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    tree, found = set(), {os.getpid()}
    while found:
        tree |= found
        found = {process for process, parent in parents.items() if parent in found}
    kilobytes = 0
    for process in tree:
        with contextlib.suppress(OSError):
            kilobytes += int(Path(f"/proc/{process}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
    return kilobytes / 1024


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum of the measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum of the ratios, computed for each round."""
    return summary([our / their for our, their in zip(ours, theirs, strict=True)])


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    print(
        f"{results['segments']:,} segments, batches of {results['batch_size']}, {results['rounds']} rounds, "
        f"{results['cores']} cores, {results['device'].upper()}; median (min to max)"
    )
    for name, rate in results["segments_per_second"].items():
        first = results["seconds_to_first_batch"][name]["median"]
        print(
            f"  {name:<20}{rate['median']:8.0f} segments/s  ({rate['least']:.0f} to {rate['most']:.0f}), "
            f"first batch after {first:.2f} s, {results['peak_mb'][name]:.0f} MB"
        )
    for name in [name for name in results if name.startswith("ratio_")]:
        value = results[name]
        print(f"  {name:<20}{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})")
    print(f"  {results['window_mb']:.0f} MB at most in earmark's shuffle windows")


if __name__ == "__main__":
    main()
