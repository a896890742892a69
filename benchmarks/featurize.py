"""Speed of featurization: Earmark's worker and alternative libraries, interleaved in one run on one core.

    make bench-featurize
    make bench-featurize EARMARK_MUSIC=FOLDER

Prints a table of ratios with their range over the rounds, and writes benchmarks/results/featurize.json:

    ratio_librosa   Earmark / (librosa.load and one librosa.feature.mfcc per segment), in clips per second
    ratio_decode    Earmark / decoding only, in clips per second; decoding is a lower bound on the time
    ratio_workers   two Ray workers / one Ray worker, in clips per second
    ratio_bytes     size of the shards / size of the raw float32 features

Essentia (pip install essentia) and torchaudio are measured where they are installed, on the same samples and
segments. Their MFCC values differ from librosa's.

Without EARMARK_MUSIC or --music, the clips are synthesized. The make target limits the libraries to one thread by
environment variables, which they read when they are imported.
"""

import argparse
import importlib.util
import io
import json
import os
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

from benchmarks.clips import add_options, chosen_clips
from featurize.audio.filters import Filters
from featurize.audio.load import load
from featurize.audio.mfcc import segment_starts
from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import list_shards
from featurize.dataset_build.driver import featurize
from featurize.dataset_build.worker import featurize_track
from featurize.planning.shard_plan import feature_settings
from featurize.storage import StoragePath

RESULTS = Path(__file__).parent / "results" / "featurize.json"
SETTINGS = feature_settings(FeaturizeConfig())
FILTERS = Filters.from_librosa(SETTINGS)
LONG_TRACKS = {"10 s": 10, "30 minutes": 1800, "3 hours": 10800}  # seconds

Contender = Callable[[Path], Any]


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, rounds=7, clips=24)
    parser.add_argument(
        "--longest", type=int, default=10800, help="longest track in the memory measurement, in seconds"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        music, clips = chosen_clips(arguments, scratch)
        rates = measure_one_core(clips, arguments.rounds)
        workers, bytes_ratio = measure_workers(music, scratch, arguments.rounds)
        results = {
            "clips": len(clips),
            "rounds": arguments.rounds,
            "clips_per_second": {name: summary(values) for name, values in rates.items()},
            "ratio_librosa": ratio(rates["earmark"], rates["librosa"]),
            "ratio_decode": ratio(rates["earmark"], rates["decode"]),
            "ratio_workers": ratio(workers[2], workers[1]),
            "ratio_bytes": bytes_ratio,
            "ratio_peers": {
                name: ratio(rates["earmark"], values)
                for name, values in rates.items()
                if name not in ("earmark", "librosa", "decode")
            },
            "seconds_to_first_shard": summary(
                [seconds_to_first_shard(music, scratch / f"first{i}") for i in range(min(3, arguments.rounds))]
            ),
            "peak_megabytes": {
                name: peak_megabytes(scratch, seconds)
                for name, seconds in LONG_TRACKS.items()
                if seconds <= arguments.longest
            },
        }
    print_table(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def measure_one_core(clips: Sequence[Path], rounds: int) -> dict[str, list[float]]:
    """Measure the contenders one after another in each round.

    Returns:
        Clips per second of each contender, one value per round.
    """
    contenders: dict[str, Contender] = {
        "earmark": lambda path: featurize_track(StoragePath.of(path), SETTINGS, FILTERS),
        "decode": decode_only,
        "librosa": with_librosa,
        **peers(),
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
    """Return the MFCC of each segment as a user of librosa would compute it."""
    samples, rate = librosa.load(path)
    return np.stack(
        [librosa.feature.mfcc(y=segment, sr=rate, n_mfcc=SETTINGS.n_mfcc) for segment in segments(samples)]
    )


def decode_only(path: Path) -> np.ndarray:
    """Return the decoded samples without computing features."""
    samples, _ = soundfile.read(io.BytesIO(path.read_bytes()), dtype="float32")
    return samples


def peers() -> dict[str, Contender]:
    """Return the other installed libraries; each gets the samples and segments that Earmark uses."""
    found: dict[str, Contender] = {}
    if importlib.util.find_spec("essentia"):
        import essentia
        import essentia.standard as es

        essentia.log.infoActive = False
        window = es.Windowing(type="hann", size=SETTINGS.n_fft, zeroPadding=0, normalized=False)
        spectrum = es.Spectrum(size=SETTINGS.n_fft)
        mfcc = es.MFCC(
            inputSize=SETTINGS.n_fft // 2 + 1,
            numberBands=SETTINGS.n_mels,
            numberCoefficients=SETTINGS.n_mfcc,
            sampleRate=SETTINGS.sample_rate,
        )
        cut = {"frameSize": SETTINGS.n_fft, "hopSize": SETTINGS.hop_length, "startFromZero": False}
        found["essentia"] = lambda path: [
            [mfcc(spectrum(window(frame)))[1] for frame in es.FrameGenerator(segment, **cut)]
            for segment in segments(load(StoragePath.of(path), SETTINGS))
        ]
    if importlib.util.find_spec("torchaudio"):
        import torch
        import torchaudio

        torch.set_num_threads(1)
        spectrogram = {"n_fft": SETTINGS.n_fft, "hop_length": SETTINGS.hop_length, "n_mels": SETTINGS.n_mels}
        transform = torchaudio.transforms.MFCC(SETTINGS.sample_rate, SETTINGS.n_mfcc, melkwargs=spectrogram)
        found["torchaudio"] = lambda path: transform(
            torch.from_numpy(np.stack(list(segments(load(StoragePath.of(path), SETTINGS)))))
        )
    return found


def segments(samples: np.ndarray) -> Sequence[np.ndarray]:
    """Return the segments of a track as slices of its samples."""
    starts = segment_starts(len(samples), SETTINGS)
    return [samples[start : start + SETTINGS.segment_samples] for start in starts]


def measure_workers(music: Path, scratch: Path, rounds: int) -> tuple[dict[int, list[float]], float]:
    """Measure featurization under Ray with one worker and with two, and the size of the shards.

    The startup of Ray and its workers is not timed: an untimed dataset is built first.

    Returns:
        Clips per second by number of workers, one value per round; and shard bytes / raw float32 bytes.
    """
    import ray

    rates: dict[int, list[float]] = {1: [], 2: []}
    config = FeaturizeConfig(tracks_per_shard=4)
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
            ray.shutdown()
            dataset = open_dataset(scratch / "features")
            size = sum(os.path.getsize(shard.path.path) for shard in dataset.shards)
            raw = sum(shard.rows for shard in dataset.shards) * SETTINGS.format.row_bytes
            shutil.rmtree(scratch / "features")
    return rates, size / raw


def seconds_to_first_shard(music: Path, folder: Path) -> float:
    """Return the seconds from the start of `earmark featurize` to its first finished shard."""
    command = [sys.executable, "-m", "jobs.cli", "featurize", str(music), "--out", str(folder)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        while not list_shards(folder) and running.poll() is None:
            time.sleep(0.01)
        return time.perf_counter() - started


def peak_megabytes(scratch: Path, seconds: int) -> float:
    """Return the peak memory, in MB, of a separate process that builds a shard of one stereo track.

    Args:
        scratch: Folder for temporary files.
        seconds: Duration of the track.
    """
    path = scratch / "long.flac"
    ten_seconds = np.random.default_rng(0).standard_normal((441000, 2)) / 8
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        for _ in range(seconds // 10):
            file.write(ten_seconds)
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "benchmarks.one_shard", str(path), str(scratch / "long")]
    done = subprocess.run(command, check=True, cwd=root, capture_output=True, text=True)
    return float(done.stdout)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum of the measurements."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum of the ratios, computed for each round."""
    return summary([our / their for our, their in zip(ours, theirs, strict=True)])


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{results['clips']} clips, {results['rounds']} rounds, median (min to max)")
    for name, rate in results["clips_per_second"].items():
        print(f"  {name:<16}{rate['median']:8.1f} clips/s  ({rate['least']:.1f} to {rate['most']:.1f})")
    ratios = {name: results[name] for name in ("ratio_librosa", "ratio_decode", "ratio_workers")}
    ratios |= {f"over {name}": value for name, value in results["ratio_peers"].items()}
    for name, value in ratios.items():
        print(f"  {name:<16}{value['median']:8.2f}  ({value['least']:.2f} to {value['most']:.2f})")
    print(f"  {'ratio_bytes':<16}{results['ratio_bytes']:8.3f}")
    first = results["seconds_to_first_shard"]
    print(f"  first shard {first['median']:.1f} s after the command ({first['least']:.1f} to {first['most']:.1f})")
    for name, megabytes in results["peak_megabytes"].items():
        print(f"  peak memory of a worker, track of {name}: {megabytes:.0f} MB")


if __name__ == "__main__":
    main()
