"""What a large collection costs the driver, without the machines: planning, scheduling and finishing.

    make bench-scale
    make bench-scale TRACKS=10000000

A table of a million tracks of 100,000 artists goes through everything that featurizing does, but for the work
itself: nothing is read, and a shard holds zeros. Prints the figures and writes benchmarks/results/scale.json:

    plan_seconds         from the command to the first shard asked for: table, groups, folds, shards, names
    driver_ms_per_shard  processor time of the driver while shards are made and finished, over their number
    peak_megabytes       the most memory that the driver held
    resume_seconds       the same command on the finished dataset
    grow_seconds         planning when a thousandth of the tracks is new and as many are gone
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurize.audio.mfcc import Filters
from featurize.collection.catalog import build_catalog
from featurize.config import FeaturizeConfig
from featurize.dataset.schema import MFCC_SHAPE
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
CONFIG = FeaturizeConfig(segments_per_track=1)


def main() -> None:
    """Measure everything, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=1_000_000)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file to write")
    arguments = parser.parse_args()
    tracks = arguments.tracks
    with tempfile.TemporaryDirectory() as folder:
        table, features = Path(folder) / "tracks.parquet", Path(folder) / "features"
        apart(write_table, table, range(tracks))
        begun, processor = time.perf_counter(), time.process_time()
        planned: list[tuple[float, float]] = []

        def on_progress(progress: FeaturizeProgress) -> None:
            if not planned:
                planned.append((time.perf_counter(), time.process_time()))

        summary = featurize(str(table), features, CONFIG, on_progress=on_progress, make_shard=write_nothing)
        ended, processor_ended = time.perf_counter(), time.process_time()
        shards = sum(1 for _ in (features / "shards").rglob("*.parquet"))
        resumed = time.perf_counter()
        assert featurize(str(table), features, CONFIG, make_shard=write_nothing) == summary
        resumed = time.perf_counter() - resumed
        apart(write_table, table, range(tracks // 1000, tracks + tracks // 1000))
        grown = time.perf_counter()
        catalog, previous = build_catalog(str(table)), read_plan(StoragePath.of(features))
        make_plan(catalog, CONFIG, previous, known_groups(catalog, CONFIG, previous))
        grown = time.perf_counter() - grown
    results = {
        "tracks": summary.tracks,
        "shards": shards,
        "plan_seconds": planned[0][0] - begun,
        "plan_processor_seconds": planned[0][1] - processor,
        "make_and_finish_seconds": ended - planned[0][0],
        "driver_ms_per_shard": (processor_ended - planned[0][1]) / shards * 1000,
        "resume_seconds": resumed,
        "grow_seconds": grown,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    for name, value in results.items():
        print(f"  {name:<24}{value:12,.2f}" if isinstance(value, float) else f"  {name:<24}{value:9,}")
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def apart(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a process of its own, so that its memory is not taken for the driver's."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()


def write_table(path: Path, numbers: range) -> None:
    """Write a table of tracks that exist nowhere, with names as long as real ones."""
    number = np.arange(numbers.start, numbers.stop)
    artist = number // TRACKS_PER_ARTIST
    columns = {
        "path": [f"{a % 997:03}/artist {a:07}/an album/{n % 97:02} a song title {n:08}.mp3" for a, n in zip(
            artist.tolist(), number.tolist(), strict=True
        )],
        "label": [f"genre {label:02}" for label in (artist % CLASSES).tolist()],
        "group": [f"artist {a:07}" for a in artist.tolist()],
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)


def write_nothing(
    plan: ShardPlan,
    folder: StoragePath,
    filters: Filters,
    track_timeout: float | None,
    excluded: dict[str, Reject],
) -> ShardResult:
    """Write a shard without listening: a segment of zeros for each track, and in it the number of the track."""
    writer = ShardWriter(plan)
    for track in plan.tracks:
        mfcc = np.zeros((1, *MFCC_SHAPE), np.float32)
        mfcc[0, 0, 0] = int(track.id[-12:-4])
        writer.add(track, mfcc, np.zeros(1))
    writer.finish(folder)
    return ShardResult(plan.name, len(plan.tracks), 0)


if __name__ == "__main__":
    main()
