"""`earmark labels`: changed labels are found, the page is safe, and its table is one that Earmark reads."""

import csv
import io
import json
import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from support.audio import encode
from support.browser import needs_browser, start_browser
from support.command_line import earmark, earmark_here
from support.report import DOLLARS, JAZZ, PERCENT, SCRIPT, compose_dataset

from featurize.dataset.info import FoldLayout
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose
from jobs.label_review import describe_review
from train.evaluation.label_review import Copies, DoubtfulLabel, Outlier, find_copies, find_outliers
from train.report.labels_page import LabelReview, corrected_rows, render_labels


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return compose_dataset(tmp_path_factory.mktemp("labels"))


@pytest.fixture(scope="module")
def review(dataset):
    doubtful = [
        DoubtfulLabel(SCRIPT, JAZZ, DOLLARS, 0.1, 0.9),
        DoubtfulLabel(PERCENT, JAZZ, DOLLARS, 0.2, 0.8),
    ]
    timelines = {SCRIPT: [0, 1, 1, 1], PERCENT: [1, 1, 1, 0]}
    return LabelReview(
        doubtful, find_copies(dataset), True, [Outlier(PERCENT, JAZZ, 7.5)], timelines, dataset.classes
    )


@pytest.fixture(scope="module")
def page(dataset, review, tmp_path_factory):
    from featurize.storage import StoragePath

    path = tmp_path_factory.mktemp("page") / "labels.html"
    path.write_text(render_labels(review, dataset, StoragePath.of(path.parent), "~/folds <b>"))
    return path


def test_copies_with_two_labels_come_first(dataset):
    copies = find_copies(dataset)
    assert {frozenset(found.tracks) for found in copies if found.exact} == {
        frozenset({"twin 2.wav", "twin 10.wav"}),
        frozenset({"copied.wav", "learned/6.wav"}),
    }
    assert copies[0].tracks == ["twin 10.wav", "twin 2.wav"]
    assert [found.disagree for found in copies] == sorted([found.disagree for found in copies], reverse=True)


def test_the_page_inserts_names_as_text(page):
    text = page.read_text()
    assert SCRIPT not in text
    assert "<b>Jazz" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.wav" in text
    assert text.count("<script>") == 2  # its own and that of all pages; the third has a type
    assert "two labels" in text


def test_the_table_keeps_official_splits_and_files_outside_of_its_folder():
    from featurize.storage import StoragePath

    tracks = {"in.mp3": 1, "/else/a.mp3": 2, "s3://bucket/b.mp3": 0}
    columns = {"track": list(tracks), "label": ["jazz"] * 3, "group": list(tracks), "fold": list(tracks.values())}
    layout = FoldLayout(training=[1, 2], test=0)
    found = corrected_rows(
        SimpleNamespace(tracks=lambda: pa.table(columns), layout=layout), StoragePath.of("/music")
    )
    assert [row["path"] for row in found] == ["/music/in.mp3", "/else/a.mp3", "s3://bucket/b.mp3"]
    assert [(row["split"], row["fold"]) for row in found] == [("train", 1), ("train", 2), ("test", None)]


def test_the_terminal_shows_what_was_found(review):
    text = describe_review(review)
    assert text.splitlines()[0].split() == ["labels", "2", "probably", "wrong"]
    assert "1 under different labels" in text
    assert "(90%)" in text


def test_nothing_found_is_said(dataset):
    from featurize.storage import StoragePath

    empty = LabelReview([], [], False, [], {}, dataset.classes)
    text = render_labels(empty, dataset, StoragePath.of("/tmp"), "folds")
    assert text.count("None was found.") == 2
    assert text.count("too many tracks") == 2
    assert "not looked for" in describe_review(empty)
    assert "download" not in text


def test_outliers_are_far_from_all_other_tracks():
    random = np.random.default_rng(0)
    vectors = random.standard_normal((100, 20)).astype(np.float32)
    vectors[17] += 20
    found = find_outliers(vectors, [f"{n}.wav" for n in range(100)], ["jazz"] * 100)
    assert [outlier.track for outlier in found] == ["17.wav"]
    assert not find_outliers(vectors[:1], ["0.wav"], ["jazz"])
    assert not find_outliers(np.zeros((9, 20), np.float32), [f"{n}.wav" for n in range(9)], ["jazz"] * 9)


def test_copies_agree_or_not():
    assert Copies(["a", "b"], ["jazz", "punk"], exact=True).disagree
    assert not Copies(["a", "b"], ["jazz", "jazz"], exact=False).disagree


@needs_browser
def test_the_corrected_table_has_every_track_and_the_new_labels(page, dataset):
    with start_browser() as browser:
        browser.driver.get(page.as_uri())
        _download_corrected_table(browser, dataset)
        for width in (1280, 390):
            for dark in (False, True):
                browser.look(width, dark)
                assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
        assert [entry for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def _download_corrected_table(browser, dataset):
    browser.run("window.saved = null; URL.createObjectURL = blob => { window.saved = blob; return '#'; }")
    browser.press(browser.all("input.change")[0])
    assert browser.texts("#count") == ["1 label is changed."]
    browser.press(browser.one("#download"))
    text = browser.driver.execute_async_script("window.saved.text().then(arguments[0])")
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(text))}
    tracks = {row["track"]: row for row in dataset.tracks().to_pylist()}
    music = dataset.music()
    assert rows.keys() == {f"{music.path}/{track}" for track in tracks}
    for track, row in tracks.items():
        assert rows[f"{music.path}/{track}"]["label"] == (DOLLARS if track == SCRIPT else row["label"])
        assert rows[f"{music.path}/{track}"]["group"] == row["group"]
        assert rows[f"{music.path}/{track}"]["split"] == "train"
        assert rows[f"{music.path}/{track}"]["fold"] == str(row["fold"])
    browser.press(browser.one("#all"))
    assert browser.texts("#count") == ["2 labels are changed."]


def test_a_folder_without_a_cross_validation_is_refused(tmp_path):
    done = earmark_here("labels", tmp_path, "--out", tmp_path / "labels.html")
    assert done.returncode == 1
    assert re.search(
        r"no finished cross-validation: crossval\.json is missing\. Type: earmark crossval", done.stderr
    )
    (tmp_path / "run.json").write_text("{}")  # crossval refuses the folder
    (tmp_path / "model.keras").write_text("")
    done = earmark_here("labels", tmp_path, "--out", tmp_path / "labels.html")
    assert "earmark crossval FEATURES --out FOLDS, with a new FOLDS, then" in done.stderr
    assert not (tmp_path / "labels.html").exists()


@pytest.mark.slow
def test_changed_labels_are_found(tmp_path):
    """Of 120 pieces in three styles six have a wrong label, and two are copies in another encoding."""
    random = np.random.default_rng(8)
    names = list(STYLES)
    wrong = set(random.choice(120, 6, replace=False).tolist())
    rows = []
    for number in range(120):
        style = names[number % 3]
        habits = Habits.draw(np.random.default_rng([21, number]))
        samples = compose(STYLES[style], habits, 6, np.random.default_rng([21, number]))
        label = names[(number + 1) % 3] if number in wrong else style
        (tmp_path / f"{number}.flac").write_bytes(encode(samples, SAMPLE_RATE, ".flac"))
        rows.append({"path": f"{number}.flac", "label": label, "group": str(number)})
        if number in (3, 4):
            (tmp_path / f"{number} again.mp3").write_bytes(encode(samples, SAMPLE_RATE, ".mp3"))
            rows.append({"path": f"{number} again.mp3", "label": label, "group": str(number)})
    (tmp_path / "tracks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    features, folds, page = tmp_path / "features", tmp_path / "folds", tmp_path / "labels.html"
    settings = ["featurize.segments_per_track=4", "train.model=modulation", "train.epochs=8"]
    settings += ["train.learning_rate=1e-3"]
    settings += ["train.normalize=true", "train.batch_size=32"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    for command in (
        ["featurize", tmp_path / "tracks.jsonl", "--out", features, *arguments[:2]],
        ["crossval", features, "--out", folds, *arguments[2:]],
        ["labels", folds, "--out", page],
    ):
        done = earmark(*command)
        assert done.returncode == 0, done.stderr
    listed = set(re.findall(r'class="change" data-track="(\d+)\.flac"', page.read_text()))
    found = {int(number) for number in listed}
    print(f"precision {len(found & wrong)} of {len(found)}, recall {len(found & wrong)} of {len(wrong)}")
    assert len(found & wrong) >= 5
    assert len(found - wrong) <= 6
    assert "2 recordings with more than one track, 0 under different labels" in done.stdout
