"""Driver cost of a large collection: planning, scheduling and finishing, without decoding any audio.

    make bench-scale
    make bench-scale TRACKS=10000000

Featurizes a table of a million tracks by 100,000 artists, except that no audio is read and the shards contain
zeros. Prints the measurements and writes benchmarks/results/scale.json:

    plan_seconds         time from the call to the first requested shard: table, groups, folds, shards, names
    driver_ms_per_shard  CPU time of the driver per shard while shards are built and the dataset is finished
    peak_megabytes       peak memory of the driver until the dataset is finished, without mapped files, whose pages
                         the system takes back when others need them (Linux)
    peak_mapped_megabytes  the same with mapped files
    resume_seconds       time of the same call on the finished dataset
    grow_seconds         planning time after 0.1% of the tracks were added and as many removed
"""

import argparse
import json
import math
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurize.audio.filters import Filters
from featurize.collection.catalog import build_catalog
from featurize.config import FeaturizeConfig
from featurize.dataset_build.driver import FeaturizeProgress, featurize
from featurize.dataset_build.shard_writer import ShardWriter
from featurize.dataset_build.worker import ShardResult
from featurize.errors import Reject
from featurize.planning.groups import known_groups
from featurize.planning.plan import make_plan
from featurize.planning.previous_plan import read_plan
from featurize.planning.shard_plan import ShardPlan
from featurize.storage import StoragePath

RESULTS = Path(__file__).parent / "results" / "scale.json"
CLASSES = 20
TRACKS_PER_ARTIST = 10
ROWS_AT_ONCE = 1 << 20  # of the table that is written
SECONDS_BETWEEN_SAMPLES = 0.05
CONFIG = FeaturizeConfig(segments_per_track=1)


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=1_000_000, help="tracks in the table")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    tracks = arguments.tracks
    with tempfile.TemporaryDirectory() as folder:
        table, features = Path(folder) / "tracks.parquet", Path(folder) / "features"
        run_in_subprocess(write_table, table, range(tracks))
        started, cpu = time.perf_counter(), time.process_time()
        planned: list[tuple[float, float]] = []

        def on_progress(progress: FeaturizeProgress) -> None:
            if not planned:
                planned.append((time.perf_counter(), time.process_time()))

        with PeakMemory() as peak:
            summary = featurize(str(table), features, CONFIG, on_progress=on_progress, make_shard=write_zeros)
        ended, cpu_ended = time.perf_counter(), time.process_time()
        shards = sum(1 for _ in (features / "shards").rglob("*.parquet"))
        resumed = time.perf_counter()
        assert featurize(str(table), features, CONFIG, make_shard=write_zeros) == summary
        resumed = time.perf_counter() - resumed
        run_in_subprocess(write_table, table, range(tracks // 1000, tracks + tracks // 1000))
        grown = time.perf_counter()
        catalog, previous = build_catalog(str(table)), read_plan(StoragePath.of(features))
        make_plan(catalog, CONFIG, previous, known_groups(catalog, CONFIG, previous))
        grown = time.perf_counter() - grown
    results = {
        "tracks": summary.tracks,
        "shards": shards,
        "plan_seconds": planned[0][0] - started,
        "plan_processor_seconds": planned[0][1] - cpu,
        "make_and_finish_seconds": ended - planned[0][0],
        "driver_ms_per_shard": (cpu_ended - planned[0][1]) / shards * 1000,
        "resume_seconds": resumed,
        "grow_seconds": grown,
        "peak_megabytes": peak.megabytes["RssAnon"],
        "peak_mapped_megabytes": peak.megabytes["VmRSS"],
    }
    for name, value in results.items():
        print(f"  {name:<24}{value:12,.2f}" if isinstance(value, float) else f"  {name:<24}{value:9,}")
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


class PeakMemory:
    """Peak memory of this process while the context is open, sampled.

    Attributes:
        megabytes: Peaks by the name that /proc/self/status gives them.
    """

    def __init__(self) -> None:
        self.megabytes = {"RssAnon": math.nan, "VmRSS": math.nan}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        status = Path("/proc/self/status")
        while status.exists() and not self._ended.wait(SECONDS_BETWEEN_SAMPLES):
            for line in status.read_text().splitlines():
                name, _, value = line.partition(":")
                if name in self.megabytes:
                    self.megabytes[name] = float(np.fmax(self.megabytes[name], int(value.split()[0]) / 1024))


def run_in_subprocess(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a separate process, so that its memory does not count as the driver's."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()


def write_table(path: Path, numbers: range) -> None:
    """Write a table of tracks, all but one nonexistent, with names of realistic length."""
    schema = pa.schema([(name, pa.string()) for name in ("path", "label", "group")])
    with pq.ParquetWriter(path, schema) as writer:
        for begin in range(0, len(numbers), ROWS_AT_ONCE):
            rows = table_rows(numbers[begin : begin + ROWS_AT_ONCE])
            writer.write_table(pa.table(rows, schema=schema))
    # A table none of whose files exists is refused.
    existing = path.parent / rows["path"][-1]
    existing.parent.mkdir(parents=True, exist_ok=True)
    existing.touch()


def table_rows(numbers: range) -> dict[str, list[str]]:
    """Return the columns of some rows of the table."""
    number = np.arange(numbers.start, numbers.stop)
    artist = number // TRACKS_PER_ARTIST
    return {
        "path": [f"{a % 997:03}/artist {a:07}/an album/{n % 97:02} a song title {n:08}.mp3" for a, n in zip(
            artist.tolist(), number.tolist(), strict=True
        )],
        "label": [f"genre {label:02}" for label in (artist % CLASSES).tolist()],
        "group": [f"artist {a:07}" for a in artist.tolist()],
    }  # fmt: skip


def write_zeros(
    plan: ShardPlan,
    folder: StoragePath,
    filters: Filters,
    track_timeout: float | None,
    excluded: dict[str, Reject],
) -> ShardResult:
    """Write a shard without reading audio: one segment per track, zeros except for the track number."""
    writer = ShardWriter(plan)
    for track in plan.tracks:
        mfcc = np.zeros((1, *plan.settings.shape), np.float32)
        mfcc[0, 0, 0] = int(track.id[-12:-4])
        writer.add(track, mfcc, np.zeros(1))
    return ShardResult(plan.name, len(plan.tracks), writer.finish(folder))


if __name__ == "__main__":
    main()
