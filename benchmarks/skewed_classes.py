"""Imbalanced classes: track-level macro-F1 with and without the two balancing settings, and of two configs.

    make bench-skewed

The nine classes of synthesized music combine each of three timbres with each of three rhythms. Each has 8 to 120
training tracks and ten test tracks. Trains the network `modulation` with each setting and several seeds, prints a
table and writes benchmarks/results/skewed.json:

    macro_f1   track-level macro-F1 for each seed: without balancing (none), with `class_weights: balanced`
               (class_weights) and with `sampling: balanced` (sampling); with configs/best.yaml (best) and
               configs/best-nine.yaml (best_nine), whose tracks have one segment here
    gain       mean macro-F1 of each balancing setting minus that of none, and of best_nine minus that of best
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import soundfile

from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset_build.driver import featurize
from jobs.config import load_config
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, Style, compose
from train.callbacks import Callbacks
from train.config import TrainConfig
from train.evaluation.evaluate import evaluate_run
from train.fit.trainer import train
from train.run import Run

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "skewed.json"
COUNTS = (8, 11, 16, 22, 31, 43, 60, 85, 120)  # training tracks per class
ARTISTS = 4
TRACK_SECONDS = 5.1
# Balanced sampling has longer epochs, so fewer of them give about the same number of steps.
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {"epochs": 8},
    "class_weights": {"epochs": 8, "class_weights": "balanced"},
    "sampling": {"epochs": 3, "sampling": "balanced"},
}
CONFIGS = {"best": "best.yaml", "best_nine": "best-nine.yaml"}
COMPARED_WITH = {"class_weights": "none", "sampling": "none", "best_nine": "best"}


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--classes", type=int, default=len(COUNTS), help="number of classes, smallest first")
    parser.add_argument("--evaluated", type=int, default=10, help="test tracks per class")
    parser.add_argument("--epochs", type=int, help="epochs of every run (default: 8, or 3 with balanced sampling)")
    parser.add_argument("--only", nargs="*", default=[*SETTINGS, *CONFIGS], help="settings to measure")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    counts = COUNTS[: arguments.classes]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compose_classes(folder / "music", counts, arguments.evaluated)
        featurize(str(folder / "music" / "tracks.csv"), folder / "features", FeaturizeConfig(segments_per_track=1))
        macro_f1 = {
            name: [
                measure(folder, f"{name}-{seed}", settings(name, seed, arguments.epochs))
                for seed in range(arguments.seeds)
            ]
            for name in arguments.only
        }
    means = {name: statistics.mean(values) for name, values in macro_f1.items()}
    results = {
        "tracks": dict(zip(class_names(len(counts)), counts, strict=True)),
        "evaluated": arguments.evaluated,
        "seeds": arguments.seeds,
        "macro_f1": macro_f1,
        "gain": {
            name: means[name] - means[other]
            for name, other in COMPARED_WITH.items()
            if name in means and other in means
        },
    }
    print_table(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def class_names(count: int) -> list[str]:
    """Return the names of the `count` smallest classes."""
    return [f"{sound} in the rhythm of {rhythm}" for sound in STYLES for rhythm in STYLES][:count]


def compose_classes(music: Path, counts: Sequence[int], evaluated: int) -> None:
    """Write the tracks and their table: imbalanced in the training folds, balanced in the test fold.

    An imbalanced test fold would have only two tracks of the smallest class, too few to measure anything.

    Args:
        music: Output folder, which must not exist.
        counts: Training tracks per class.
        evaluated: Test tracks per class.
    """
    music.mkdir()
    pairs = [(sound, rhythm) for sound in STYLES for rhythm in STYLES][: len(counts)]
    rows = ["path,label,group,fold"]
    for c, (label, (sound, rhythm), count) in enumerate(zip(class_names(len(counts)), pairs, counts, strict=True)):
        style = Style(STYLES[sound].note, STYLES[rhythm].onsets, STYLES[rhythm].beats)
        for n in range(count + evaluated):
            # Test tracks are by artists that have no training tracks.
            artist = n % ARTISTS + (ARTISTS if n >= count else 0)
            habits = Habits.draw(np.random.default_rng([9, c, artist]))
            samples = compose(style, habits, TRACK_SECONDS, np.random.default_rng([9, c, n]))
            name = f"{c}-{n}.flac"
            soundfile.write(music / name, samples, SAMPLE_RATE)
            rows.append(f"{name},{label},{c}-{artist},{0 if n >= count else artist + 1}")
    (music / "tracks.csv").write_text("\n".join(rows) + "\n")


def settings(name: str, seed: int, epochs: int | None) -> TrainConfig:
    """Return the settings of a run; `epochs` replaces the number of epochs."""
    changes: dict[str, Any] = {"seed": seed, "validation_fold": "none", "shuffle_window": 4096}
    if name in CONFIGS:
        config = load_config(ROOT / "configs" / CONFIGS[name], []).train
        changes["segments_per_epoch"] = None
    else:
        config = TrainConfig(
            model="modulation", normalize=True, learning_rate=1e-3, batch_size=32, **SETTINGS[name]
        )
    if epochs:
        changes |= {"epochs": epochs, "warmup_epochs": epochs / 10 if config.warmup_epochs else 0}
    return TrainConfig.model_validate({**config.model_dump(), **changes})


def measure(folder: Path, name: str, config: TrainConfig) -> float:
    """Train and evaluate one run; return its track-level macro-F1."""
    dataset, run = open_dataset(folder / "features"), Run(folder / "runs" / name)
    train(dataset, run, config, "", Callbacks())
    return float(evaluate_run(run, dataset).tracks.macro_f1)


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    tracks = results["tracks"].values()
    print(
        f"{len(tracks)} classes of {min(tracks)} to {max(tracks)} training tracks, {results['evaluated']} test "
        f"tracks per class, {results['seeds']} seeds; track-level macro-F1, mean (min to max)"
    )
    for name, values in results["macro_f1"].items():
        print(f"  {name:<16}{statistics.mean(values):8.3f}  ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    sys.exit(main())
