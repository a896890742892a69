"""A collection with an official split and three folds, from its table to the report of a run."""

import json
import os
import shutil

import numpy as np
import pytest
from support.command_line import earmark, earmark_here
from support.logs import logged

from featurize.config import FeaturizeConfig
from featurize.dataset.dataset import open_dataset
from featurize.dataset.info import FoldLayout
from featurize.dataset_build.driver import featurize
from train.config import TrainConfig
from train.errors import TrainError
from train.run import Run

pytestmark = pytest.mark.usefixtures("logical_cpus")

CONFIG = FeaturizeConfig(tracks_per_shard=3, segments_per_track=4)
SPLITS = {"3": "validation", "4": "test"}  # by artist
QUICKEST = {"model": "modulation", "epochs": 1, "batch_size": 16}


def artist_of(track):
    return os.path.basename(track).partition("-")[0]


@pytest.fixture(scope="module")
def table(music, tmp_path_factory):
    """The artists 0, 1 and 2 of each style are in three folds to train on, 3 validates, 4 tests."""
    rows = []
    for path in sorted(str(path) for path in music.rglob("*.*")):
        artist, label = artist_of(path), os.path.relpath(path, music).split("/")[0]
        split = SPLITS.get(artist, "train")
        rows.append(f"{path},{label},{label} {artist},{split},{artist if split == 'train' else ''}")
    path = tmp_path_factory.mktemp("table") / "tracks.csv"
    path.write_text("\n".join(["path,label,group,split,fold", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def dataset(table, ray_here, tmp_path_factory):
    folder = tmp_path_factory.mktemp("split") / "features"
    featurize(str(table), folder, CONFIG)
    return open_dataset(folder)


@pytest.fixture(scope="module")
def run(dataset, logical_cpus, tmp_path_factory):
    from train.callbacks import Callbacks
    from train.evaluation.evaluate import evaluate_run
    from train.fit.trainer import train
    from train.report.run_page import write_run_page

    run = Run(tmp_path_factory.mktemp("run"))
    with logged("train") as messages:
        train(dataset, run, TrainConfig(**QUICKEST), "the: config\n", Callbacks())
    evaluate_run(run, dataset)
    write_run_page(run, dataset)
    return run, messages


def test_the_dataset_records_what_its_folds_are_for(dataset):
    assert dataset.layout == FoldLayout(training=[0, 1, 2], validation=3, test=4)
    stored = json.loads((dataset.folder / "dataset.json").local.read_text())
    assert stored["folds"] == {"training": [0, 1, 2], "validation": 3, "test": 4}
    assert {(artist_of(row["track"]), row["fold"]) for row in dataset.tracks().to_pylist()} == {
        (str(k), k) for k in range(5)
    }


def test_featurizing_again_without_the_split_makes_another_dataset_of_the_same_shards(table, dataset, tmp_path):
    """All shards keep their names, but a model that was tested on the split is not one of this dataset."""
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    whole = tmp_path / "tracks.csv"
    lines = [",".join([*row[:3], artist_of(row[0])]) for row in rows]
    whole.write_text("\n".join(["path,label,group,fold", *lines]) + "\n")
    featurize(str(table), tmp_path / "features", CONFIG)
    first = open_dataset(tmp_path / "features")
    assert first.id == dataset.id
    with logged("featurize") as messages:
        featurize(str(whole), tmp_path / "features", CONFIG)
    second = open_dataset(tmp_path / "features")
    assert [shard.name for shard in second.shards] == [shard.name for shard in first.shards]
    assert second.layout.official == {}
    assert second.id != first.id
    assert "12 tracks are no longer in an official split, and have been assigned to folds." in messages


@pytest.mark.parametrize("lost", [["tracks.parquet"], ["tracks.parquet", "dataset.json"]])
def test_a_lost_plan_is_rebuilt_with_its_splits(lost, table, dataset, tmp_path):
    shutil.copytree(dataset.folder.local, tmp_path / "features")
    for name in lost:
        (tmp_path / "features" / name).unlink()
    fewer = tmp_path / "tracks.csv"
    fewer.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with logged("featurize") as messages:
        featurize(str(fewer), tmp_path / "features", CONFIG)
    assert any("is missing or broken: the plan of 29 tracks was read" in message for message in messages)
    rebuilt = open_dataset(tmp_path / "features")
    assert rebuilt.layout == dataset.layout
    folds = {row["track"]: row["fold"] for row in dataset.tracks().to_pylist()}
    now = {row["track"]: row["fold"] for row in rebuilt.tracks().to_pylist()}
    assert len(now) == 29
    assert now.items() < folds.items()


@pytest.mark.parametrize(
    ("settings", "artists"),
    [
        ({}, "012"),
        ({"validation_fold": "none"}, "012"),
        ({"validation_fold": "next"}, "12"),
        ({"test_fold": 2}, "01"),
        ({"test_fold": 2, "validation_fold": "next"}, "1"),
        ({"test_fold": 1, "validation_fold": "none"}, "02"),
        ({"test_fold": 0, "validation_fold": 1, "sampling": "balanced", "mixup": 0.3}, "2"),
    ],
)
def test_no_track_of_an_official_split_is_trained_on(settings, artists, dataset):
    from train.input.class_counts import segment_counts
    from train.input.training_stream import training_stream
    from train.model.normalization import training_statistics

    config = TrainConfig(batch_size=8, **settings)
    stream = training_stream(dataset, config)
    drawn = {track for step in range(stream.steps_per_epoch) for track in stream.tracks(step)}
    assert {artist_of(track) for track in drawn} == set(artists)
    assert segment_counts(dataset, config)["train"].sum() == 4 * len(drawn) == 24 * len(artists)
    folds = [part for part in dataset.info.statistics if str(part.fold) in artists]
    mean = np.average([part.mean for part in folds], axis=0, weights=[part.frames for part in folds])
    np.testing.assert_allclose(training_statistics(dataset, config).mean, mean, rtol=1e-6)


def test_the_official_splits_are_the_default_and_every_result_says_so(dataset, run):
    run, messages = run
    stored = json.loads((run.folder / "run.json").local.read_text())["train"]
    assert (stored["test_fold"], stored["validation_fold"]) == ("split", "split")
    used = "Training uses folds 0, 1, 2; validation on the official validation split; test on the official test "
    assert f"{used}split." in messages
    metrics = run.metrics()
    assert metrics.test_fold == 4
    assert metrics.test_set == "the official test split"
    assert metrics.tracks.count == 6
    parts = json.loads((run.folder / "metrics.json").local.read_text())["split"]["parts"]
    assert parts["train"] == {"folds": [0, 1, 2], "tracks": 18, "groups": 9}
    assert parts["test"] == {"folds": [4], "tracks": 6, "groups": 3, "official": True}
    assert parts["validation"]["official"]
    assert run.history()[0].validation
    page = run.report.local.read_text()
    assert "Evaluated on the official test split, which was not used for training" in page
    assert "test (official split)" in page
    assert "selected on the validation split (track_macro_f1), not on the test split" in page
    assert "A fold is one of 3 parts of the training part of the collection" in page
    assert "on the official test split" in earmark_here("status", run.folder).stdout


def test_an_official_split_that_a_run_does_not_use_is_counted_apart(dataset):
    from train.evaluation.evaluate import describe_split

    split = describe_split(dataset, TrainConfig(test_fold=2, validation_fold="none"))
    assert {part: (size.folds, size.tracks) for part, size in split.parts.items()} == {
        "train": ([0, 1], 12),
        "test": ([2], 6),
        "unused": ([3, 4], 12),
    }
    assert split.groups_on_two_sides == []


def test_a_run_resumes_with_the_default_and_with_the_split_named(dataset, run):
    from train.callbacks import Callbacks
    from train.fit.trainer import train

    run, _ = run
    for settings in ({}, {"test_fold": "split"}, {"validation_fold": "split"}):
        train(dataset, run, TrainConfig(**QUICKEST, **settings), "the: config\n", Callbacks())
    with pytest.raises(TrainError, match=r"train\.test_fold: 'split' there, 0 now"):
        train(dataset, run, TrainConfig(**QUICKEST, test_fold=0), "the: config\n", Callbacks())


def test_a_cross_validation_uses_the_training_part_only(dataset):
    from train.evaluation.cross_validation import describe_left_out, fold_configs
    from train.evaluation.svm_baseline import describe_shard, join_shards, predict_svm, shards_to_describe
    from train.folds import fold_roles

    configs = fold_configs(TrainConfig(test_fold="split"), dataset.layout)
    assert [(config.test_fold, config.validation_fold) for config in configs] == [(k, "none") for k in range(3)]
    roles = [fold_roles(config, dataset.layout) for config in configs]
    assert [set(role.train) for role in roles] == [{1, 2}, {0, 2}, {0, 1}]
    assert describe_left_out(dataset) == (
        "A cross-validation uses the training part only: the official validation split (6 tracks) and the "
        "official test split (6 tracks) are left out."
    )
    tracks = join_shards((describe_shard(*call) for call in shards_to_describe(dataset)), dataset.classes)
    assert set(tracks.folds) == {0, 1, 2}
    assert len(predict_svm(tracks, 1)[0]) == 6
    for settings, message in (
        ({"validation_fold": "split"}, "leaves the official splits out"),
        ({"validation_fold": 1}, "each fold is the test fold once"),
    ):
        with pytest.raises(TrainError, match=message):
            fold_configs(TrainConfig(**settings), dataset.layout)


@pytest.mark.slow
def test_crossval_of_a_collection_with_a_split(dataset, tmp_path):
    settings = [f"train.{key}={value}" for key, value in QUICKEST.items()]
    done = earmark(
        "crossval", dataset.folder, "--out", tmp_path, *(word for s in settings for word in ("--set", s))
    )
    assert done.returncode == 0, done.stderr
    assert "the official test split (6 tracks) are left out" in done.stderr
    assert "Fold 2 (3 of 3)" in done.stderr
    summary = json.loads((tmp_path / "crossval.json").read_text())
    assert [(fold["fold"], fold["count"]) for fold in summary["folds"]] == [(0, 6), (1, 6), (2, 6)]
    metrics = Run(tmp_path / "fold=1").metrics()
    assert metrics.test_set == "fold 1"
    assert metrics.split.parts["unused"].folds == [3, 4]
    page = (tmp_path / "fold=1" / "report.html").read_text()
    assert "unused<br>test split" in page
    compared = earmark("compare", tmp_path, "--out", tmp_path / "compare.html")
    assert "18 tracks, folds 0, 1, 2" in compared.stdout
