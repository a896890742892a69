"""Accuracy of candidate settings in nested folds, so that the choice among them is made without the test fold.

    make bench-learning EARMARK_MUSIC=FOLDER

Each fold is the test fold once. The candidate for it is chosen by the mean accuracy on the other folds, each
predicted by models that were trained on neither that fold nor the test fold; then a model that is trained on all
other folds predicts the test fold, once. The model without two folds serves both of them, so ten models take the
place of twenty. Trained models are those of the trainer after its last step, without checkpoints and curves; with
the average of their weights, they are two candidates. The mean of the probabilities of all seeds is the ensemble.

Prints a table and writes benchmarks/results/learning.json:

    candidates   accuracy of tracks on each test fold, for each seed, and macro-F1 of the tracks of all test folds;
                 the mean over folds, its spread over folds and over seeds, and the accuracy on the inner folds
    svm          accuracy of tracks on each test fold, and macro-F1: the baseline
    chosen       the candidate chosen for each test fold, and its accuracy there: the figure that does not flatter

With --keep FOLDER, the datasets and the predictions stay there, and a later run continues with them.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.left_out_folds import Predictions, read, train_without, write
from featurize.collection.listing import AUDIO_SUFFIXES
from featurize.dataset.dataset import Dataset, open_dataset
from featurize.dataset_build.driver import featurize
from jobs.config import JobConfig, load_config
from jobs.demo.demo import TRACKS_PER_STYLE, compose_collection
from train.evaluation.metrics import pool_tracks, score_confusion, score_predicted
from train.evaluation.svm_baseline import describe_shard, join_shards, predict_svm, score_svm, shards_to_describe
from train.score_records import Scores

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "learning.json"
BASE = "best"
# Trained settings: the config, and what is changed in it.
RECIPES: dict[str, tuple[str, list[str]]] = {
    BASE: ("best", []),
    "log-mel": ("log-mel", []),
    "deltas": ("deltas", []),
    "constant rate": ("best", ["train.schedule=constant"]),
    "24 segments": ("best", ["featurize.segments_per_track=24"]),
    "masks": ("best", ["train.mask_frames=40"]),
    "no mixup": ("best", ["train.mixup=0"]),
    "no smoothing": ("best", ["train.label_smoothing=0"]),
    "best-nine": ("best-nine", []),
    "class weights": ("best", ["train.class_weights=balanced"]),
}
FOR_SKEWED = ["best-nine", "class weights"]  # not trained by default on classes of the same size
LATEST, AVERAGED = 0, 1  # weights of a trained model


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What is compared: a trained recipe, and how its models are used.

    Attributes:
        recipe: Key of `RECIPES`.
        weights: LATEST or AVERAGED.
        ensemble: Whether the probabilities of all seeds are averaged.
        first_last: Whether only the first and the last segment of each track are predicted.
    """

    recipe: str
    weights: int = LATEST
    ensemble: bool = False
    first_last: bool = False

    @property
    def name(self) -> str:
        """The name in the table."""
        parts = [self.recipe, "average" * self.weights, "ensemble" * self.ensemble, "2 segments" * self.first_last]
        return " + ".join(filter(None, parts))


def main() -> None:
    """Run the benchmark, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--music", default=os.environ.get("EARMARK_MUSIC"), help="collection (default: composed)")
    parser.add_argument("--tracks", type=int, default=TRACKS_PER_STYLE, help="composed tracks per style")
    by_default = [recipe for recipe in RECIPES if recipe not in FOR_SKEWED]
    parser.add_argument("--recipes", nargs="*", default=by_default, choices=RECIPES, help="settings to train")
    parser.add_argument("--seeds", type=int, default=3, help=f"seeds of {BASE}")
    parser.add_argument("--inner-seeds", type=int, default=3, help="most seeds of models for the inner folds")
    parser.add_argument("--other-seeds", type=int, default=1, help="seeds of the other settings")
    parser.add_argument("--folds", type=int, default=5, help="test folds, of the five by artist")
    parser.add_argument("--epochs", type=int, help="epochs of every recipe (default: those of its config)")
    parser.add_argument(
        "--outer-only", nargs="*", default=[], help="recipes that the inner folds do not choose from"
    )
    parser.add_argument("--per-class", type=int, nargs="*", help="tracks of each class that are used, by its name")
    parser.add_argument("--keep", type=Path, help="folder of datasets and predictions, to continue with later")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    tf.config.experimental.enable_op_determinism()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        music = arguments.music or str(folder / "music")
        if not arguments.music:
            compose_collection(folder / "music", 0, arguments.tracks)
        if arguments.per_class:
            folder /= "-".join(map(str, ["per-class", *arguments.per_class]))
            music = skewed_table(Path(music), folder, arguments.per_class)
        study = Study(folder, music, arguments.folds, arguments.epochs)
        seeds = {
            recipe: arguments.seeds if recipe == BASE else arguments.other_seeds for recipe in arguments.recipes
        }
        inner = {
            recipe: 0 if recipe in arguments.outer_only else min(count, arguments.inner_seeds)
            for recipe, count in seeds.items()
        }
        for recipe, count in seeds.items():
            study.train_all(recipe, count, inner[recipe])
        results = study.results(seeds, inner)
    print_table(results)
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(results, indent=2) + "\n")


def candidates_of(recipe: str, seeds: int) -> list[Candidate]:
    """Return the candidates that the models of a recipe make."""
    found = [Candidate(recipe, weights) for weights in (LATEST, AVERAGED)]
    if seeds > 1:
        found += [dataclasses.replace(each, ensemble=True) for each in found]
    if recipe == BASE:
        found.append(Candidate(recipe, first_last=True))
    return found


def skewed_table(music: Path, folder: Path, per_class: Sequence[int]) -> str:
    """Write a table of some tracks of each class, evenly chosen from those of its folder; return its path."""
    rows = ["path,label"]
    classes = sorted(path for path in music.iterdir() if path.is_dir())
    for tracks, count in zip(classes, per_class, strict=True):
        files = sorted(path for path in tracks.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        chosen = np.linspace(0, len(files) - 1, count).round().astype(int)
        rows += [f"{files[index].absolute()},{tracks.name}" for index in chosen]
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "tracks.csv"
    table.write_text("\n".join(rows) + "\n")
    return str(table)


class Study:
    """The datasets and predictions of one collection, made when they are first needed."""

    def __init__(self, folder: Path, music: str, folds: int, epochs: int | None) -> None:
        """Describe the study.

        Args:
            folder: Folder of datasets and predictions.
            music: Collection.
            folds: Number of folds that are test folds; the others are always trained on.
            epochs: Epochs of every recipe, a tenth of them with a rising learning rate; None for its own.
        """
        self._folder = folder
        self._music = music
        self._folds = range(folds)
        self._datasets: dict[Path, Dataset] = {}
        self._settings = ["featurize.group_by=artist"]
        if epochs:
            self._settings += [f"train.epochs={epochs}", f"train.warmup_epochs={epochs / 10}"]

    def config(self, recipe: str) -> JobConfig:
        """Return the settings of a recipe."""
        file, changes = RECIPES[recipe]
        return load_config(ROOT / "configs" / f"{file}.yaml", [*self._settings, *changes])

    def dataset(self, recipe: str) -> Dataset:
        """Return the dataset of a recipe; recipes with the same features share it."""
        settings = self.config(recipe).featurize
        excerpt = f"-{settings.excerpt_seconds:g}s" if settings.excerpt_seconds else ""
        folder = self._folder / f"{settings.kind}-{settings.deltas}-{settings.segments_per_track}{excerpt}"
        if folder not in self._datasets:
            featurize(self._music, folder, settings)
            self._datasets[folder] = open_dataset(folder)
        return self._datasets[folder]

    def train_all(self, recipe: str, seeds: int, inner_seeds: int) -> None:
        """Train a recipe without each fold, and without each pair of folds; keep what it predicts for them."""
        dataset, config = self.dataset(recipe), self.config(recipe)
        for seed, left_out in itertools.product(range(seeds), left_out_sets(self._folds)):
            if len(left_out) > 1 and seed >= inner_seeds:
                continue
            paths = {fold: self._path(recipe, seed, left_out, fold) for fold in left_out}
            if all(path.exists() for path in paths.values()):
                continue
            start = time.monotonic()
            for fold, predictions in train_without(dataset, config, seed, left_out).items():
                write(paths[fold], predictions)
            print(f"{recipe}, seed {seed}, without {left_out}: {time.monotonic() - start:.1f} s", flush=True)

    def results(self, seeds: dict[str, int], inner: dict[str, int]) -> dict[str, Any]:
        """Score all candidates, and choose one for each test fold."""
        candidates = [each for recipe, count in seeds.items() for each in candidates_of(recipe, count)]
        by_name = {each.name: self._score(each, seeds[each.recipe], inner[each.recipe]) for each in candidates}
        chosen = {}
        choices = {name: scores for name, scores in by_name.items() if scores["inner"]}
        for fold in self._folds if choices else ():
            best = max(choices, key=lambda name: choices[name]["inner"][fold])
            chosen[fold] = {"candidate": best, "accuracy": choices[best]["by_fold"][fold]}
        accuracies = [each["accuracy"] for each in chosen.values()]
        return {
            "tracks": self.dataset(next(iter(seeds))).tracks().num_rows,
            "folds": len(self._folds),
            "seeds": seeds,
            "inner_seeds": inner,
            "settings": self._settings,
            "candidates": by_name,
            "svm": self._svm(next(iter(seeds))),
            "chosen": chosen
            and {
                "by_fold": chosen,
                "mean": statistics.mean(accuracies),
                "over_folds": statistics.pstdev(accuracies),
            },
        }

    def _path(self, recipe: str, seed: int, left_out: Sequence[int], fold: int) -> Path:
        name = f"{recipe.replace(' ', '-')}-{seed}-without-{'-'.join(map(str, left_out))}-{fold}.npz"
        return self._folder / "predictions" / name

    def _figures(self, candidate: Candidate, seeds: int, left_out: Sequence[int], fold: int) -> list[Scores]:
        """Return the scores on a fold of models without some folds: of each seed, or of the ensemble of all."""
        predicted = [read(self._path(candidate.recipe, seed, left_out, fold)) for seed in range(seeds)]
        return list(scores_of(candidate, predicted))

    def _score(self, candidate: Candidate, seeds: int, inner_seeds: int) -> dict[str, Any]:
        outer = [self._figures(candidate, seeds, [fold], fold) for fold in self._folds]
        by_seed = [[fold[seed].accuracy for fold in outer] for seed in range(len(outer[0]))]
        by_fold = [statistics.mean(score.accuracy for score in fold) for fold in outer]
        macro_f1 = [pooled_macro_f1([fold[seed] for fold in outer]) for seed in range(len(outer[0]))]
        inner = self._inner(candidate, inner_seeds) if inner_seeds else []
        return {
            "accuracy": by_seed,
            "macro_f1": macro_f1,
            "by_fold": by_fold,
            "inner": inner,
            "mean": statistics.mean(by_fold),
            "over_folds": statistics.pstdev(by_fold),
            "over_seeds": statistics.pstdev([statistics.mean(each) for each in by_seed]),
            "mean_macro_f1": statistics.mean(macro_f1),
            "mean_inner": statistics.mean(inner) if inner else None,
        }

    def _inner(self, candidate: Candidate, seeds: int) -> list[float]:
        """Return the mean accuracy on the folds besides each test fold, of models trained on neither."""
        return [
            statistics.mean(
                score.accuracy
                for fold in self._folds
                if fold != test
                for score in self._figures(candidate, seeds, sorted([fold, test]), fold)
            )
            for test in self._folds
        ]

    def _svm(self, recipe: str) -> dict[str, Any]:
        dataset = self.dataset(recipe)
        tracks = join_shards((describe_shard(*each) for each in shards_to_describe(dataset)), dataset.classes)
        scores = [score_svm(tracks, *predict_svm(tracks, fold)) for fold in self._folds]
        accuracies = [each.accuracy for each in scores]
        return {
            "by_fold": accuracies,
            "mean": statistics.mean(accuracies),
            "over_folds": statistics.pstdev(accuracies),
            "mean_macro_f1": pooled_macro_f1(scores),
        }


def left_out_sets(folds: Iterable[int]) -> list[list[int]]:
    """Return each fold, and then each pair of folds."""
    folds = list(folds)
    return [list(each) for count in (1, 2) for each in itertools.combinations(folds, count)]


def pooled_macro_f1(folds: Sequence[Scores]) -> float:
    """Return the macro-F1 of the tracks of all folds together: a fold may have no track of a small class."""
    confusion = np.sum([scores.confusion for scores in folds], axis=0)
    return score_confusion(confusion, [each.label for each in folds[0].per_class]).macro_f1


def scores_of(candidate: Candidate, predicted: Sequence[Predictions]) -> Iterable[Scores]:
    """Return the scores on tracks of the predictions of several seeds, or of their mean."""
    probabilities = [each.probabilities[candidate.weights] for each in predicted]
    if candidate.ensemble:
        probabilities = [np.mean(probabilities, axis=0)]
    labels, per_track, classes = predicted[0].labels, predicted[0].per_track, predicted[0].classes
    if candidate.first_last:
        kept: NDArray[np.bool_] = np.isin(np.arange(len(labels)) % per_track, (0, per_track - 1))
        probabilities, labels, per_track = [rows[kept] for rows in probabilities], labels[kept], 2
    for rows in probabilities:
        tracks, actual = pool_tracks(rows, labels, per_track)
        yield score_predicted(tracks.argmax(axis=1), actual, classes)


def print_table(results: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{results['tracks']} tracks, {results['folds']} folds; accuracy of tracks (and macro-F1)")
    print(f"  {'':<32}{'mean':>7}{'folds':>8}{'seeds':>8}{'macro-F1':>10}{'inner':>8}")
    for name, row in results["candidates"].items():
        print(
            f"  {name:<32}{row['mean']:7.3f}{row['over_folds']:8.3f}{row['over_seeds']:8.3f}"
            f"{row['mean_macro_f1']:10.3f}" + (f"{row['mean_inner']:8.3f}" if row["mean_inner"] else "")
        )
    svm, chosen = results["svm"], results["chosen"]
    print(f"  {'SVM':<32}{svm['mean']:7.3f}{svm['over_folds']:8.3f}{'':8}{svm['mean_macro_f1']:10.3f}")
    if not chosen:
        return
    print(f"  {'chosen by inner folds':<32}{chosen['mean']:7.3f}{chosen['over_folds']:8.3f}")
    for fold, choice in chosen["by_fold"].items():
        print(f"    fold {fold}: {choice['candidate']}, {choice['accuracy']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
