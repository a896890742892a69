"""Predictions into a folder: rows, carried columns, rejects, the same bytes in any way of making them."""

import hashlib
import itertools
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import confusion_matrix, f1_score, log_loss
from support.command_line import contents

from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import list_shards
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath
from jobs.errors import ConfigError
from jobs.inference.answer_plan import plan_dataset
from jobs.inference.batch_prediction import PredictionRequest, predict_into
from jobs.inference.predict import predict, prediction_limits
from jobs.inference.predictor import ShardPredictor, StoredShard, model_digest
from jobs.terminal.console import ConsoleReporter
from jobs.terminal.status import progress_lines
from jobs.terminal.verification import verify_folder
from train.answers.external import score_answers
from train.answers.folder import finish_answers, list_answers, read_answers_info, save_plan
from train.errors import TrainError
from train.evaluation.evaluate import evaluate_run
from train.report.external_page import render_external
from train.run import Run

SMALL = {"tracks_per_shard": 4}


@pytest.fixture(scope="module")
def run(export_run):
    return StoragePath.of(export_run)


@pytest.fixture(scope="module")
def mixed(music, tmp_path_factory):
    """Ten pieces and files that are not music, with hostile names."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "deep").mkdir()
    for index, path in enumerate(sorted(music.rglob("*.*"))[::3]):
        shutil.copy(path, folder / ("deep" if index % 2 else "") / f"{index}{path.suffix}")
    os.link(folder / "0.mp3", os.fsencode(folder) + b"/\xff\x1b[31m.mp3")
    os.link(folder / "0.mp3", folder / '=cmd, "new\nline".MP3')
    (folder / "empty.mp3").touch()
    (folder / "text.mp3").write_text("no music")
    return folder


@pytest.fixture(scope="module")
def answers(run, mixed, ray_here, tmp_path_factory):
    folder = StoragePath.of(tmp_path_factory.mktemp("answers"))
    predict_into(run, str(mixed), folder, PredictionRequest(limits=SMALL))
    return folder


def rows(folder):
    return pads.dataset(f"{folder.path}/shards").to_table().to_pylist()


def classes(folder):
    [name, *_] = list_answers(folder)
    field = pq.read_schema(f"{folder.path}/shards/{name}").field("probabilities")
    return json.loads(field.metadata[b"classes"])


def test_answers_are_the_printed_predictions(run, mixed, answers):
    printed = predict(run, [str(mixed)], None, ConsoleReporter())
    found = rows(answers)
    assert [f"{mixed}/{row['track']}" for row in found] == sorted(track.path for track in printed.tracks)
    by_path = {track.path: track.track for track in printed.tracks}
    assert classes(answers) == printed.classes
    for row in found:
        expected = by_path[f"{mixed}/{row['track']}"]
        np.testing.assert_allclose(row["probabilities"], expected, atol=1e-5)
        assert row["label"] == printed.classes[int(np.argmax(expected))]
        assert row["probability"] == max(row["probabilities"])
    info = read_answers_info(answers)
    assert (info.tracks, sum(info.predicted.values())) == (14, 12)
    rejects = pq.read_table(f"{answers.path}/rejects.parquet").to_pylist()
    assert [(row["path"], row["reason"]) for row in rejects] == [
        ("empty.mp3", "empty"),
        ("text.mp3", "not decodable"),
    ]
    assert len(list_answers(answers)) == 4


@pytest.mark.slow
def test_a_complete_folder_is_left_alone_and_a_lost_shard_is_made_again(run, mixed, answers, tmp_path):
    copy = StoragePath.of(shutil.copytree(answers.path, tmp_path / "copy"))
    before = contents(copy)
    request = PredictionRequest(limits=SMALL)
    written = os.stat(f"{copy.path}/answers.json").st_mtime_ns
    predict_into(run, str(mixed), copy, request)
    assert os.stat(f"{copy.path}/answers.json").st_mtime_ns == written
    lost, *_ = sorted(list_answers(copy))
    (copy / "shards" / lost).remove()
    (copy / "answers.json").remove()
    assert "unfinished: run the same predict command" in progress_lines(copy)
    assert "shards    3 of 4 done, 1 left" in progress_lines(copy)
    (copy / "shards" / "part-00007-0123456789abcdef.parquet").write(b"of another plan")
    predict_into(run, str(mixed), copy, request)
    assert contents(copy) == before


@pytest.mark.slow
def test_kept_features_are_those_of_the_answers(run, mixed, answers, tmp_path):
    folder = StoragePath.of(tmp_path / "kept")
    request = PredictionRequest(limits=SMALL, keep_features=True)
    predict_into(run, str(mixed), folder, request)
    kept = contents(folder)
    assert {name: content for name, content in kept.items() if "features/" not in name} == contents(answers)
    dataset = open_dataset(folder / "features")
    assert (dataset.classes, len(dataset.shards), dataset.info.tracks) == (["unlabeled"], 4, 14)
    assert verify_folder(folder / "features", ConsoleReporter()).problems == []
    planned = plan_dataset(dataset, {})
    (tmp_path / "again" / "shards").mkdir(parents=True)
    again = StoragePath.of(tmp_path / "again")
    predictor = ShardPredictor(run, model_digest(Run(run)), again, by_segment=False, on_gpu=True)
    for name, shard in zip(planned, dataset.shards, strict=True):
        predictor.work(StoredShard(name, shard, dataset.classes, dataset.segments_per_track))
    by_track = {row["track"]: row for row in rows(again)}
    for row in rows(answers):
        np.testing.assert_allclose(by_track.pop(row["track"])["probabilities"], row["probabilities"], atol=1e-5)
    assert not by_track
    lost, *_ = sorted(list_shards(folder / "features"))
    (folder / "features" / "shards" / lost).remove()
    predict_into(run, str(mixed), folder, request)
    assert contents(folder) == kept


def test_status_and_verification_of_answers(answers, tmp_path):
    lines = progress_lines(answers)
    assert "state     complete\nshards    4 of 4 done, 0 left\ntracks    14 of 14 done, 0 left" in lines
    assert "1 open: empty" in lines
    assert "predicted" in lines
    found = verify_folder(answers, ConsoleReporter())
    assert (found.problems, found.shards, found.rows, found.unit) == ([], 4, 12, "tracks")
    copy = StoragePath.of(shutil.copytree(answers.path, tmp_path / "copy"))
    first, second, *_ = sorted(list_answers(copy))
    (copy / "shards" / first).write((copy / "shards" / first).read()[:-9] + b"123456789")
    (copy / "shards" / second).remove()
    problems = verify_folder(copy, ConsoleReporter()).problems
    assert [problem.split(": ")[0] for problem in problems] == [first, second]
    assert "other bytes" in problems[0]


@pytest.fixture(scope="module")
def of_dataset(run, features, logical_cpus, tmp_path_factory):
    """Answers for a dataset, a row a segment, made in this process."""
    folder = StoragePath.of(tmp_path_factory.mktemp("of a dataset"))
    dataset, digest = open_dataset(features), model_digest(Run(run))
    planned = plan_dataset(dataset, {"model": digest})
    save_plan(folder, list(planned), list(planned.values()))
    (folder / "shards" / ".keep").write(b"")
    predictor = ShardPredictor(run, digest, folder, by_segment=True, on_gpu=True)
    made = {}
    for name, shard in zip(planned, dataset.shards, strict=True):
        made[name] = predictor.work(StoredShard(name, shard, dataset.classes, dataset.segments_per_track))
    about = {"model": digest, "classes": dataset.classes, "settings": dataset.info.settings, "versions": {}}
    finish_answers(folder, planned, made, {**about, "by_segment": True, "columns": ["given_label", "fold"]})
    return folder


def test_answers_for_a_dataset_are_those_for_its_music(run, music, features, of_dataset):
    printed = predict(run, [str(music)], None, ConsoleReporter())
    by_path = {track.path: track for track in printed.tracks}
    tracks = {row["track"]: row for row in open_dataset(features).tracks().to_pylist()}
    found = rows(of_dataset)
    assert list(found[0]) == [
        *("track", "segment", "start", "given_label", "fold", "label", "probability", "probabilities")
    ]
    seen = set()
    for track, group in itertools.groupby(found, key=lambda row: row["track"]):
        expected, segments = by_path[f"{music}/{track}"], list(group)
        assert [row["segment"] for row in segments] == list(range(4))
        np.testing.assert_allclose([row["start"] for row in segments], expected.starts)
        np.testing.assert_allclose([row["probabilities"] for row in segments], expected.segments, atol=1e-5)
        assert segments[0]["given_label"] == tracks[track]["label"]
        assert segments[0]["fold"] == tracks[track]["fold"]
        seen.add(track)
    assert seen == tracks.keys()
    labels = pads.dataset(f"{of_dataset.path}/shards").to_table()["label"]
    assert pc.all(pc.is_valid(labels)).as_py()


def normal(probabilities):
    """Return float32 probabilities as float64 whose sum is 1."""
    return probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)


def test_scores_on_an_external_test_set_are_those_of_its_predictions(of_dataset, features):
    metrics, errors = score_answers(of_dataset)
    table = pads.dataset(f"{of_dataset.path}/shards").to_table()
    classes = metrics.classes
    actual = np.array([classes.index(label) for label in table["given_label"].to_pylist()])
    probabilities = np.stack(table["probabilities"].to_numpy())
    pooled = probabilities.reshape(-1, 4, len(classes)).mean(axis=1)
    assert metrics.segments.accuracy == pytest.approx((probabilities.argmax(axis=1) == actual).mean())
    for scores, rows, labels in (
        (metrics.segments, probabilities, actual),
        (metrics.tracks, pooled, actual[::4]),
    ):
        assert scores.confusion == confusion_matrix(labels, rows.argmax(axis=1), labels=[0, 1, 2]).tolist()
        assert scores.macro_f1 == pytest.approx(f1_score(labels, rows.argmax(axis=1), average="macro"))
        assert scores.loss == pytest.approx(log_loss(labels, normal(rows), labels=[0, 1, 2]), rel=1e-3)
    assert len(errors) == (pooled.argmax(axis=1) != actual[::4]).sum()
    assert (metrics.unmatched, metrics.absent, metrics.rejects) == ({}, [], 0)


def test_classes_are_matched_by_name_and_the_others_are_listed(of_dataset, tmp_path):
    folder = StoragePath.of(shutil.copytree(of_dataset.path, tmp_path / "copy"))
    _rename(folder, {"bells": "<b>bells</b>", "reeds": ""})
    metrics, errors = score_answers(folder)
    assert metrics.unmatched == {"": 10, "<b>bells</b>": 10}
    assert (metrics.absent, metrics.tracks.count, metrics.segments.count) == (["bells", "reeds"], 10, 40)
    page = render_external(metrics, errors, "RUN", "music", "answers")
    assert "&lt;b&gt;bells&lt;/b&gt; (10 tracks)" in page
    assert "(no class) (10 tracks)" in page
    assert "no tracks of bells, reeds" in page
    _rename(folder, dict.fromkeys(metrics.classes, "x"))
    with pytest.raises(TrainError, match=r"no class of the test set is one of the model: .*x"):
        score_answers(folder)


def _rename(folder, names):
    """Rename classes of answers, as if the music had other labels."""
    manifest = pq.read_table(f"{folder.path}/shards.parquet")
    digests = []
    for name in manifest["name"].to_pylist():
        path = f"{folder.path}/shards/{name}"
        table = pq.read_table(path)
        labels = [names.get(label, label) or None for label in table["given_label"].to_pylist()]
        position = table.column_names.index("given_label")
        pq.write_table(table.set_column(position, "given_label", pa.array(labels, pa.string())), path)
        with open(path, "rb") as file:
            digests.append(hashlib.sha256(file.read()).hexdigest())
    position = manifest.column_names.index("sha256")
    field = manifest.schema.field("sha256")
    pq.write_table(manifest.set_column(position, field, pa.array(digests)), f"{folder.path}/shards.parquet")


def test_another_dataset_is_named_and_the_command_for_it_is_given(run, features, tmp_path):
    dataset = open_dataset(features)
    other = shutil.copytree(run.path, tmp_path / "other")
    about = json.loads((other / "model.json").read_text())
    about |= {"dataset": "another", "classes": ["waltz", *about["classes"][1:]]}
    about["features"]["max_seconds"] = 9.0
    (other / "model.json").write_text(json.dumps(about))
    with pytest.raises(TrainError) as error:
        evaluate_run(Run(other), dataset)
    assert "max_seconds is 14400.0 in the dataset, 9.0 in the model" in str(error.value)
    assert f"only the dataset has the class {dataset.classes[0]}; only the model has the class waltz" in str(
        error.value
    )
    assert f"earmark evaluate {other} --on {features} --out FOLDER" in str(error.value)


def test_another_model_or_other_features_are_refused(run, features, mixed, of_dataset, tmp_path):
    predictor = ShardPredictor(run, "0" * 64, of_dataset, by_segment=False, on_gpu=True)
    with pytest.raises(TrainError, match="was replaced while its answers were made"):
        predictor.prepare()
    other = shutil.copytree(run.path, tmp_path / "other")
    about = json.loads((other / "model.json").read_text())
    about["features"]["segments_per_track"] = 7
    (other / "model.json").write_text(json.dumps(about))
    with pytest.raises(FeaturizeError, match="segments_per_track 4 in the dataset, 7 in the model"):
        predict_into(StoragePath.of(other), str(features), StoragePath.of(tmp_path / "new"), PredictionRequest())
    about["features"]["channels"] = "left"  # the default is not stored
    (other / "model.json").write_text(json.dumps(about))
    with pytest.raises(FeaturizeError, match="channels 'mean' in the dataset, 'left' in the model"):
        predict_into(StoragePath.of(other), str(features), StoragePath.of(tmp_path / "new"), PredictionRequest())
    request = PredictionRequest(limits={"max_seconds": 9.0})
    with pytest.raises(FeaturizeError, match=r"--set: .* is a dataset, whose features are there already"):
        predict_into(run, str(features), StoragePath.of(tmp_path / "new"), request)
    for foreign in (str(features), run.path, str(mixed)):
        with pytest.raises(FeaturizeError, match="and no answers of Earmark, so nothing is written there"):
            predict_into(run, str(mixed), StoragePath.of(foreign), PredictionRequest())


def test_tables_and_datasets_need_a_folder_of_answers(run, features, tmp_path):
    (tmp_path / "list.csv").write_text("path\na.mp3\n")
    for target in (tmp_path / "list.csv", features):
        with pytest.raises(FeaturizeError, match=r"not audio\. To predict its tracks, add: --out ANSWERS"):
            predict(run, [str(target)], None, ConsoleReporter())
    assert prediction_limits(["featurize.tracks_per_shard=8"], into_folder=True) == {"tracks_per_shard": 8}
    assert prediction_limits(["featurize.tracks_per_shard=auto"], into_folder=True) == {}
    with pytest.raises(ConfigError, match=r"Only featurize\.max_seconds and featurize\.track_timeout may be set"):
        prediction_limits(["featurize.tracks_per_shard=8"])
