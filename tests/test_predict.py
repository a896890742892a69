"""Predictions for files: the same features as in training, three output formats, and broken files listed."""

import csv
import io
import json
import os
import shutil

import numpy as np
import pyarrow.compute as pc
import pytest
from support.command_line import earmark_here
from support.training import trained

from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group, read_track_ids
from featurize.dataset_build.inference_features import featurizing, list_files, supported_settings
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath
from jobs.inference.output_formats import to_csv, to_json, to_table
from jobs.inference.predict import predict
from jobs.terminal.console import ConsoleReporter
from train.errors import TrainError
from train.evaluation.evaluate import evaluate_run
from train.run import Run


@pytest.fixture(scope="module")
def run(features, logical_cpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trained(features, folder, model="modulation", normalize=True)
    return folder


@pytest.fixture(scope="module")
def results(run, music):
    return predict(StoragePath.of(run), [str(music)], None, ConsoleReporter())


@pytest.fixture
def mixed(music, tmp_path):
    """Two pieces, one of them linked under another name, and files that are not music."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copy(music / "bells" / "1-0.flac", tmp_path / "one.flac")
    shutil.copy(music / "reeds" / "3-0.wav", tmp_path / "deep" / "er" / 'a, "b".WAV')
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.mp3").write_text("no music")
    (tmp_path / "notes.txt").write_text("not an audio file")
    os.link(tmp_path / "one.flac", os.fsencode(tmp_path) + b"/\xff.flac")
    return tmp_path


def test_features_of_a_training_track_equal_its_shard_bit_for_bit(run, features, music):
    dataset = open_dataset(features)
    tracks = dataset.tracks().filter(pc.equal(dataset.tracks()["fold"], 3))["track"].to_pylist()
    settings = supported_settings(Run(run).trained().features)
    files, waits = list_files([str(music / track) for track in tracks]), []
    with featurizing(files, settings, None, 60, lambda: waits.append(1)) as featurized:
        [batch] = featurized
    assert waits
    assert batch.ids == [str(music / track) for track in tracks]
    stored = {}
    for shard in dataset.in_folds({3}):
        rows = np.concatenate([read_row_group(shard, index)[0] for index in range(len(shard.row_groups))])
        stored.update(zip(read_track_ids(shard, 4), rows.reshape(-1, 4, 40, 217), strict=True))
    for track, mfcc in zip(tracks, batch.mfcc, strict=True):
        assert mfcc.tobytes() == stored[track].tobytes()


def test_predictions_of_the_test_fold_equal_the_evaluation(run, results, features, music):
    dataset = open_dataset(features)
    metrics = evaluate_run(Run(run), dataset)
    predicted = {os.path.relpath(track.path, music): track for track in results.tracks}
    confusion = np.zeros((3, 3), int)
    for row in dataset.tracks().to_pylist():
        if row["fold"] == metrics.test_fold:
            confusion[dataset.classes.index(row["label"]), predicted[row["track"]].track.argmax()] += 1
    assert confusion.tolist() == metrics.tracks.confusion
    assert len(results.tracks) == 30
    assert not results.rejects


def test_the_three_formats_have_the_same_content(results):
    content = json.loads(to_json(results, 2, True))
    assert content["rejects"] == []
    rows = list(csv.DictReader(io.StringIO(to_csv(results, 2, False))))
    segments = list(csv.DictReader(io.StringIO(to_csv(results, 2, True))))
    lines = to_table(results, 2, True).splitlines()
    assert (len(rows), len(segments), len(lines)) == (30, 120, 150)
    assert list(rows[0]) == ["path", "label_1", "probability_1", "label_2", "probability_2"]
    for index, (track, entry) in enumerate(zip(results.tracks, content["tracks"], strict=True)):
        order = np.argsort(-track.track)[:2]
        expected = [(results.classes[i], pytest.approx(track.track[i], abs=1e-6)) for i in order]
        assert entry["path"] == rows[index]["path"] == track.path
        assert [(genre["label"], genre["probability"]) for genre in entry["genres"]] == expected
        assert [(rows[index][f"label_{k}"], float(rows[index][f"probability_{k}"])) for k in (1, 2)] == expected
        assert lines[5 * index].split()[:2] == [track.path, expected[0][0]]
        assert [segment["start"] for segment in entry["segments"]] == track.starts.tolist()
        assert [float(row["start"]) for row in segments[4 * index : 4 * index + 4]] == pytest.approx(
            track.starts, abs=1e-3
        )
        assert lines[5 * index + 1].split()[:2] == ["0.00", "s"]
    assert sum(
        genre["probability"] for genre in json.loads(to_json(results, 9, False))["tracks"][0]["genres"]
    ) == (pytest.approx(1, abs=1e-5))


def test_unreadable_files_are_listed_and_the_others_are_predicted(run, mixed):
    command = ["predict", run, mixed, mixed / "one.flac", mixed / "notes.txt", mixed / "gone.mp3"]
    done = earmark_here(*command, "--format", "json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    paths = [track["path"] for track in content["tracks"]]
    assert paths == [f'{mixed}/deep/er/a, "b".WAV', f"{mixed}/one.flac", f"{mixed}/\\xff.flac"]
    assert len(content["tracks"][0]["genres"]) == 3
    assert content["tracks"][1]["genres"] == content["tracks"][2]["genres"]
    no_audio = "not decodable: libsndfile: Format not recognised; FFmpeg: it recognizes no audio format"
    assert content["rejects"] == [
        {"path": f"{mixed}/empty.mp3", "reason": "empty: 0 bytes"},
        {"path": f"{mixed}/text.mp3", "reason": no_audio},
        {"path": f"{mixed}/notes.txt", "reason": no_audio},
        {"path": f"{mixed}/gone.mp3", "reason": "missing: there is no such file"},
    ]
    assert "1 other files were skipped (.txt: 1)." in done.stderr
    assert "Predicted 3 of 7 files" in done.stderr
    assert f"{mixed}/gone.mp3: missing: there is no such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_limit_of_a_file_is_set_and_its_reject_names_it(run, mixed):
    command = ["predict", run, mixed / "one.flac", "--format", "json", "--set"]
    done = earmark_here(*command, "featurize.max_seconds=3")
    assert done.returncode == 1
    [reject] = json.loads(done.stdout)["rejects"]
    assert reject["reason"] == ("too long: more than 3 s; allow more with --set featurize.max_seconds=SECONDS")
    assert earmark_here(*command, "featurize.segments_per_track=3").returncode == 2


def test_a_large_folder_is_featurized_by_ray_workers(run, music, tmp_path, ray_here, results, capsys):
    for copy in range(70):
        os.link(music / "bells" / "1-0.flac", tmp_path / f"{copy:02}.flac")
    (tmp_path / "35.mp3").touch()
    many = predict(StoragePath.of(run), [str(tmp_path)], 2, ConsoleReporter())
    assert [track.path for track in many.tracks] == [f"{tmp_path}/{copy:02}.flac" for copy in range(70)]
    assert many.rejects == [(f"{tmp_path}/35.mp3", "empty: 0 bytes")]
    [alone] = [track for track in results.tracks if track.path == str(music / "bells" / "1-0.flac")]
    for track in many.tracks:
        np.testing.assert_allclose(track.segments, alone.segments, atol=1e-6)


def test_files_in_a_bucket_are_predicted_as_in_a_folder(run, music, client, uri, results):
    client.upload_file(str(music / "bells" / "1-0.flac"), "music", "in/deep/1.flac")
    [alone] = [track for track in results.tracks if track.path == str(music / "bells" / "1-0.flac")]
    found = predict(
        StoragePath.of(run),
        [uri("music/in"), uri("music/in/deep/1.flac"), uri("music/no")],
        None,
        ConsoleReporter(),
    )
    [track] = found.tracks
    assert track.path == uri("music/in/deep/1.flac")
    np.testing.assert_allclose(track.segments, alone.segments, atol=1e-6)
    assert found.rejects == [(uri("music/no"), "missing: there is no such file")]


def test_missing_files_or_models_are_reported(run, features, music, tmp_path):
    with pytest.raises(FeaturizeError, match=r"expected audio files in .*, found none"):
        predict(StoragePath.of(run), [str(tmp_path)], None, ConsoleReporter())
    with pytest.raises(TrainError, match="holds no run"):
        predict(StoragePath.of(tmp_path), [str(music)], None, ConsoleReporter())
    untrained = tmp_path / "untrained"
    untrained.mkdir()
    shutil.copy(run / "run.json", untrained)
    with pytest.raises(
        TrainError, match=f"holds no trained model. Continue its training: earmark train {features}"
    ):
        predict(StoragePath.of(untrained), [str(music)], None, ConsoleReporter())


def test_a_broken_model_is_reported(run, music, tmp_path):
    broken = shutil.copytree(run, tmp_path / "broken")
    for content in (b"", (run / "model.keras").read_bytes()[:5000]):
        (broken / "model.keras").write_bytes(content)
        with pytest.raises(TrainError, match=r"model\.keras is not a complete model: .*\. Remove it and"):
            predict(StoragePath.of(broken), [str(music / "bells")], None, ConsoleReporter())


@pytest.mark.parametrize(
    ("changed", "error", "problem"),
    [
        ({"window": "hann"}, FeaturizeError, "this version of Earmark cannot compute: window is not a known key"),
        ({"n_mfcc": 129}, FeaturizeError, "cannot compute: n_mfcc = 129 is more than n_mels = 128"),
        ({"n_mfcc": 20}, TrainError, r"the model is from \(None, 40, 217\) .*, expected \(None, 20, 217\)"),
    ],
)
def test_a_model_of_other_features_is_refused(changed, error, problem, run, music, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    about = json.loads((other / "model.json").read_text())
    about["features"] |= changed
    (other / "model.json").write_text(json.dumps(about))
    with pytest.raises(error, match=problem):
        predict(StoragePath.of(other), [str(music / "bells" / "1-0.flac")], None, ConsoleReporter())


@pytest.mark.slow
def test_only_the_file_that_crashes_the_decoder_is_rejected(run, mixed, tmp_path_factory, monkeypatch):
    from test_kill import FAULTY

    faulty = tmp_path_factory.mktemp("faulty")
    (faulty / "soundfile.py").write_text(FAULTY)
    (mixed / "boom.mp3").write_bytes(b"BOOM" * 100)
    monkeypatch.setenv("PYTHONPATH", str(faulty))
    found = predict(StoragePath.of(run), [str(mixed)], None, ConsoleReporter())
    assert (f"{mixed}/boom.mp3", "crashed the decoder: its process ended with SIGSEGV") in found.rejects
    assert len(found.tracks) == 3
