"""Cross-validation: each fold evaluated once, finished folds kept, the SVM baseline, the summary."""

import json
import shutil

import numpy as np
import pytest
from support.command_line import earmark

from featurize.dataset.dataset import open_dataset
from featurize.dataset.info import DEFAULT_LAYOUT, FoldLayout
from featurize.dataset.output_folder import refuse_foreign_run_folder
from featurize.storage import StoragePath
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.cross_validation import fold_configs, summarize
from train.folds import fold_roles
from train.score_records import ClassScores, Metrics, ProbabilityScores, Split

SETTINGS = ["--set", "train.model=modulation", "--set", "train.epochs=2", "--set", "train.batch_size=16"]
SETTINGS += ["--set", "train.normalize=true", "--set", "train.learning_rate=1.0e-3"]


@pytest.mark.matrix
def test_every_fold_is_evaluated_once_and_finished_folds_are_kept(features, tmp_path):
    done = earmark("crossval", features, "--out", tmp_path, *SETTINGS)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "crossval.json").read_text())
    assert [fold["fold"] for fold in summary["folds"]] == [0, 1, 2, 3, 4]
    assert sum(fold["count"] for fold in summary["folds"]) == 30
    for part, rows in {"tracks": 30, "segments": 120, "svm_tracks": 30}.items():
        confusion = np.array(summary["confusion"][part])
        assert confusion.sum() == rows
        of_folds = [fold[part]["accuracy"] for fold in summary["folds"]]
        assert summary["mean"][part]["accuracy"] == pytest.approx(np.mean(of_folds))
        assert summary["deviation"][part]["accuracy"] == pytest.approx(np.std(of_folds))
        assert np.trace(confusion) / rows == pytest.approx(np.mean(of_folds))  # folds of equal size
    for fold in range(5):
        metrics = json.loads((tmp_path / f"fold={fold}" / "metrics.json").read_text())
        assert metrics["test_fold"] == fold
        assert f"fold {fold} | Evaluated: fold {fold}. " in done.stderr
        assert metrics["split"]["groups_on_two_sides"] == []
    assert "SVM" in done.stderr
    assert f"{summary['mean']['tracks']['accuracy']:.3f}" in done.stderr

    kept = (tmp_path / "fold=1" / "model.keras").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "fold=3")
    again = earmark("crossval", features, "--out", tmp_path, *SETTINGS)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("steps per epoch") == 1
    assert (tmp_path / "fold=1" / "model.keras").stat().st_mtime_ns == kept
    assert json.loads((tmp_path / "crossval.json").read_text()) == summary
    assert (tmp_path / "crossval.html").read_text().count("/report.html") == 5

    # Seeds are added to a cross-validation with one seed, whose runs are kept.
    more = earmark("crossval", features, "--out", tmp_path, *SETTINGS, "--seeds", "2")
    assert more.returncode == 0, more.stderr
    assert more.stderr.count("steps per epoch") == 5
    assert (tmp_path / "fold=1" / "model.keras").stat().st_mtime_ns == kept
    of_seeds = json.loads((tmp_path / "crossval.json").read_text())
    assert of_seeds["by_seed"]["seeds"] == [0, 1]
    first = [run["tracks"] for run in of_seeds["by_seed"]["runs"][:5]]
    assert first == [fold["tracks"] for fold in summary["folds"]]
    for fold in range(5):
        config = json.loads((tmp_path / "seed=1" / f"fold={fold}" / "run.json").read_text())["train"]
        assert (config["seed"], config["test_fold"]) == (1, fold)
    assert (tmp_path / "crossval.html").read_text().count("/report.html") == 10
    assert "seed=1 fold=4: tracks accuracy" in earmark("status", tmp_path).stdout
    (tmp_path / "crossval.json").unlink()  # as after an interruption
    refuse_foreign_run_folder(StoragePath.of(tmp_path))


def test_the_validation_fold_is_never_the_test_fold():
    for fold, config in enumerate(fold_configs(TrainConfig(validation_fold="next"))):
        roles = fold_roles(config, DEFAULT_LAYOUT)
        assert roles.held_out == {"validation": (fold + 1) % 5, "test": fold}
        assert roles.train == set(range(5)) - {fold, (fold + 1) % 5}
    with pytest.raises(TrainError, match=r"train\.validation_fold = 3.*Type --set train\.validation_fold=next"):
        fold_configs(TrainConfig(validation_fold=3))


@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        ([0, 1], "next", r"needs at least 3 training folds, but the dataset has 2\. Type --set .*_fold=none"),
        ([4], "none", r"needs at least 2 training folds, but the dataset has 1\. Evaluate on the official test"),
    ],
)
def test_too_few_training_folds_are_an_error(training, validation, message):
    with pytest.raises(TrainError, match=message):
        fold_configs(TrainConfig(validation_fold=validation), FoldLayout(training=training, test=9))


def test_the_svm_uses_mean_and_deviation_of_each_coefficient(features):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    from featurize.dataset.reader import read_row_group
    from train.evaluation.svm_baseline import describe_shard, join_shards, predict_svm, shards_to_describe

    dataset = open_dataset(features)
    tracks = join_shards((describe_shard(*call) for call in shards_to_describe(dataset)), dataset.classes)
    assert tracks.vectors.shape == (30, 80)
    mfcc, labels = read_row_group(dataset.shards[0], 0)
    first = mfcc[:4].astype(np.float64)
    np.testing.assert_allclose(tracks.vectors[0, :40], first.mean(axis=(0, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tracks.vectors[0, 40:], first.std(axis=(0, 2)), rtol=1e-4)
    assert tracks.labels[0] == labels[0]
    svm = make_pipeline(StandardScaler(), SVC())
    train, test = tracks.folds != 2, tracks.folds == 2
    svm.fit(tracks.vectors[train], tracks.labels[train])
    rows, predicted = predict_svm(tracks, 2)
    assert tracks.ids[rows].tolist() == tracks.ids[test].tolist()
    assert predicted.tolist() == svm.predict(tracks.vectors[test]).tolist()


def test_an_empty_test_fold_is_an_error_before_any_training(features, tmp_path):
    folder = tmp_path / "features"
    shutil.copytree(features, folder)
    info = json.loads((folder / "dataset.json").read_text())
    info["counts"] = [entry for entry in info["counts"] if entry["fold"] != 4]
    (folder / "dataset.json").write_text(json.dumps(info))
    done = earmark("crossval", folder, "--out", tmp_path / "runs", *SETTINGS)
    assert done.returncode == 1
    assert "no tracks are left for test" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_summary_weights_all_folds_equally():
    def fold(number, correct, count):
        accuracy = correct / count
        scores = ProbabilityScores(
            count=count,
            accuracy=accuracy,
            macro_f1=accuracy,
            per_class=[
                ClassScores(label=label, count=count // 2, precision=accuracy, recall=accuracy, f1=accuracy)
                for label in ("a", "b")
            ],
            confusion=[[correct, count - correct], [0, 0]],
            loss=1.0,
        )
        return Metrics(
            model="conv2",
            epoch=1,
            test_fold=number,
            classes=["a", "b"],
            segments=scores,
            tracks=scores,
            copies_left_out=0,
            split=Split(parts={}, groups_on_two_sides=[]),
            model_sha256="",
        )

    folds = [fold(0, 1, 2), fold(1, 9, 10)]
    summary = summarize({0: folds}, [metrics.tracks for metrics in folds])
    assert summary.mean.tracks.accuracy == pytest.approx(0.7)
    assert summary.deviation.tracks.accuracy == pytest.approx(0.2)
    assert summary.confusion.tracks == [[10, 2], [0, 0]]
    written = summary.to_json()
    assert list(written) == ["model", "classes", "folds", "mean", "deviation", "confusion", "intervals"]
    assert list(written["folds"][0]) == ["fold", "epoch", "count", "tracks", "segments", "svm_tracks"]
    parts = {part: {"accuracy": 0.5, "macro_f1": 0.5} for part in ("tracks", "segments", "svm_tracks")}
    assert written["folds"][0] == {"fold": 0, "epoch": 1, "count": 2, **parts}
