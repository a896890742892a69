"""The report of a run: its predictions, its data and its links."""

import base64
import dataclasses
import hashlib
import io
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from support.command_line import earmark_here
from support.report import COPIED, DOLLARS, EVALUATED, JAZZ, REJECT, SEGMENTS, expected_order

from featurize.dataset.reader import read_row_group, read_segments
from train.config import TrainConfig
from train.errors import TrainError
from train.evaluation.prediction_parts import read_predictions
from train.evaluation.predictions import PREDICTIONS, Predictions
from train.report.html import saved_on
from train.run import Run

ROOT = Path(__file__).parent.parent
PART = f"{PREDICTIONS}/part-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def dataset(report_dataset):
    return report_dataset


@pytest.fixture(scope="module")
def run(report_run):
    return report_run


@pytest.fixture(scope="module")
def metrics(run):
    return Run(run).read("metrics.json")


def test_predictions_are_those_of_the_model_for_each_segment(dataset, run, metrics):
    import keras

    table = pq.read_table(run / "predictions.parquet")
    assert table.column_names == ["track", "label", "segment", "start", "probabilities"]
    assert table.schema.field("start").metadata == {b"unit": b"seconds"}
    assert json.loads(table.schema.field("probabilities").metadata[b"classes"]) == dataset.classes
    predicted = {(row["track"], row["segment"]): row for row in table.to_pylist()}
    assert set(predicted) == {(track, segment) for track in EVALUATED for segment in range(SEGMENTS)}
    model = keras.models.load_model(run / "model.keras")
    for shard in dataset.in_folds({0}):
        mfcc = np.concatenate([read_row_group(shard, i)[0] for i in range(len(shard.row_groups))])
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model(mfcc)))
        for row, expected in zip(read_segments([shard]).to_pylist(), probabilities, strict=True):
            if row["track"] != COPIED:
                prediction = predicted[row["track"], row["segment"]]
                assert (prediction["label"], prediction["start"]) == (EVALUATED[row["track"]], row["start"])
                np.testing.assert_allclose(prediction["probabilities"], expected, atol=1e-5)
    confusion = np.zeros((2, 2), int)
    for row in predicted.values():
        confusion[dataset.classes.index(row["label"]), np.argmax(row["probabilities"])] += 1
    assert metrics["segments"]["confusion"] == confusion.tolist()
    assert metrics["copies_left_out"] == 1


def test_only_the_evaluated_segments_are_predicted(dataset):
    from train.evaluation.held_out import held_out

    rows = held_out(dataset, TrainConfig(test_segments="first_last"), 0).segments()
    assert rows["segment"].to_pylist() == [0, SEGMENTS - 1] * len(EVALUATED)
    assert set(rows["track"].to_pylist()) == set(EVALUATED)


def test_a_run_without_its_predictions_counts_as_not_evaluated(run, tmp_path):
    from train.evaluation.evaluate import is_evaluated

    assert is_evaluated(Run(run))
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / PART).unlink()
    assert not is_evaluated(Run(tmp_path / "run"))


def test_broken_metrics_are_an_error_and_the_command_in_its_message_rewrites_them(dataset, run, metrics, tmp_path):
    from featurize.storage import StoragePath
    from jobs.pipeline import evaluate_model

    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "metrics.json").write_text("{}")
    arguments = StoragePath.of(folder), dataset.folder
    with pytest.raises(
        TrainError, match=rf"metrics\.json is not.*Type: earmark evaluate {re.escape(str(folder))}$"
    ):
        evaluate_model(*arguments)
    assert evaluate_model(*arguments, again=True).to_json() == metrics
    assert (folder / "metrics.json").read_bytes() == (run / "metrics.json").read_bytes()


class Reader(HTMLParser):
    """Counts the elements of a page by tag, and collects its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = Counter(), ""

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1

    def handle_data(self, data):
        self.text += data


def test_names_are_inserted_as_text_only(dataset, run, metrics):
    page = (run / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert reader.tags["script"] == 4  # data, ours, Alpine's, and that of all pages
    assert reader.tags["b"] == 0
    assert reader.tags["img"] == 5  # reliability, two curves, two classes
    for name in (JAZZ, DOLLARS, REJECT):
        assert name in reader.text
    assert f"one: {saved_on(Run(run).model)}, dataset {dataset.info.id}" in reader.text  # the title
    assert "earmark train FEATURES --out NEW_FOLDER --config config.yaml\nearmark evaluate .\n" in reader.text
    assert "Type in the folder of the run; FEATURES is the folder of its dataset" in reader.text
    assert str(run) not in page  # no path of this machine, which may have a name of its user
    assert str(dataset.folder) not in page
    data = json.loads(re.search('id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert {track["track"] for track in data["tracks"]} == set(EVALUATED)
    assert data["classes"] == metrics["classes"] == sorted([JAZZ, DOLLARS])
    assert "Excluded: 1 track with a copy in another fold." in page
    assert "1 of 12 tracks could not be used" in page


def test_curves_do_not_have_the_colors_of_classes():
    from train.report.figures import DARK, LIGHT
    from train.report.html import class_colors

    for theme in (LIGHT, DARK):
        assert len(set(theme.parts.values())) == 3
        assert not {*theme.parts.values()} & {*class_colors(28), *theme.lines}


def test_clips_of_the_surest_mistakes_are_what_the_model_reads(run, dataset):
    from featurize.audio.load import load
    from jobs.audio_clips import clips_of, encode_opus
    from train.report.run_page import render, surest_mistakes

    mistakes = surest_mistakes(Run(run), 8)
    errors = [row for row in expected_order(run) if row[1] != row[2]]
    assert [mistake.track for mistake in mistakes] == [row[0] for row in errors]
    assert surest_mistakes(Run(run), 1) == mistakes[:1]
    clips = clips_of(mistakes, dataset)
    metrics, predictions = Run(run).metrics(), read_predictions(Run(run))
    page = render(Run(run), dataset, TrainConfig(), metrics, predictions, clips)
    data = json.loads(re.search('id="data">(.*?)</script>', page, re.DOTALL)[1])
    embedded = {track["track"]: track["clip"] for track in data["tracks"] if "clip" in track}
    assert {*embedded} == {row[0] for row in errors}
    for name, clip in embedded.items():
        assert clip["start"] == 0  # the track is shorter than a clip
        form, _, encoded = clip["uri"].partition(",")
        assert form == "data:audio/ogg;base64"
        samples = load(dataset.music() / name, dataset.info.settings)
        assert base64.b64decode(encoded) == encode_opus(samples, 22050)
        with av.open(io.BytesIO(base64.b64decode(encoded))) as file:
            [stream] = file.streams
            assert stream.codec_context.name == "opus"
            decoded = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(stream)])
        assert len(decoded) == pytest.approx(len(samples) * 48000 / 22050, abs=2000)
        loudness = [np.sqrt(np.mean(part**2)) for part in np.array_split(decoded, 10)]
        expected = [np.sqrt(np.mean(part**2)) for part in np.array_split(samples, 10)]
        np.testing.assert_allclose(loudness, expected, rtol=0.2, atol=0.01)


def test_a_clip_is_around_the_segment_that_is_most_surely_mistaken(dataset):
    from jobs.audio_clips import clip_from

    samples = np.zeros(22050 * 60, np.float32)
    settings = dataset.info.settings
    assert [clip_from(samples, start, settings).start for start in (0.0, 31.5, 58.0)] == [0, 31.5, 50]


def test_report_is_written_again_with_clips_and_without(run, dataset, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink()
    done = earmark_here("report", tmp_path / "run", "--features", dataset.folder, "--embed-audio", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "clips     1, of the surest mistakes"
    assert (tmp_path / "run" / "report.html").read_text().count("data:audio/ogg") == 1
    moved = tmp_path / "features"
    shutil.copytree(str(dataset.folder), moved)
    (moved / "music.json").unlink()
    done = earmark_here("report", tmp_path / "run", "--features", moved, "--embed-audio", "2")
    assert done.returncode == 2
    assert "the music of" in done.stderr
    done = earmark_here("report", tmp_path / "run", "--features", moved)
    assert done.returncode == 0, done.stderr
    assert "The audio is not with this page" in (tmp_path / "run" / "report.html").read_text()


def test_alpine_is_the_published_file():
    """The file is package/dist/cdn.min.js of alpinejs 3.17.5 on npm."""
    content = (ROOT / "train" / "report" / "templates" / "alpine.min.js").read_bytes()
    published = "b4036e9e9ac22fa6f6ae1ba292e015e1f3e9c85d0d79e73e4c8eb9bb139b522e"
    assert hashlib.sha256(content).hexdigest() == published
    assert "alpinejs 3.17.5" in (ROOT / "train" / "report" / "templates" / "alpine.LICENSE").read_text()


def test_only_files_on_this_machine_have_a_link(tmp_path):
    from featurize.storage import StoragePath
    from train.evaluation.predictions import audio_link

    music, folder = tmp_path / "music", StoragePath.of(tmp_path / "runs" / "one")
    music.mkdir()
    (music / "a:b %.mp3").write_bytes(b"")
    assert audio_link("a:b %.mp3", StoragePath.of(music), folder) == "../../music/a%3Ab%20%25.mp3"
    assert audio_link("absent.mp3", StoragePath.of(music), folder) is None
    assert audio_link("a:b %.mp3", None, folder) is None
    elsewhere = dataclasses.replace(StoragePath.of(music), scheme="s3")
    assert audio_link("a:b %.mp3", elsewhere, folder) is None
    assert audio_link("a:b %.mp3", StoragePath.of(music), elsewhere) is None


def test_predictions_read_from_the_file_agree_with_the_metrics(run, metrics):
    [read] = read_predictions(Run(run))
    assert read.classes == metrics["classes"]
    assert len(read.labels) == metrics["segments"]["count"] == read.per_track * metrics["tracks"]["count"]
    assert (read.probabilities.argmax(axis=1) == read.labels).mean() == metrics["segments"]["accuracy"]
    again = Predictions(read.segments, read.probabilities, read.labels, read.per_track, read.classes)
    assert again.table().equals(read.table())


def test_evaluation_removes_the_old_report(run, dataset, tmp_path):
    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page

    shutil.copytree(run, tmp_path / "run")
    again = Run(tmp_path / "run")
    evaluate_run(again, dataset)
    assert not again.report.is_file()
    (tmp_path / "run" / PART).write_bytes(b"not Parquet")
    message = rf"(?s)cannot read .*{PART}: .*Type: earmark evaluate {re.escape(again.folder.quoted)}$"
    with pytest.raises(TrainError, match=message):
        write_run_page(again, dataset)


@pytest.mark.parametrize("damage", ["cut", "column", "type", "rows", "empty", "text"])
def test_broken_predictions_are_an_error_and_a_run_without_a_report_is_evaluated_again(
    damage, dataset, run, metrics, tmp_path
):
    from featurize.storage import StoragePath
    from jobs.pipeline import evaluate_model

    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "report.html").unlink()
    file = folder / PART
    table = pq.ParquetFile(file).read()
    damaged = {
        "column": lambda: table.drop_columns(["start"]),
        "type": lambda: table.set_column(2, "segment", table["segment"].cast("string")),
        "rows": lambda: table.slice(0, len(table) - 1),
        "empty": lambda: table.slice(0, 0),
    }
    if damage in damaged:
        pq.write_table(damaged[damage](), file)
    else:
        file.write_bytes(file.read_bytes()[:99] if damage == "cut" else b"no Parquet")
    with pytest.raises(TrainError, match=rf"cannot read .*{PART}: .*[^.]\. Type: earmark evaluate"):
        Predictions.read(StoragePath.of(file))
    assert evaluate_model(StoragePath.of(folder), dataset.folder).to_json() == metrics
    assert Predictions.read(StoragePath.of(file)).table().equals(table)
    assert (folder / "report.html").is_file()
