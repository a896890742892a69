"""The page of a cross-validation: its figures, links and sentences, the paired comparison with the SVM, names."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from support.command_line import earmark_here
from support.report import DOLLARS, EVALUATED, JAZZ

from featurize.storage import StoragePath
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.cross_validation import run_folder, run_folders, seeds_of, summarize
from train.evaluation.intervals import Groups, statistics_of
from train.evaluation.prediction_parts import read_predictions
from train.evaluation.svm_baseline import Tracks
from train.evaluation.svm_predictions import SVM_PREDICTIONS, SvmPredictions, network_minus_svm
from train.report.cross_validation_page import conclusions_of, write_cross_validation_page
from train.report.cross_validation_summary import summarize_cross_validation
from train.run import Run
from train.score_records import Scores
from train.summary_records import CrossValidationSummary, Figures


def svm_of(dataset, wrong=()):
    """Return predictions of an SVM that is right, except for some tracks."""
    classes = dataset.classes
    names = [*EVALUATED]
    labels = np.array([classes.index(EVALUATED[name]) for name in names], np.int32)
    predicted = np.where(np.isin(names, [*wrong]), 1 - labels, labels)
    ids = np.array(names, np.object_)
    none = np.zeros(len(names), np.bool_)
    tracks = Tracks(
        np.zeros((len(names), 2), np.float32), labels, np.zeros(len(names), np.int64), none, ids, classes
    )
    return SvmPredictions.of(tracks, [(np.arange(len(names)), predicted)], dataset)


def with_accuracy(metrics, fold, accuracy):
    tracks = metrics.tracks.model_copy(update={"accuracy": accuracy, "macro_f1": accuracy / 2})
    return metrics.model_copy(update={"test_fold": fold, "tracks": tracks})


@pytest.fixture(scope="module")
def folds(report_run, report_dataset, tmp_path_factory):
    """A cross-validation with two folds and two seeds, all of whose runs are copies of one."""
    folder = StoragePath.of(tmp_path_factory.mktemp("a <b>place") / "folds")
    metrics = Run(report_run).metrics()
    runs = {}
    for order, seed in enumerate((0, 1)):
        runs[seed] = []
        for fold in (0, 1):
            place = run_folder(folder, fold, seed if order else None)
            shutil.copytree(report_run, place.local)
            runs[seed].append(with_accuracy(metrics, fold, 0.5 + 0.25 * fold + 0.125 * seed))
            Run(place).write("metrics.json", runs[seed][-1].to_json())
            info = json.loads((place / "run.json").read())
            Run(place).write("run.json", {**info, "train": {**info["train"], "seed": seed}})
    svm = svm_of(report_dataset, wrong=list(EVALUATED)[:2])
    svm.write(folder)
    per_fold = [Scores(count=6, accuracy=4 / 6, macro_f1=0.6, per_class=[], confusion=[[2, 1], [1, 2]])] * 2
    predictions = [part for each in range(4) for part in read_predictions(Run(report_run))]
    intervals, _ = statistics_of(predictions, Groups(report_dataset), 2)
    Run(folder).write("crossval.json", summarize(runs, per_fold, intervals).to_json())
    return folder


def test_seeds_and_folds_are_apart_in_the_summary(folds):
    summary = Run(folds).cross_validation()
    assert [fold.tracks.accuracy for fold in summary.folds] == [0.5625, 0.8125]  # means over the seeds
    assert summary.mean.tracks.accuracy == 0.6875
    assert summary.deviation.tracks == Figures(accuracy=0.125, macro_f1=0.0625)  # of 0.5625 and 0.8125
    assert summary.by_seed.deviation.tracks == Figures(accuracy=0.0625, macro_f1=0.03125)  # in each fold
    assert [(run.seed, run.fold, run.tracks.accuracy) for run in summary.by_seed.runs] == [
        (0, 0, 0.5),
        (0, 1, 0.75),
        (1, 0, 0.625),
        (1, 1, 0.875),
    ]
    assert np.sum(summary.confusion.tracks) == 4 * len(EVALUATED)
    assert np.sum(summary.confusion.svm_tracks) == 12
    assert run_folders(folds, summary) == {
        0: [folds / "fold=0", folds / "fold=1"],
        1: [folds / "seed=1/fold=0", folds / "seed=1/fold=1"],
    }
    content = json.loads((folds / "crossval.json").read())
    content["by_seed"]["runs"].pop()
    with pytest.raises(ValidationError, match=r"by_seed\.runs are not those of its seeds and folds"):
        CrossValidationSummary.model_validate(content)


def test_seeds_follow_that_of_the_settings():
    assert seeds_of(TrainConfig(seed=7), 3) == [7, 8, 9]
    with pytest.raises(TrainError, match=r"need a seed of 2147483648.*Type --set train.seed=0"):
        seeds_of(TrainConfig(seed=2**31 - 2), 3)


def test_the_page_links_reports_and_escapes_names(folds):
    done = earmark_here("report", folds)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"page      {folds / 'crossval.html'}\n"
    page = (folds / "crossval.html").read().decode()
    links = ["fold=0/report.html", "seed=1/fold=0/report.html", "fold=1/report.html", "seed=1/fold=1/report.html"]
    assert [link.replace("%3D", "=") for link in re.findall('<a href="([^#"]*)"', page)] == links
    assert JAZZ not in page
    assert "&lt;b&gt;Jazz &amp; &#34;Blues&#34;&lt;/b&gt;" in page
    assert DOLLARS in page  # as text
    assert "a &lt;b&gt;place" not in page  # only the name of the folder, and no path
    assert "<h1>folds</h1>" in page
    assert "± 0.125" in page
    assert re.search(r"deviation over seeds</th><td></td><td class=\"n\">0\.062</td>", page)
    assert done.stderr == ""
    done = earmark_here("report", folds, "--embed-audio", "3")
    assert done.returncode == 2
    assert "is a cross-validation, whose page has no audio" in done.stderr


def test_a_page_with_one_seed_has_a_link_for_each_fold(folds, tmp_path):
    shutil.copytree(folds.local, tmp_path / "one")
    one = Run(tmp_path / "one")
    runs = [Run(one.folder / f"fold={fold}").metrics() for fold in (0, 1)]
    svm = [Scores(count=6, accuracy=0.5, macro_f1=0.5, per_class=[], confusion=[[2, 1], [2, 1]])] * 2
    summary = summarize({0: runs}, svm)
    assert summary.by_seed is None
    assert "by_seed" not in summary.to_json()
    one.write("crossval.json", summary.to_json())
    (one.folder / SVM_PREDICTIONS).remove()  # as those of the last version
    write_cross_validation_page(one)
    page = (one.folder / "crossval.html").read().decode()
    assert page.count("/report.html") == 2
    assert "network minus SVM" not in page
    assert "<code>--seeds 5</code> shows that apart" in page
    [*_, spread] = conclusions_of(one.folder, summary)
    assert spread.endswith("each fold has one seed, so it includes the spread over seeds.")


def test_the_network_is_compared_with_the_svm_on_the_same_tracks(folds, report_run, report_dataset):
    predictions = [*read_predictions(Run(report_run))]
    names = [*EVALUATED]
    pooled = {}
    for part in predictions:
        means = part.probabilities.reshape(-1, part.per_track, 2).mean(axis=1).argmax(axis=1)
        tracks = part.segments["track"].to_pylist()[:: part.per_track]
        pooled |= {
            track: report_dataset.classes[label] for track, label in zip(tracks, means.tolist(), strict=True)
        }
    ours = np.mean([pooled[name] == EVALUATED[name] for name in names])
    svm = svm_of(report_dataset, wrong=names[:2])
    found = network_minus_svm(predictions * 3, svm, report_dataset.classes)
    assert found["accuracy"].value == pytest.approx(ours - 4 / 6)
    assert found["accuracy"].interval.low <= found["accuracy"].value <= found["accuracy"].interval.high
    # Three times the same predictions, as of three seeds, are no more evidence.
    assert found == network_minus_svm(predictions, svm, report_dataset.classes)
    assert SvmPredictions.read(folds).table == svm.table
    others = SvmPredictions(svm.table.slice(1))
    assert network_minus_svm(predictions, others, report_dataset.classes) is None


def test_broken_svm_predictions_are_an_error(folds, tmp_path):
    folder = StoragePath.of(tmp_path)
    assert SvmPredictions.read(folder) is None
    (folder / SVM_PREDICTIONS).write(b"no Parquet")
    with pytest.raises(TrainError, match=r"cannot read .*svm_predictions.*Repeat the crossval command"):
        SvmPredictions.read(folder)
    table = pa.table({"track": ["a"]})
    pa.parquet.write_table(table, tmp_path / SVM_PREDICTIONS)
    with pytest.raises(TrainError, match="lacks the column group"):
        SvmPredictions.read(folder)


def test_the_first_sentence_names_the_simpler_methods_that_may_be_better(folds):
    summary = Run(folds).cross_validation()

    def first(low, svm, difference=None):
        interval = summary.intervals.tracks.model_copy(update={"accuracy": [low, 0.95]})
        intervals = summary.intervals.model_copy(update={"tracks": interval})
        confusion = summary.confusion.model_copy(
            update={"tracks": [[60, 0], [10, 30]], "svm_tracks": [[svm, 100 - svm], [0, 0]]}
        )
        changed = summary.model_copy(update={"intervals": intervals, "confusion": confusion})
        return summarize_cross_validation(changed, difference)[0]

    assert first(0.85, 80).startswith("Accuracy of all tracks and seeds: 0.900 (95% confidence interval 0.850")
    most_frequent = "predicting the most frequent class for every track, whose accuracy is 0.600"
    assert first(0.55, 50) == f"The network is not shown to be better than {most_frequent}."
    assert first(0.85, 86) == "The network is not shown to be better than the SVM, whose accuracy is 0.860."
    assert first(0.55, 86) == (
        f"The network is not shown to be better than {most_frequent} or the SVM, whose accuracy is 0.860."
    )
    # The difference on the same tracks decides, where it is known.
    from train.evaluation.bootstrap import Difference, Interval

    differs = {"accuracy": Difference(0.04, Interval(0.01, 0.07))}
    assert first(0.85, 86, differs).startswith("Accuracy of all tracks")
    differs = {"accuracy": Difference(0.04, Interval(-0.01, 0.07))}
    assert first(0.85, 84, differs).startswith("The network is not shown to be better than the SVM")
    differs = {"accuracy": Difference(-0.04, Interval(-0.07, -0.01))}
    assert first(0.85, 94, differs) == "The SVM, whose accuracy is 0.940, is better than the network."
