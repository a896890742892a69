"""Evaluation: the same bits for any number of replicas and workers, parts of predictions, and when it happens."""

import itertools
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support
from support.command_line import contents
from support.training import QUICK, figures, final_state, stop_when, trained

from featurize.dataset.dataset import open_dataset
from train.config import TrainConfig
from train.errors import Stopped, TrainError
from train.evaluation.metrics import score_predicted
from train.evaluation.prediction_parts import cut, has_predictions, read_predictions
from train.evaluation.predictions import PREDICTIONS
from train.run import Run

pytestmark = pytest.mark.usefixtures("logical_cpus")

WHOLE = "part-00000-of-00001.parquet"
SMALL = {"model": "modulation", "batch_size": 4, "epochs": 1}


@pytest.fixture(scope="module")
def run(features, logical_cpus, tmp_path_factory):
    """A run that was evaluated on the test fold after each epoch, as published experiments are."""
    folder = tmp_path_factory.mktemp("run")
    trained(features, folder, **SMALL, best_epoch_on_test=True)
    return Run(folder)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_scores_are_those_of_scikit_learn(pairs):
    labels, predicted = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    scores = score_predicted(predicted, labels, "abcde")
    expected = precision_recall_fscore_support(labels, predicted, labels=range(5), zero_division=0.0)
    for name, values in zip(("precision", "recall", "f1", "count"), expected, strict=True):
        assert [getattr(each, name) for each in scores.per_class] == values.tolist()
    assert scores.macro_f1 == expected[2][expected[3] > 0].mean()
    assert scores.accuracy == accuracy_score(labels, predicted)
    assert scores.confusion == confusion_matrix(labels, predicted, labels=range(5)).tolist()


@given(
    groups=st.lists(st.integers(1, 96), min_size=1, max_size=200),
    batch_size=st.integers(1, 400),
    workers=st.integers(1, 70),
)
def test_every_row_is_in_one_batch_of_one_worker(groups, batch_size, workers):
    from train.input.stored_order import divide

    batches = divide(groups, batch_size)
    ends = set(itertools.accumulate(groups, initial=0))
    assert set(batches.borders) <= ends  # lanes have whole row groups, and so whole tracks
    assert batches.lanes <= max(sum(groups) // batch_size, 1)
    shares = [batches.share(worker, workers) for worker in range(workers)]
    read = [batches[index] for share in shares for index in share]
    assert [batch.start for batch in read] == [0, *(batch.stop for batch in read[:-1])]
    assert read[-1].stop == sum(groups)
    for lane, start, stop in read:
        assert 0 < stop - start <= batch_size
        assert batches.borders[lane] <= start < stop <= batches.borders[lane + 1]
    for one, other in itertools.pairwise(share for share in shares if len(share)):
        assert batches[one[-1]].lane < batches[other[0]].lane


@given(rows=st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any), most=st.integers(1, 200))
def test_shards_are_cut_into_parts_of_which_none_is_empty(rows, most):
    borders = cut(rows, most)
    assert (borders[0], borders[-1]) == (0, len(rows))
    sizes = [sum(rows[first:last]) for first, last in itertools.pairwise(borders)]
    assert all(sizes)
    assert all(size < most + max(rows) for size in sizes)


@pytest.mark.parametrize(("workers", "replicas"), [(1, 3), (2, 1), (2, 2), (5, 1)])
def test_workers_read_their_lanes_in_stored_order_and_nothing_else(workers, replicas, features, monkeypatch):
    from featurize.dataset.row_group_reader import RowGroupReader
    from train.evaluation.held_out import held_out

    dataset = open_dataset(features)
    stream = held_out(dataset, TrainConfig(batch_size=5), 0).stream
    assert stream.batches.lanes == 2
    found, groups, real = [], [], RowGroupReader.read
    monkeypatch.setattr(RowGroupReader, "read", lambda reader, read: groups.append(read) or real(reader, read))
    for worker in range(workers):
        local = range(worker * replicas, (worker + 1) * replicas)
        reader = held_out(dataset, TrainConfig(batch_size=5), 0).stream
        found += reader.dataset(0, 100, workers * replicas, local).as_numpy_iterator()
    assert [int(batch.step) for batch in found] == list(range(len(stream.batches)))
    assert sum(map(len, groups)) == 2
    mfcc, labels = stream.read(0, stream.rows)
    np.testing.assert_array_equal(np.concatenate([batch.mfcc for batch in found]), mfcc)
    np.testing.assert_array_equal(np.concatenate([batch.labels for batch in found]), labels)


def test_all_numbers_of_replicas_give_the_same_bits(features, run, logical_cpus):
    from train.evaluation.held_out import held_out
    from train.evaluation.inference import load_model
    from train.evaluation.predictor import Predictor
    from train.model.strategy import make_strategy

    dataset, found = open_dataset(features), []
    for replicas in (1, 2, 4):
        strategy = make_strategy(TrainConfig(replicas=replicas))
        with strategy.scope():
            model = load_model(run)
        received = []
        fold = held_out(dataset, TrainConfig(batch_size=5), 1)
        scores = fold.score(Predictor(strategy, model), lambda *batch, to=received: to.append(batch))
        found.append((scores, b"".join(part.tobytes() for batch in received for part in batch)))
    assert found[0] == found[1] == found[2]
    assert found[0][0].segments.count == 24


def test_predictions_in_parts_are_those_of_one_file(report_dataset, report_run, monkeypatch, tmp_path):
    """Of a fold with a track that is not evaluated; a file as earlier versions wrote it is read as well."""
    from train.evaluation.evaluate import evaluate_run, is_evaluated
    from train.report.run_page import write_run_page

    copied = Run(shutil.copytree(report_run, tmp_path / "run"))
    write_run_page(copied, report_dataset)
    page = (tmp_path / "run" / "report.html").read_text()
    before = contents(tmp_path / "run")
    monkeypatch.setattr("train.evaluation.prediction_parts._ROWS", 1)
    monkeypatch.setattr("train.evaluation.held_out.HeldOut.score", counting := Counting())
    evaluate_run(copied, report_dataset)
    assert counting.calls == 1  # the test fold is evaluated once
    parts = sorted(path.name for path in (tmp_path / "run" / PREDICTIONS).iterdir())
    assert parts == ["part-00000-of-00002.parquet", "part-00001-of-00002.parquet"]
    [one] = read_predictions(Run(report_run))
    several = list(read_predictions(copied))
    assert np.concatenate([part.probabilities for part in several]).tobytes() == one.probabilities.tobytes()
    table = pq.read_table(tmp_path / "run" / PREDICTIONS)
    assert table.equals(one.table())  # as a user reads it: one dataset
    assert table.schema.field("probabilities").metadata == one.table().schema.field("probabilities").metadata
    write_run_page(copied, report_dataset)
    after = contents(tmp_path / "run")
    assert {name for name in before if before[name] != after.get(name)} == {f"{PREDICTIONS}/{WHOLE}"} | {
        name for name in before if name.startswith("tensorboard/final/")
    }

    (tmp_path / "run" / PREDICTIONS / parts[1]).unlink()
    assert not has_predictions(copied)
    assert not is_evaluated(copied)
    with pytest.raises(
        TrainError, match=r"predictions\.parquet: it is missing or incomplete\. Type: earmark eval"
    ):
        write_run_page(copied, report_dataset)

    copied.folder.below(PREDICTIONS).remove_folder()
    copied.folder.below(PREDICTIONS).write(one.encode())
    assert is_evaluated(copied)
    write_run_page(copied, report_dataset)
    assert (tmp_path / "run" / "report.html").read_text() == page
    copied.folder.below(PREDICTIONS).write(one.select(np.arange(2)).encode())
    with pytest.raises(TrainError, match="are not those of one training on"):
        write_run_page(copied, report_dataset)
    evaluate_run(copied, report_dataset)  # the file is replaced by a folder
    assert pq.read_table(tmp_path / "run" / PREDICTIONS).equals(table)


class Counting:
    """`HeldOut.score`, counted."""

    def __init__(self):
        from train.evaluation.held_out import HeldOut

        self.calls, self._real = 0, HeldOut.score

    def __get__(self, fold, _):
        def score(*arguments):
            self.calls += 1
            return self._real(fold, *arguments)

        return score


def test_a_report_of_an_earlier_model_is_refused(report_dataset, report_run, tmp_path):
    from train.report.run_page import write_run_page

    copied = Run(shutil.copytree(report_run, tmp_path / "run"))
    with copied.model.local.open("ab") as file:
        file.write(b"another model")
    before = contents(tmp_path / "run")
    with pytest.raises(TrainError, match=r"has the metrics of another model .* Type: earmark evaluate"):
        write_run_page(copied, report_dataset)
    assert contents(tmp_path / "run") == before


def test_the_test_fold_is_left_alone_unless_its_best_epoch_is_asked_for(features, run, tmp_path):
    assert [*run.history()[0].parts] == ["train", "validation", "test"]
    messages, [record] = trained(features, tmp_path, **SMALL, validation_fold="none")
    assert [*record.parts] == ["train"]
    assert "curves show the training folds only, and the test fold is evaluated once" in " ".join(messages)
    assert {path.name for path in (tmp_path / "tensorboard").iterdir()} == {"train"}
    messages, _ = trained(features, tmp_path, **SMALL, validation_fold="none", best_epoch_on_test=True)
    assert "overestimates" in " ".join(messages)


def test_a_run_of_a_version_that_evaluated_the_test_fold_in_training_is_continued(features, run, tmp_path):
    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page

    old = Run(shutil.copytree(run.folder.local, tmp_path / "run"))
    record = old.read("run.json")
    for name in ("evaluate_every", "best_epoch_on_test", "profile_steps"):
        del record["train"][name]
    old.write("run.json", record)
    trained(features, tmp_path / "run", **{**SMALL, "epochs": 2})
    assert [[*entry.parts] for entry in old.history()] == [
        ["train", "validation", "test"],
        ["train", "validation"],
    ]
    dataset = open_dataset(features)
    evaluate_run(old, dataset)
    write_run_page(old, dataset)


@pytest.mark.slow
def test_epochs_between_evaluations_are_not_selected_and_resume_to_the_same_bits(features, tmp_path):
    chosen = {**SMALL, "epochs": 3, "evaluate_every": 2, "patience": 1, "batch_size": 16}
    trained(features, tmp_path / "whole", **chosen)
    history = Run(tmp_path / "whole").history()
    assert [entry.epoch for entry in history if entry.validation] in ([2], [2, 3])
    assert Run(tmp_path / "whole").trained().epoch in (2, 3)
    with pytest.raises(Stopped) as stopped:
        trained(features, tmp_path / "stopped", stop_when(9), **chosen)
    assert stopped.value.step == 8  # of two epochs, in the first evaluation
    assert len(Run(tmp_path / "stopped").history()) == 1
    trained(features, tmp_path / "stopped", **chosen)
    assert figures(tmp_path / "stopped") == figures(tmp_path / "whole")
    assert final_state(tmp_path / "stopped") == final_state(tmp_path / "whole")


def test_steps_are_profiled_and_calls_end_at_their_borders(features, tmp_path):
    chosen = {**SMALL, "validation_fold": "none", "steps_per_call": 50, "batch_size": 8}
    messages, _ = trained(features, tmp_path / "one", **chosen, profile_steps="4..6")
    profile = list((tmp_path / "one" / "tensorboard" / "train" / "plugins" / "profile").glob("*/*.xplane.pb"))
    assert len(profile) == 1
    assert not any("profile" in message for message in messages)
    messages, _ = trained(features, tmp_path / "other", **chosen, profile_steps="400..410")
    assert any("train.profile_steps = 400..410, but training ends after step 12" in each for each in messages)
    assert final_state(tmp_path / "one") == final_state(tmp_path / "other")
    for wrong in ("6..4", "0..3", "1..1000", "4"):
        with pytest.raises(ValueError, match="profile_steps"):
            TrainConfig(profile_steps=wrong)


def test_tensorboard_has_the_settings_and_the_final_figures(features, run):
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    from train.evaluation.evaluate import evaluate_run

    for _ in range(2):  # a second evaluation replaces the first
        metrics = evaluate_run(run, open_dataset(features))
    folder = run.tensorboard.local / "final"
    assert len(list(folder.iterdir())) == 1
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    shown = {
        tag: float(tf.make_ndarray(events.Tensors(tag)[0].tensor_proto))
        for tag in events.Tags()["tensors"]
        if tag.startswith(("test/", "validation/"))
    }
    assert shown["test/track_accuracy"] == pytest.approx(metrics.tracks.accuracy)
    selected = run.history()[metrics.epoch - 1]
    assert shown["validation/loss"] == pytest.approx(selected.validation.loss)
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    shown_settings = metadata.parse_session_start_info_plugin_data(content).hparams
    assert shown_settings["train.learning_rate"].number_value == QUICK.learning_rate
    assert shown_settings["train.model"].string_value == "modulation"
    assert shown_settings["train.patience"].string_value == "null"
    assert shown_settings["featurize.sample_rate"].number_value == 22050
    ended = metadata.parse_session_end_info_plugin_data(
        events.summary_metadata["_hparams_/session_end_info"].plugin_data.content
    )
    assert ended.status == 1  # success
    assert tf.io.decode_png(tf.make_ndarray(events.Tensors("confusion/tracks")[0].tensor_proto)[2]).shape[-1] == 3
