"""Predictions into a folder: rows, carried columns, rejects, the same bytes in any way of making them."""

import json
import os
import shutil

import numpy as np
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from support.training import trained

from featurize.storage import StoragePath
from jobs.inference.batch_prediction import PredictionRequest, predict_into
from jobs.inference.predict import predict
from jobs.terminal.console import ConsoleReporter
from train.answers.folder import list_answers, read_answers_info

SMALL = {"tracks_per_shard": 4}


@pytest.fixture(scope="module")
def run(features, logical_cpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    trained(features, folder, model="modulation", normalise=True)
    return StoragePath.of(folder)


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
