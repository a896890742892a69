"""Featurizing and training from a bucket far away: on a disk, and in a bucket that waits before each answer.

    make bench-bucket
    make bench-bucket EARMARK_MUSIC=FOLDER

The server is on this machine and takes processor time from the worker, so compare with the bucket that does not
wait as well. Prints a table of medians with their range over the rounds, which measure all places in turn, and
writes benchmarks/results/bucket.json:

    ratio_featurize_100ms   wall time a track with 100 ms before each answer / from the local disk, of a shard of
                            128 tracks, the size in collections of more than 20,000 tracks
    ratio_featurize_30ms    the same with 30 ms
    requests_per_track      requests that the server counted, by kind
    tag_requests_per_track  GET requests of the tag pass, for ranges of 64 KiB; Arrow adds a HEAD for each file
    tag_bytes_per_track     bytes read for the tags
    ratio_bytes_excerpt     bytes read for an excerpt of 10 s from the start of 5-minute tracks / size of the files
    ratio_stream_100ms      training rows per second with 100 ms before each answer / from the local disk
    requests_per_visit      requests for each visit to a row group in training, counted by the server

and the other figures of benchmarks.bucket_stream.
"""

import argparse
import contextlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.bucket_stream import measure_stream
from benchmarks.clips import add_options, chosen_clips
from benchmarks.featurize import ratio, summary
from benchmarks.waiting_bucket import requests, uri, waiting_bucket
from featurize.audio.filters import Filters
from featurize.config import FeaturizeConfig
from featurize.dataset_build.worker import write_features
from featurize.execution.tag_reading import read_tags
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath

RESULTS = Path(__file__).parent / "results" / "bucket.json"
WAITS = {"0 ms": 0.0, "30 ms": 0.03, "100 ms": 0.1}  # seconds
LONG_SECONDS, EXCERPT_SECONDS = 300, 10.0


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, rounds=5, clips=128)
    parser.add_argument("--segments", type=int, default=30720, help="synthetic rows to train on")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        music, clips = chosen_clips(arguments, scratch)
        seconds, counts = measure_featurizing(music, clips, scratch, arguments.rounds)
        results = {
            "clips": len(clips),
            "rounds": arguments.rounds,
            "ms_per_track": {
                name: summary([1000 * value / len(clips) for value in values]) for name, values in seconds.items()
            },
            "ratio_featurize_30ms": ratio(seconds["30 ms"], seconds["local"]),
            "ratio_featurize_100ms": ratio(seconds["100 ms"], seconds["local"]),
            "requests_per_track": {
                kind: counts[kind] / len(clips) / arguments.rounds / len(WAITS) for kind in ("HEAD", "GET")
            },
            **tag_requests(music, clips),
            "ratio_bytes_excerpt": bytes_of_excerpts(scratch),
            **measure_stream(existing(scratch / "rows"), arguments.segments, arguments.rounds),
        }
    print_table(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def existing(folder: Path) -> Path:
    """Create a folder and return it."""
    folder.mkdir()
    return folder


def measure_featurizing(
    music: Path, clips: Sequence[Path], scratch: Path, rounds: int
) -> tuple[dict[str, list[float]], Counter[str]]:
    """Build the same shard from each place in turn; the first round is not timed.

    Returns:
        Seconds by place, one value per round; and the requests of all timed rounds.
    """
    filters = Filters.from_librosa(feature_settings(FeaturizeConfig()))
    with contextlib.ExitStack() as servers:
        addresses = {name: servers.enter_context(waiting_bucket(music, wait)) for name, wait in WAITS.items()}
        places = {"local": StoragePath.of(music)}
        places |= {name: StoragePath.of(uri(address)) for name, address in addresses.items()}
        seconds: dict[str, list[float]] = {name: [] for name in places}
        before: Counter[str] = Counter()
        for number in range(rounds + 1):
            if number == 1:
                before = sum((requests(address) for address in addresses.values()), Counter())
            for name, root in places.items():
                started = time.perf_counter()
                build_shard(root, music, clips, scratch / "features", filters, FeaturizeConfig())
                if number:
                    seconds[name].append(time.perf_counter() - started)
        after = sum((requests(address) for address in addresses.values()), Counter())
    return seconds, after - before


def build_shard(
    root: StoragePath,
    music: Path,
    clips: Sequence[Path],
    folder: Path,
    filters: Filters,
    config: FeaturizeConfig,
) -> None:
    """Build one shard of some files, whose paths below the root are those below the local folder."""
    folder.mkdir(exist_ok=True)
    names = [clip.relative_to(music).as_posix() for clip in clips]
    tracks = [Track(name, name, 0, clip.stat().st_size) for name, clip in zip(names, clips, strict=True)]
    plan = ShardPlan("fold=0/part-00000-0000000000000000.parquet", root, tracks, feature_settings(config))
    result = write_features(plan, StoragePath.of(folder), filters)
    assert not result.rejects, f"{result.rejects} files were rejected"


def tag_requests(music: Path, clips: Sequence[Path]) -> dict[str, float]:
    """Return the requests, besides one HEAD, and the bytes that reading the artist of a file takes."""
    with waiting_bucket(music, 0) as address:
        places = [StoragePath.of(uri(address, clip.relative_to(music).as_posix())) for clip in clips]
        read_tags(places, "artist")
        found = requests(address)
    return {
        "tag_requests_per_track": found["GET"] / len(clips),
        "tag_heads_per_track": found["HEAD"] / len(clips),
        "tag_bytes_per_track": found["bytes"] / len(clips),
    }


def bytes_of_excerpts(scratch: Path) -> float:
    """Return the share of long files that is read for an excerpt from their start."""
    music = scratch / "long"
    music.mkdir()
    noise = np.random.default_rng(0).standard_normal((LONG_SECONDS * 44100, 2)) / 8
    clips = [music / "long.mp3", music / "long.flac"]
    for clip in clips:
        soundfile.write(clip, noise, 44100)
    config = FeaturizeConfig(excerpt_seconds=EXCERPT_SECONDS)
    filters = Filters.from_librosa(feature_settings(config))
    with waiting_bucket(music, 0) as address:
        root = StoragePath.of(uri(address))
        build_shard(root, music, clips, scratch / "excerpts", filters, config)
        return requests(address)["bytes"] / sum(clip.stat().st_size for clip in clips)


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{results['clips']} clips, {results['rounds']} rounds, median (min to max)")
    for name, value in results["ms_per_track"].items():
        print(f"  {name:<24}{value['median']:8.1f} ms a track  ({value['least']:.1f} to {value['most']:.1f})")
    for name in ("ratio_featurize_30ms", "ratio_featurize_100ms"):
        value = results[name]
        print(f"  {name:<24}{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})")
    counts = ", ".join(f"{count:.2f} {kind}" for kind, count in results["requests_per_track"].items())
    print(f"  requests a track: {counts}")
    for name in ("tag_requests_per_track", "tag_heads_per_track", "tag_bytes_per_track"):
        print(f"  {name:<24}{results[name]:10,.2f}")
    print(f"  {'ratio_bytes_excerpt':<24}{results['ratio_bytes_excerpt']:8.3f}")
    for name, value in results["stream_rows_per_second"].items():
        print(f"  {name:<24}{value['median']:8.0f} rows/s  ({value['least']:.0f} to {value['most']:.0f})")
    for name in ("ratio_stream_100ms", "ratio_evaluation_100ms", "ratio_evaluation_stream"):
        value = results[name]
        print(f"  {name:<24}{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})")
    print(f"  {'requests_per_visit':<24}{results['requests_per_visit']:8.2f}")


if __name__ == "__main__":
    main()
