"""How fast featurizing is: Earmark's worker beside what people write today, in turn, in one run, on one core.

    make bench-featurize
    make bench-featurize EARMARK_MUSIC=FOLDER

Prints a table with ratios and their spread over the rounds, and writes benchmarks/results/featurize.json:

    ratio_librosa   clips a second of Earmark over those of librosa.load and twelve librosa.feature.mfcc
    ratio_decode    clips a second of Earmark over those of decoding alone, the floor
    ratio_workers   clips a second of two Ray workers over those of one
    ratio_bytes     bytes of the shards over bytes of the raw floats

Without a folder it composes its clips. The make target keeps the libraries to one thread, which they read from
the environment when they load.
"""

import argparse
import io
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

import librosa
import numpy as np
import soundfile

from featurize.catalog import AUDIO_SUFFIXES
from featurize.config import FeaturizeConfig
from featurize.dataset import list_shards, open_dataset
from featurize.driver import featurize
from featurize.mfcc import SEGMENT_SAMPLES, segment_starts
from featurize.shards import feature_settings
from featurize.worker import featurize_track
from jobs.demo import compose_collection

RESULTS = Path(__file__).parent / "results" / "featurize.json"
SETTINGS = feature_settings(FeaturizeConfig())
LONG_TRACK_SECONDS = 1800


def main() -> None:
    """Measure everything, print it and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--music", type=Path, default=os.environ.get("EARMARK_MUSIC"), help="folder of clips")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=12, help="clips measured in each round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        music = Path(arguments.music or scratch / "music")
        if not arguments.music:
            compose_collection(music, seed=0)
        clips = sorted(path for path in music.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        clips = clips[:: max(1, len(clips) // arguments.clips)][: arguments.clips]
        rates = one_core(clips, arguments.rounds)
        workers, bytes_ratio = two_workers(music, scratch, arguments.rounds)
        results = {
            "clips": len(clips),
            "rounds": arguments.rounds,
            "clips_per_second": {name: summary(values) for name, values in rates.items()},
            "ratio_librosa": ratio(rates["earmark"], rates["librosa"]),
            "ratio_decode": ratio(rates["earmark"], rates["decode"]),
            "ratio_workers": ratio(workers[2], workers[1]),
            "ratio_bytes": bytes_ratio,
            "seconds_to_first_shard": seconds_to_first_shard(music, scratch / "first"),
            "peak_megabytes_long_track": peak_megabytes(scratch),
        }
    show(results)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def one_core(clips: Sequence[Path], rounds: int) -> dict[str, list[float]]:
    """Measure the contenders in turn, round after round; clips a second of each round."""
    contenders: dict[str, Callable[[Path], Any]] = {
        "earmark": lambda path: featurize_track(str(path), SETTINGS),
        "librosa": with_librosa,
        "decode": decode_alone,
    }
    for contender in contenders.values():
        contender(clips[0])
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            started = time.perf_counter()
            for clip in clips:
                contender(clip)
            rates[name].append(len(clips) / (time.perf_counter() - started))
    return rates


def with_librosa(path: Path) -> np.ndarray:
    """Do what people write today."""
    samples, rate = librosa.load(path)
    starts = segment_starts(len(samples), SETTINGS["segments_per_track"])
    cut = (samples[start : start + SEGMENT_SAMPLES] for start in starts)
    return np.stack([librosa.feature.mfcc(y=segment, sr=rate, n_mfcc=40) for segment in cut])


def decode_alone(path: Path) -> np.ndarray:
    """Decode, and nothing else."""
    samples, _ = soundfile.read(io.BytesIO(path.read_bytes()), dtype="float32")
    return samples


def two_workers(music: Path, scratch: Path, rounds: int) -> tuple[dict[int, list[float]], float]:
    """Measure whole shards under Ray with one worker and with two, in turn; and the size of the shards."""
    import ray

    rates: dict[int, list[float]] = {1: [], 2: []}
    config = FeaturizeConfig(tracks_per_shard=8)
    for _ in range(rounds):
        for workers in rates:
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
            featurize(str(music), scratch / "warm", config)
            shutil.rmtree(scratch / "warm")
            started = time.perf_counter()
            summary = featurize(str(music), scratch / "features", config)
            rates[workers].append(summary.tracks / (time.perf_counter() - started))
            dataset = open_dataset(scratch / "features")
            shutil.rmtree(scratch / "features") if workers == 1 else None
            ray.shutdown()
        size = sum(shard.place.local.stat().st_size for shard in dataset.shards)
        raw = sum(shard.rows for shard in dataset.shards) * 40 * 217 * 4
        shutil.rmtree(scratch / "features")
    return rates, size / raw


def seconds_to_first_shard(music: Path, folder: Path) -> float:
    """Time the command line from its start to the first finished shard."""
    command = [sys.executable, "-m", "jobs.cli", "featurize", str(music), "--out", str(folder)]
    started = time.perf_counter()
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list_shards(folder) and running.poll() is None:
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    running.wait()
    return seconds


def peak_megabytes(scratch: Path) -> float:
    """Featurize a long stereo track in a process of its own, and return the most memory that it held."""
    path = scratch / "long.flac"
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        rng = np.random.default_rng(0)
        for _ in range(LONG_TRACK_SECONDS // 10):
            file.write(rng.standard_normal((441000, 2)) / 8)
    code = (
        "import sys; from benchmarks.featurize import SETTINGS, featurize_track; "
        "featurize_track(sys.argv[1], SETTINGS)"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=root)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of some measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the median and the range of the ratios, round by round."""
    return summary([our / their for our, their in zip(ours, theirs, strict=True)])


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{results['clips']} clips, {results['rounds']} rounds, median (least to most)")
    for name, rate in results["clips_per_second"].items():
        print(f"  {name:<16}{rate['median']:8.1f} clips/s  ({rate['least']:.1f} to {rate['most']:.1f})")
    for name in ("ratio_librosa", "ratio_decode", "ratio_workers"):
        value = results[name]
        print(f"  {name:<16}{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})")
    print(f"  {'ratio_bytes':<16}{results['ratio_bytes']:8.3f}")
    print(f"  first shard after {results['seconds_to_first_shard']:.1f} s from the command")
    print(f"  {LONG_TRACK_SECONDS} s of stereo need {results['peak_megabytes_long_track']:.0f} MB at most")


if __name__ == "__main__":
    main()
