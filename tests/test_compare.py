"""Comparison of runs: the table in the terminal and on the page, the figures read from the runs, escaped names."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from support.command_line import earmark_here
from support.training import trained

from featurize.dataset.dataset import open_dataset
from train.errors import TrainError
from train.evaluation.cross_validation import summarize
from train.evaluation.evaluate import evaluate_run
from train.report.comparison import read_entries, remarks_on, table_of
from train.report.paired import TrackResults, compare_pair, compare_with_first
from train.run import Run
from train.score_records import Scores


@pytest.fixture(scope="module")
def runs(features, logical_cpus, tmp_path_factory):
    """Two runs, and a cross-validation that consists of copies of both."""
    root = tmp_path_factory.mktemp("runs")
    metrics = []
    for fold, settings in enumerate([{"validation_fold": "next"}, {"validation_fold": "none", "epochs": 3}]):
        folder = root / f"<b>{fold}" / "run"
        trained(
            features, folder, model="modulation", test_fold=fold, seed=fold, best_epoch_on_test=True, **settings
        )
        metrics.append(evaluate_run(Run(folder), open_dataset(features)))
        shutil.copytree(folder, root / "folds" / f"fold={fold}")
    svm = [Scores(count=0, accuracy=0.5, macro_f1=0.5, per_class=[], confusion=[[0] * 3] * 3)] * 2
    Run(root / "folds").write("crossval.json", summarize({0: metrics}, svm).to_json())
    return root


def test_only_settings_that_differ_are_listed(runs):
    first, second = f"{runs}/<b>0/run", f"{runs}/<b>1/run"
    rows = {row.label: row for row in table_of(read_entries([first, second]))}
    figures = [json.loads((runs / f"<b>{i}" / "run" / "metrics.json").read_text()) for i in range(2)]
    histories = [Run(runs / f"<b>{i}" / "run").history() for i in range(2)]
    settings = [label for label in rows if label.startswith(("train.", "featurize.", "dataset"))]
    assert settings == ["train.epochs", "train.seed", "train.test_fold", "train.validation_fold"]
    assert rows["model"].cells == ["modulation"] * 2
    assert rows["train.validation_fold"].cells == ["next", "none"]
    for part in ("tracks", "segments"):
        for figure, title in (("accuracy", "accuracy"), ("macro_f1", "macro-F1")):
            values = [metrics[part][figure] for metrics in figures]
            row = rows[f"{title} of {part}"]
            assert row.cells == [f"{value:.3f}" for value in values]
            assert row.best == {i for i in range(2) if values[i] == max(values)}
    best = [max(epoch.test.accuracy for epoch in history) for history in histories]
    assert rows["best epoch on test, segments"].cells == [f"{value:.3f}" for value in best]
    assert rows["epochs"].cells == ["2", "3"]
    # A run that did not evaluate the test fold in training, or only in its first epochs, has no such figure.
    *early, last = histories[1]
    histories[1] = [*early, last.model_copy(update={"test": None})]
    entries = read_entries([first, second])
    table = {
        row.label: row for row in table_of([entries[0], dataclasses.replace(entries[1], histories=histories[1:])])
    }
    assert table["best epoch on test, segments"].cells == [f"{best[0]:.3f}", "-"]
    without = [dataclasses.replace(entries[1], histories=histories[1:])]
    assert "best epoch on test, segments" not in {row.label for row in table_of(without)}
    assert not any("best epoch on test" in remark for remark in remarks_on(without))
    # 160 filters of 25 weights, batch normalization of 320 features (4 numbers each), dense layers of 256 and 3
    assert rows["parameters"].cells == [f"{40 * 4 * 25 + 4 * 320 + 321 * 256 + 257 * 3:,}"] * 2


def test_a_cross_validation_is_shown_as_the_mean_over_its_folds(runs):
    single = read_entries([f"{runs}/<b>0/run", f"{runs}/<b>1/run"])
    [entry] = folds = read_entries([f"{runs}/folds"])
    values = [metrics.tracks.accuracy for each in single for metrics in each.metrics]
    rows = {row.label: row for row in table_of(folds)}
    assert rows["accuracy of tracks"].cells == [f"{np.mean(values):.3f} ± {np.std(values):.3f}"]
    assert rows["evaluated on"].cells == ["12 tracks, folds 0, 1"]
    assert rows["epochs"].cells == ["2/3"]
    assert "train.test_fold" not in entry.settings


def test_the_page_and_the_terminal_have_the_same_figures(runs, tmp_path):
    folders = ["<b>0/run", "<b>1/run", "folds"]
    done = earmark_here("compare", *folders, "--out", tmp_path / "page.html", cwd=runs)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    rows = table_of(read_entries([f"{runs}/{folder}" for folder in folders]))
    for row in rows:
        for cell in row.cells:
            assert f">{cell}</td>" in page
            assert cell in done.stdout
    assert "<b>" not in page
    assert page.count("&lt;b&gt;0/run") == 1
    assert "The runs were evaluated on different folds" in page
    assert "The runs were evaluated on different folds" in done.stdout
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "data:image/svg+xml;base64," in page


def test_runs_are_compared_on_their_common_tracks(runs, tmp_path):
    folders = [f"{runs}/{folder}" for folder in ("<b>0/run", "<b>1/run", "folds")]
    entries = read_entries(folders)
    pairs, remarks = compare_with_first([entry.runs for entry in entries])
    assert remarks == ["Runs 1 and 2 have no tracks in common, or other classes."]
    [pair] = pairs  # the first fold of the cross-validation is the same run
    assert (pair.first, pair.second, pair.tracks) == (0, 2, 6)
    assert pair.differences["accuracy"] == (0.0, (0.0, 0.0))
    assert (pair.only_first, pair.only_second, pair.p_value, pair.disagreements) == (0, 0, 1.0, [])
    assert sum(count for _, count, _, _ in pair.classes) == 6
    rows = [row for row in table_of(entries) if "confidence" in row.label]
    assert len(rows) == 4
    low, high = entries[0].intervals.tracks.accuracy
    assert rows[0].cells[0] == f"{low:.3f} to {high:.3f}"
    assert rows[0].cells[2] == "-"  # this crossval.json was written without intervals


def test_tracks_on_which_one_run_is_right_are_named():
    def results(predicted):
        tracks = [f"<{n}>.mp3" for n in range(20)]
        return TrackResults(tracks, np.arange(20, dtype=np.int32) % 2, np.array(predicted), ["jazz", "punk"])

    right = [n % 2 for n in range(20)]
    wrong = [1 - label if n < 8 else label for n, label in enumerate(right)]
    pair = compare_pair(0, 1, [results(right), results(wrong)], None)
    assert (pair.only_first, pair.only_second, pair.tracks, pair.groups) == (8, 0, 20, 20)
    assert pair.p_value == pytest.approx(2 * 0.5**8)
    assert pair.differences["accuracy"].value == pytest.approx(0.4)
    assert "the interval excludes 0" in pair.sentence
    assert [each.track for each in pair.disagreements] == [f"<{n}>.mp3" for n in range(8)]
    assert pair.classes == [("jazz", 10, 10, 6), ("punk", 10, 10, 6)]
    assert (
        compare_pair(0, 1, [results(right), dataclasses.replace(results(right), classes=["a", "b"])], None) is None
    )


def test_one_error_lists_all_folders_that_cannot_be_compared(runs, tmp_path):
    not_evaluated = shutil.copytree(runs / "<b>0" / "run", tmp_path / "not-evaluated")
    (not_evaluated / "metrics.json").unlink()
    with pytest.raises(TrainError) as caught:
        read_entries([str(tmp_path / "nothing"), f"{runs}/<b>1/run", str(not_evaluated)])
    message = str(caught.value)
    assert f"  - {tmp_path}/nothing holds no run" in message
    assert f"  - {not_evaluated} is not evaluated yet. Type: earmark evaluate {not_evaluated}" in message
