"""How fast shuffled batches reach training: Earmark's stream beside what people use today, in turn, in one run.

    make bench-stream
    python -m benchmarks.stream --device gpu

Every contender delivers the same composed rows, as (mfcc float32 [256, 40, 217], labels int32 [256]), from files
that are in the page cache:

    earmark         train/stream.py on Parquet shards, with a window of 4096 segments
    tfrecord        tf.train.Example with the MFCC as a float_list, shuffle(4096), a whole batch parsed at once
    tfrecord_bytes  the same with the MFCC as raw bytes
    ray_data        Ray Data on the very shards that earmark reads, with a local shuffle buffer of 4096
    memory          from_tensor_slices of everything in memory, shuffle(all): no files, no bound on memory

Ray Data takes part where it is installed (pip install "ray[data]"). Petastorm does not: 0.13.1 installs beside
pyarrow 26 but cannot be imported, for it asks for pyarrow.filesystem, which is no longer there.

Prints a table, medians with their spread over the rounds, and writes benchmarks/results/stream.json:

    segments_per_second     of a pass from its beginning to its last batch, the filling of buffers included; a pass
                            is an epoch, or what --seconds after its first batch allow of it (segments_per_pass
                            has the shortest)
    seconds_to_first_batch  what of that time went by before the first batch
    ratio_tfrecord, ratio_tfrecord_bytes, ratio_other, ratio_memory
                            segments a second of earmark over those of the others, round by round; the contender
                            called other is the one that `other` names
    peak_mb                 memory that a pass adds to a process with its libraries imported: of memory, with the
                            rows themselves; of ray_data, with Ray's processes and object store
    window_mb               what the windows of earmark take at most, as train.shuffle_window says
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

# Read when the libraries are imported: how much TensorFlow has to say, and how Ray authenticates.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import numpy as np
import tensorflow as tf

from benchmarks.rows import compose, shards_of
from featurize.dataset.reader import read_row_group
from featurize.dataset.schema import MFCC_SHAPE
from train.input.batches import SegmentStream
from train.input.sampler import ShuffleSampler

RESULTS = Path(__file__).parent / "results" / "stream.json"
BATCH_SIZE = 256
WINDOW = 4096  # segments shuffled together by every contender but memory
WINDOWS_HELD = 3  # by earmark, at most
SEGMENT_BYTES = MFCC_SHAPE[0] * MFCC_SHAPE[1] * 4
SETTLE_SECONDS = 0.5  # between passes, for what one has begun to read beyond its end
SAMPLING_SECONDS = 0.05  # between two looks at the memory

Batches = Iterable[tuple[tf.Tensor, tf.Tensor]]
Contender = Callable[[], Batches]  # begins a pass


def main() -> None:
    """Measure everything, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=61440)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="after its first batch a pass is broken off")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="gpu: batches go on to GPU:0")
    parser.add_argument("--only", choices=CONTENDERS, help="print the megabytes that one contender adds")
    parser.add_argument("--data", type=Path, help="folder with the files that --only reads")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write")
    arguments = parser.parse_args()
    if arguments.device == "gpu" and not tf.config.list_physical_devices("GPU"):
        print("TensorFlow sees no GPU here, so there is nothing to measure with --device gpu.")
        return
    if arguments.only:
        print(added_megabytes(arguments.only, arguments.data, arguments.device, arguments.seconds))
        return
    with tempfile.TemporaryDirectory() as folder:
        compose(Path(folder), arguments.segments)
        results = measure(Path(folder), arguments.rounds, arguments.seconds, arguments.device)
    show(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def earmark(folder: Path, device: str) -> Contender:
    """Return the stream of train/stream.py: one for all passes, each of them another epoch, as in training.

    Every other epoch, so that no pass begins with what the one before it has read ahead.
    """
    shards = shards_of(folder)
    sizes = [rows for shard in shards for rows in shard.row_groups]
    stream = SegmentStream(shards, ShuffleSampler(sizes, seed=0, window_rows=WINDOW), BATCH_SIZE)
    epochs = itertools.count(0, 2)

    def begin() -> Batches:
        first = next(epochs) * stream.steps_per_epoch
        batches = stream.dataset(first, first + stream.steps_per_epoch, 1, [0])
        return onto(batches.map(lambda part: (part.mfcc, part.labels)), device)

    return begin


def tfrecord(folder: Path, device: str) -> Contender:
    """Return TensorFlow's own way: Examples of floats."""
    floats = tf.io.FixedLenFeature(MFCC_SHAPE, tf.float32)
    return examples(folder / "tfrecord", floats, lambda mfcc: mfcc, device)


def tfrecord_bytes(folder: Path, device: str) -> Contender:
    """Return the same with the MFCC as bytes, which are not parsed."""
    decode = lambda mfcc: tf.reshape(tf.io.decode_raw(mfcc, tf.float32), [-1, *MFCC_SHAPE])  # noqa: E731
    return examples(folder / "tfrecord_bytes", tf.io.FixedLenFeature([], tf.string), decode, device)


def examples(folder: Path, feature: Any, decode: Callable[[Any], Any], device: str) -> Contender:
    """Return batches from TFRecord files, by the book: several files at once, in any order."""
    features = {"mfcc": feature, "label": tf.io.FixedLenFeature([], tf.int64)}

    def parse(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row = tf.io.parse_example(batch, features)
        return decode(row["mfcc"]), tf.cast(row["label"], tf.int32)

    any_order = tf.data.Options()
    any_order.deterministic = False
    files = sorted(str(path) for path in folder.iterdir())
    rows = tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE).with_options(any_order)
    batches = rows.shuffle(WINDOW).batch(BATCH_SIZE).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return lambda: onto(batches.prefetch(tf.data.AUTOTUNE), device)


def ray_data(folder: Path, device: str) -> Contender:
    """Return Ray Data's batches; Ray is started here, so that no pass pays for it, and stays to the end."""
    import ray
    import ray.data

    ray.init(address="local", num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    files = [shard.path.path for shard in shards_of(folder)]
    # A block for each shard: with the few large ones of Ray's own choice the first batch takes longer.
    rows = ray.data.read_parquet(files, partitioning=None, override_num_blocks=len(files))
    rows = rows.select_columns(["mfcc", "label"])

    def begin() -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        for batch in rows.iter_tf_batches(
            batch_size=BATCH_SIZE, prefetch_batches=4, local_shuffle_buffer_size=WINDOW
        ):
            with tf.device(f"/{device}:0"):
                mfcc = tf.io.decode_raw(batch["mfcc"], tf.float32)
                yield tf.reshape(mfcc, [-1, *MFCC_SHAPE]), tf.identity(batch["label"])

    return begin


def memory(folder: Path, device: str) -> Contender:
    """Return batches of what is in memory already."""
    shards = shards_of(folder)
    total = sum(shard.rows for shard in shards)
    mfcc, labels = np.empty((total, *MFCC_SHAPE), np.float32), np.empty(total, np.int32)
    end = 0
    for shard in shards:
        for index, size in enumerate(shard.row_groups):
            mfcc[end : end + size], labels[end : end + size] = read_row_group(shard, index)
            end += size
    with tf.device("/cpu:0"):  # as tensors of the process, which are no part of the graph
        rows = tf.data.Dataset.from_tensor_slices((tf.constant(mfcc), tf.constant(labels)))
    del mfcc  # TensorFlow has copied it
    batches = rows.shuffle(total).batch(BATCH_SIZE, num_parallel_calls=tf.data.AUTOTUNE)
    return lambda: onto(batches.prefetch(tf.data.AUTOTUNE), device)


CONTENDERS: dict[str, Callable[[Path, str], Contender]] = {
    "earmark": earmark,
    "tfrecord": tfrecord,
    "tfrecord_bytes": tfrecord_bytes,
    "ray_data": ray_data,
    "memory": memory,
}


def onto(batches: tf.data.Dataset, device: str) -> tf.data.Dataset:
    """Have the batches copied onto the GPU where that is asked for."""
    return batches.apply(tf.data.experimental.prefetch_to_device("/gpu:0")) if device == "gpu" else batches


def taking_part() -> list[str]:
    """Return the names of the contenders that are installed."""
    has_ray_data = all(importlib.util.find_spec(name) for name in ("pandas", "fsspec"))
    return [name for name in CONTENDERS if name != "ray_data" or has_ray_data]


def measure(folder: Path, rounds: int, seconds: float, device: str) -> dict[str, Any]:
    """Measure the contenders in turn, each round beginning with another one, after an untimed pass of each."""
    names = taking_part()
    peaks = {name: peak_megabytes(name, folder, device, seconds) for name in names}
    contenders = {name: CONTENDERS[name](folder, device) for name in names}
    for contender in contenders.values():
        timed_pass(contender, seconds)
    passes: dict[str, list[tuple[int, float, float]]] = {name: [] for name in names}
    for round_number in range(rounds):
        turn = round_number % len(names)
        for name in names[turn:] + names[:turn]:
            passes[name].append(timed_pass(contenders[name], seconds))
    rates = {name: [segments / took for segments, took, _ in passes[name]] for name in names}
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
    """Take the batches of one pass.

    Returns:
        the segments delivered, the seconds it took, and the seconds to the first batch.
    """
    time.sleep(SETTLE_SECONDS)
    segments, first, took = 0, 0.0, 0.0
    started = time.perf_counter()
    for mfcc, labels in contender():
        segments += int(labels.shape[0])
        took = time.perf_counter() - started
        first = first or took
        assert mfcc.shape == (len(labels), *MFCC_SHAPE)
        if took - first > limit:
            break
    return segments, took, first


def peak_megabytes(name: str, folder: Path, device: str, seconds: float) -> float:
    """Let one contender make a pass in a process of its own, and return the most memory that this added."""
    command = [sys.executable, "-m", "benchmarks.stream", "--only", name, "--data", str(folder)]
    command += ["--device", device, "--seconds", str(seconds)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, check=True, cwd=root, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def added_megabytes(name: str, folder: Path, device: str, seconds: float) -> float:
    """Make a pass and return the most memory that this process and those it started have held, less the first."""
    before = most = megabytes_held()
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(SAMPLING_SECONDS):
            most = max(most, megabytes_held())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    timed_pass(CONTENDERS[name](folder, device), seconds)
    ended.set()
    watcher.join()
    return most - before


def megabytes_held() -> float:
    """Return the memory of this process and of all below it; what several of them share counts once."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
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
    """Return the median and the range of some measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of the ratios, round by round."""
    return summary([our / their for our, their in zip(ours, theirs, strict=True)])


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    print(
        f"{results['segments']:,} segments, batches of {results['batch_size']}, {results['rounds']} rounds, "
        f"{results['cores']} cores, on the {results['device'].upper()}; median (least to most)"
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
    print(f"  {results['window_mb']:.0f} MB at most in the windows of earmark")


if __name__ == "__main__":
    main()
