"""Speed of other feature settings against librosa, and what storing float16 does to bytes and reading.

    make bench-features
    make bench-features EARMARK_MUSIC=FOLDER

Prints a table with ranges over the rounds, and writes benchmarks/results/feature_settings.json:

    ratio_librosa   for each setting, Earmark / (librosa.load and librosa's features of each segment), in clips per
                    second on one core; the contenders alternate
    largest_db      for each setting, the largest difference from librosa on these clips, in dB
    store           for each type of stored features, bytes / raw float32 bytes, segments read per second, and the
                    largest rounding in dB, with the default settings

Without EARMARK_MUSIC or --music, the clips are synthesized. The make target limits the libraries to one thread by
environment variables, which they read when they are imported.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np

from benchmarks.clips import add_options, chosen_clips
from benchmarks.featurize import ratio, summary
from featurize.audio.filters import Filters
from featurize.config import FeaturizeConfig
from featurize.dataset.feature_settings import FeatureSettings
from featurize.dataset.reader import Shard
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.dataset_build.worker import featurize_track, write_features
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath

RESULTS = Path(__file__).parent / "results" / "feature_settings.json"
CONFIGS = {
    "13 MFCC, 3 s, 16 kHz": FeaturizeConfig(sample_rate=16000, n_mfcc=13, segment_seconds=3),
    "log-mel, 128 x 256": FeaturizeConfig(kind="log_mel", segment_frames=256),
    "20 MFCC, 1 s": FeaturizeConfig(n_mfcc=20, segment_seconds=1),
    "40 MFCC, deltas": FeaturizeConfig(deltas=2),
}
STORES = {"float32": FeaturizeConfig(), "float16": FeaturizeConfig(store="float16")}


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, rounds=7, clips=24)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        _, clips = chosen_clips(arguments, scratch)
        measured = {
            name: measure(clips, feature_settings(config), arguments.rounds) for name, config in CONFIGS.items()
        }
        results = {
            "clips": len(clips),
            "rounds": arguments.rounds,
            "ratio_librosa": {name: found[0] for name, found in measured.items()},
            "largest_db": {name: found[1] for name, found in measured.items()},
            "store": measure_stores(clips, scratch, arguments.rounds),
        }
    print_table(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def measure(clips: Sequence[Path], settings: FeatureSettings, rounds: int) -> tuple[dict[str, float], float]:
    """Featurize clips with Earmark and with librosa in turn.

    Returns:
        The ratio of their speeds, and the largest difference of their features in dB.
    """
    filters = Filters.from_librosa(settings)
    ours: list[float] = []
    theirs: list[float] = []
    largest = 0.0
    for index in range(rounds + 1):
        seconds = [0.0, 0.0]
        for clip in clips:
            started = time.perf_counter()
            features, starts = featurize_track(StoragePath.of(clip), settings, filters)
            between = time.perf_counter()
            expected = with_librosa(clip, np.round(starts * settings.sample_rate).astype(int), settings)
            seconds[0] += between - started
            seconds[1] += time.perf_counter() - between
            if not index:  # untimed, because librosa compiles and loads on its first call
                largest = max(largest, float(np.abs(features - expected).max()))
        if index:
            ours.append(len(clips) / seconds[0])
            theirs.append(len(clips) / seconds[1])
    return ratio(ours, theirs), largest


def with_librosa(path: Path, starts: Sequence[int], settings: FeatureSettings) -> np.ndarray:
    """Return the features of each segment as a user of librosa would compute them."""
    samples, rate = librosa.load(path, sr=settings.sample_rate)
    spectrum = {"sr": rate, "n_fft": settings.n_fft, "hop_length": settings.hop_length, "n_mels": settings.n_mels}
    rows = []
    for start in starts:
        y = samples[start : start + settings.segment_samples]
        if settings.kind == "mfcc":
            features = librosa.feature.mfcc(y=y, n_mfcc=settings.n_mfcc, **spectrum)
        else:
            features = librosa.power_to_db(librosa.feature.melspectrogram(y=y, **spectrum))
        deltas = [librosa.feature.delta(features, order=order) for order in range(1, settings.deltas + 1)]
        rows.append(np.concatenate([features, *deltas]))
    return np.stack(rows)


def measure_stores(clips: Sequence[Path], scratch: Path, rounds: int) -> dict[str, Any]:
    """Write the clips as one shard of each type, and read it as training does, in turn."""
    shards = {name: write_shard(clips, scratch / name, config) for name, config in STORES.items()}
    rates: dict[str, list[float]] = {name: [] for name in shards}
    read: dict[str, np.ndarray] = {}
    for index in range(rounds + 1):
        for name, shard in shards.items():
            groups = [(shard, group) for group in range(len(shard.row_groups))]
            started = time.perf_counter()
            parts = [rows.astype(np.float32) for rows, _ in RowGroupReader().read(groups)]
            if index:
                rates[name].append(shard.rows / (time.perf_counter() - started))
            else:
                read[name] = np.concatenate(parts)
    return {
        name: {
            "ratio_bytes": (shard.size or 0) / (shard.rows * shards["float32"].format.row_bytes),
            "segments_per_second": summary(rates[name]),
            "largest_rounding_db": float(np.abs(read[name] - read["float32"]).max()),
        }
        for name, shard in shards.items()
    }


def write_shard(clips: Sequence[Path], folder: Path, config: FeaturizeConfig) -> Shard:
    """Featurize clips into one shard."""
    name = "fold=0/part-00000-0000000000000000.parquet"
    (folder / "shards").mkdir(parents=True)
    tracks = [Track(str(clip), str(clip), 0, clip.stat().st_size) for clip in clips]
    settings = feature_settings(config)
    plan = ShardPlan(name, StoragePath.of("/"), tracks, settings)
    record = write_features(plan, StoragePath.of(folder), Filters.from_librosa(settings)).record
    path = StoragePath.of(folder) / "shards" / name
    return Shard(name, path, 0, record.row_groups, 1, record.size, format=settings.format)


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{results['clips']} clips, {results['rounds']} rounds, median (min to max)")
    for name, value in results["ratio_librosa"].items():
        spread = f"({value['least']:.2f} to {value['most']:.2f})"
        print(
            f"  {name:<22}{value['median']:6.2f} x librosa  {spread}, within {results['largest_db'][name]:.1e} dB"
        )
    for name, store in results["store"].items():
        rate = store["segments_per_second"]
        print(
            f"  {name:<22}{store['ratio_bytes']:6.3f} of the raw bytes, {rate['median']:,.0f} segments/s "
            f"({rate['least']:,.0f} to {rate['most']:,.0f}), rounds by up to {store['largest_rounding_db']:.2g} dB"
        )


if __name__ == "__main__":
    main()
