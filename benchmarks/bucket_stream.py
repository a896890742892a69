"""Training and evaluation rows from a bucket far away; a part of `benchmarks.bucket`."""

import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.featurize import ratio, summary
from benchmarks.rows import SETTINGS, compose, shards_of
from benchmarks.waiting_bucket import requests, uri, waiting_bucket
from featurize.dataset.reader import Shard, shard_sizes
from featurize.storage import StoragePath
from train.input.batches import SegmentStream
from train.input.sampler import ShuffleSampler
from train.input.stored_order import EvaluationStream

BATCH_SIZE, WINDOW = 256, 8192
WAIT_SECONDS = 0.1


def measure_stream(scratch: Path, segments: int, rounds: int) -> dict[str, Any]:
    """Read epochs of training and of evaluation from a disk and from the bucket, in turn.

    Args:
        scratch: Existing folder for the rows.
        segments: Number of rows.
        rounds: Timed rounds, after one that is not timed: it reads the footers.

    Returns:
        `stream_rows_per_second` by place; `ratio_stream_100ms`, training rows per second from the bucket over
        those from the disk; `ratio_evaluation_100ms`, the same for evaluation; `ratio_evaluation_stream`,
        evaluation rows over training rows per second in the bucket; and `requests_per_visit`, GET requests that
        the server counted for each visit to a row group in training.
    """
    compose(scratch, segments)
    sizes = shard_sizes(scratch)
    local = [dataclasses.replace(shard, size=sizes[shard.name]) for shard in shards_of(scratch)]
    with waiting_bucket(scratch, WAIT_SECONDS) as address:
        remote = [
            dataclasses.replace(shard, path=StoragePath.of(uri(address, f"shards/{shard.name}")))
            for shard in local
        ]
        passes = {
            ("training", "local"): training(local),
            ("training", "100 ms"): training(remote),
            ("evaluation", "local"): evaluation(local),
            ("evaluation", "100 ms"): evaluation(remote),
        }
        rates: dict[tuple[str, str], list[float]] = {name: [] for name in passes}
        counted = 0
        for number, (name, begin) in itertools.product(range(rounds + 1), passes.items()):
            before = requests(address)["GET"]
            rate = rows_per_second(begin)
            if number:
                rates[name].append(rate)
                counted += requests(address)["GET"] - before if name == ("training", "100 ms") else 0
    visits = rounds * sum(len(shard.row_groups) for shard in local)
    return {
        "segments": sum(shard.rows for shard in local),
        "stream_rows_per_second": {" ".join(name): summary(values) for name, values in rates.items()},
        "ratio_stream_100ms": ratio(rates["training", "100 ms"], rates["training", "local"]),
        "ratio_evaluation_100ms": ratio(rates["evaluation", "100 ms"], rates["evaluation", "local"]),
        "ratio_evaluation_stream": ratio(rates["evaluation", "100 ms"], rates["training", "100 ms"]),
        "requests_per_visit": counted / visits,
    }


def training(shards: list[Shard]) -> Callable[[], Any]:
    """Return a function that begins an epoch of training; every second epoch, so that none was read ahead."""
    sizes = [rows for shard in shards for rows in shard.row_groups]
    stream = SegmentStream(shards, ShuffleSampler(sizes, seed=0, window_rows=WINDOW, batch_size=BATCH_SIZE))
    epochs = itertools.count(0, 2)

    def begin() -> Any:
        stream.release()
        first = next(epochs) * stream.steps_per_epoch
        return stream.dataset(first, first + stream.steps_per_epoch, 1, [0])

    return begin


def evaluation(shards: list[Shard]) -> Callable[[], Any]:
    """Return a function that begins to read all rows in stored order."""
    segments = SETTINGS.segments_per_track
    stream = EvaluationStream(shards, segments, range(segments), BATCH_SIZE)

    def begin() -> Any:
        stream.release()
        return stream.dataset(0, len(stream.batches), 1, [0])

    return begin


def rows_per_second(begin: Callable[[], Any]) -> float:
    """Return the rows per second of a pass over all batches."""
    started = time.perf_counter()
    rows = sum(len(batch.labels) for batch in begin())
    return rows / (time.perf_counter() - started)
