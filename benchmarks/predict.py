"""Speed of `earmark predict --out` over featurizing alone, on the same cores, in turn in one run.

    make bench-predict
    make bench-predict EARMARK_MUSIC=FOLDER

Prints a table, and writes benchmarks/results/predict.json:

    ratio_featurize    predict --out / featurize, in tracks per second
    startup_seconds    what a prediction takes longer than its tracks: TensorFlow and the model are loaded
    bytes_per_track    size of the answers
    peak_megabytes     largest memory of this process, the driver, after each number of tracks

A speed is that of the second half: links to the clips make collections of N and of 2 N tracks, and the time of
the first is subtracted from that of the second. Ray runs before the first measurement.
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clips import add_options, chosen_clips
from featurize.config import FeaturizeConfig
from featurize.dataset_build.driver import featurize
from featurize.storage import StoragePath
from jobs.inference.batch_prediction import PredictionRequest, predict_into

RESULTS = Path(__file__).parent / "results" / "predict.json"
CLASSES = 5


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, rounds=5, clips=24)
    parser.add_argument("--links", type=int, default=1000, help="tracks of the smaller collection")
    parser.add_argument("--model", default="modulation", help="setting train.model")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        music, clips = chosen_clips(arguments, scratch)
        half, whole = (
            links(clips, scratch / f"links{count}", count) for count in (arguments.links, 2 * arguments.links)
        )
        run = train(music, scratch, arguments.model)
        results = {
            "clips": len(clips),
            "tracks": arguments.links,
            "rounds": arguments.rounds,
            "cores": len(os.sched_getaffinity(0)),
            "model": arguments.model,
            **measure(run, half, whole, scratch, arguments),
        }
    print_table(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def links(clips: Sequence[Path], folder: Path, count: int) -> Path:
    """Return a folder of links to clips, in class folders."""
    for index, clip in zip(range(count), itertools.cycle(clips)):
        link = folder / f"class {index % CLASSES}" / f"{index}{clip.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(clip.resolve())
    return folder


def measure(
    run: StoragePath, half: Path, whole: Path, scratch: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Featurize and predict both collections in turn in each round."""
    import ray

    config = FeaturizeConfig(group_by="none")
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    featurize(str(half), scratch / "warm", config)
    contenders: dict[str, Callable[[Path, Path], object]] = {
        "featurize": lambda music, out: featurize(str(music), out, config),
        "predict": lambda music, out: predict_into(run, str(music), StoragePath.of(out), PredictionRequest()),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    startups, memory, size = [], {}, 0.0
    for _ in range(arguments.rounds):
        for name, contender in contenders.items():
            seconds = {}
            for music, tracks in ((half, arguments.links), (whole, 2 * arguments.links)):
                started = time.perf_counter()
                contender(music, scratch / "out")
                seconds[tracks] = time.perf_counter() - started
                memory.setdefault(str(tracks), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
                if name == "predict":
                    files = [path for path in (scratch / "out").rglob("*") if path.is_file()]
                    size = sum(path.stat().st_size for path in files) / tracks
                shutil.rmtree(scratch / "out")
            first, both = seconds.values()
            rates[name].append(arguments.links / max(both - first, 1e-3))
            if name == "predict":
                startups.append(2 * first - both)
    ray.shutdown()
    pairs = zip(rates["predict"], rates["featurize"], strict=True)
    return {
        "tracks_per_second": {name: summary(values) for name, values in rates.items()},
        "ratio_featurize": summary([ours / theirs for ours, theirs in pairs]),
        "startup_seconds": summary(startups),
        "bytes_per_track": size,
        "peak_megabytes": memory,
    }


def train(music: Path, scratch: Path, model: str) -> StoragePath:
    """Train a model for one epoch, in another process: the driver of a prediction has no TensorFlow."""
    settings = [f"train.model={model}", "train.epochs=1", "train.batch_size=16", "featurize.group_by=none"]
    options = [word for setting in settings for word in ("--set", setting)]
    command = [sys.executable, "-m", "jobs.cli", "run", str(music), "--out", str(scratch / "run"), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return StoragePath.of(scratch / "run")


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum of the measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{results['tracks']} tracks, {results['rounds']} rounds, {results['cores']} cores, median (min to max)")
    rows = {f"{name}, tracks/s": value for name, value in results["tracks_per_second"].items()}
    rows |= {name: results[name] for name in ("ratio_featurize", "startup_seconds")}
    for name, value in rows.items():
        print(f"  {name:<20}{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})")
    print(f"  {'bytes_per_track':<20}{results['bytes_per_track']:8.0f}")
    for tracks, megabytes in results["peak_megabytes"].items():
        print(f"  peak memory of the driver, {tracks} tracks: {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
