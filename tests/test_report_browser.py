"""The report of a run in a browser: table of tracks, confusion matrices, player, layout, contrast."""

import dataclasses
import hashlib
import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.browser import AXE, needs_browser, start_browser
from support.report import (
    DOLLARS,
    JAZZ,
    NO_BROWSER_PLAYS,
    PERCENT,
    QUOTES,
    REJECT,
    SCRIPT,
    SEGMENTS,
    expected_order,
)

from featurize.dataset.info import ClassFoldCount
from train.config import TrainConfig
from train.evaluation.cross_validation import summarize
from train.evaluation.prediction_parts import read_predictions
from train.evaluation.predictions import Predictions
from train.run import Run
from train.score_records import IntervalsByPart, ScoreIntervals


@pytest.fixture(scope="module")
def dataset(report_dataset):
    return report_dataset


@pytest.fixture(scope="module")
def run(report_run):
    return report_run


@pytest.fixture(scope="module")
def metrics(run):
    return Run(run).read("metrics.json")


@pytest.fixture(scope="module")
def many(dataset, run, tmp_path_factory):
    """A report with thirty classes and more tracks than it lists, rendered by the same code."""
    from train.evaluation.totals import FoldTotals
    from train.report.run_page import render

    classes = [f"a class with a long name, number {i}" for i in range(30)]
    tracks, random = 2100, np.random.default_rng(0)
    labels = np.repeat(np.arange(tracks, dtype=np.int32) % 30, 2)
    logits = random.normal(size=(2 * tracks, 30)) + 2 * np.eye(30)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    segments = pa.table(
        {
            "track": [f"{i // 2}.mp3" for i in range(2 * tracks)],
            "segment": [0, 1] * tracks,
            "start": [0.0, 5.0] * tracks,
        }
    )
    totals = FoldTotals(len(classes), per_track=2, lanes=1)
    totals.add(0, probabilities, labels)
    of_segments, of_tracks = totals.scores(classes)
    interval = ScoreIntervals(groups=50, accuracy=[0.4, 0.6], macro_f1=[0.4, 0.6], f1=[[0.25, 0.75]] * 30)
    intervals = IntervalsByPart(tracks=interval, segments=interval)
    scores = {"classes": classes, "segments": of_segments, "tracks": of_tracks, "intervals": intervals}
    metrics = Run(run).metrics().model_copy(update=scores)
    counts = [ClassFoldCount(label=label, fold=0, tracks=70, groups=9, segments=140) for label in classes]
    info = dataset.info.model_copy(update={"classes": classes, "counts": counts})
    of_thirty = dataclasses.replace(dataset, info=info)
    predictions = Predictions(segments, probabilities, labels, 2, classes)
    path = tmp_path_factory.mktemp("many") / "report.html"
    path.write_text(render(Run(run), of_thirty, TrainConfig(), metrics, [predictions], {}))
    return path, metrics.to_json()


@pytest.fixture(scope="module")
def browser():
    with start_browser() as browser:
        yield browser


@pytest.fixture
def page(browser, run):
    """The report, open in the browser; afterwards no errors may be logged, and no network requests made."""
    browser.open(run / "report.html")
    yield browser
    assert [entry for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    requested = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert (run / "report.html").as_uri() in requested
    assert {url.split(":")[0] for url in requested} <= {"file", "data", "blob"}


@needs_browser
def test_most_confident_errors_come_first(page, run):
    from selenium.common.exceptions import NoAlertPresentException

    with pytest.raises(NoAlertPresentException):
        _ = page.driver.switch_to.alert
    expected = expected_order(run)
    assert any(row[1] != row[2] for row in expected)
    assert page.names() == [row[0] for row in expected]
    assert page.texts("td.actual span:last-child") == [row[1] for row in expected]
    assert page.texts("td.predicted span:nth-child(2)") == [row[2] for row in expected]
    shown = [float(text.split("\N{NO-BREAK SPACE}")[0]) for text in page.texts("td.confidence")]
    np.testing.assert_allclose(shown, [100 * row[3] for row in expected], atol=0.56)
    assert len(page.all("td.error")) == sum(row[1] != row[2] for row in expected)
    assert re.fullmatch(r"one: \d{4}-\d\d-\d\d, dataset [0-9a-f]+", page.driver.title)
    assert page.one("h1").text == "one"
    assert page.one("header").text.count(f"2 classes: {DOLLARS}, {JAZZ}") == 1


@needs_browser
def test_headers_sort_and_a_third_click_restores_the_order(page):
    before = page.names()
    confidences = [int(text.split("\N{NO-BREAK SPACE}")[0]) for text in page.texts("td.confidence")]
    for key, values, in_order in (
        # Numbers in names sort by value: 2 before 10.
        ("track", page.names, [SCRIPT, PERCENT, NO_BROWSER_PLAYS, QUOTES, "twin 2.wav", "twin 10.wav"]),
        (
            "confidence",
            lambda: page.texts("td.confidence"),
            [f"{n}\N{NO-BREAK SPACE}%" for n in sorted(confidences)],
        ),
    ):
        header = page.one(f"th.{key}")
        seen = []
        for direction in ("ascending", "descending", "none"):
            header.find_element("css selector", "button").click()
            assert header.get_attribute("aria-sort") == direction
            seen.append(values())
        assert seen[:2] == [in_order, in_order[::-1]]
        assert page.names() == before
    assert {th.get_attribute("aria-sort") for th in page.all("th[aria-sort]")} == {"none"}


@needs_browser
def test_search_and_errors_only(page, run):
    from selenium.webdriver.common.keys import Keys

    search = page.one("input[type=search]")
    search.send_keys("TWIN")
    assert sorted(page.names()) == ["twin 10.wav", "twin 2.wav"]
    assert page.texts("[role=status]") == ["2 of 6 tracks"]
    page.one("input[type=checkbox]").click()
    assert len(page.names()) == 1
    search.send_keys(Keys.BACKSPACE * 4)
    assert page.names() == [row[0] for row in expected_order(run) if row[1] != row[2]]
    search.send_keys("no such track")
    assert page.names() == []
    assert page.one("#tracks").text.endswith("No matching tracks.")


@needs_browser
@pytest.mark.parametrize("level", ["tracks", "segments"])
def test_a_cell_of_a_confusion_matrix_lists_its_tracks(level, page, run, metrics):
    from selenium.webdriver.common.keys import Keys

    dialog = page.one("dialog")
    expected = expected_order(run)
    table = pq.read_table(run / "predictions.parquet").to_pylist()
    for cell in page.all(f"button[data-level={level}]"):
        actual, predicted = (int(cell.get_attribute(f"data-{name}")) for name in ("actual", "predicted"))
        count = metrics[level]["confusion"][actual][predicted]
        total = sum(metrics[level]["confusion"][actual])
        shown = page.run("return arguments[0].textContent", cell).replace("\N{NO-BREAK SPACE}", " ")
        assert shown.startswith(f"{count} {100 * count / total:.0f} % {level}: actual ")
        page.press(cell)
        page.wait(dialog.is_displayed)
        names = page.texts("dialog li span:first-child")
        classes = metrics["classes"]
        assert page.one("dialog h3").text.endswith(f"of {classes[actual]}, predicted as {classes[predicted]}")
        if level == "tracks":
            assert names == [row[0] for row in expected if row[1:3] == (classes[actual], classes[predicted])]
        else:
            in_cell = [
                row["track"]
                for row in table
                if row["label"] == classes[actual] and np.argmax(row["probabilities"]) == predicted
            ]
            notes = zip(names, page.texts("dialog li span:last-child"), strict=True)
            assert dict(notes) == {track: f"{in_cell.count(track)} of 4 segments" for track in in_cell}
        page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        page.wait(lambda: not dialog.is_displayed())
    page.press(cell)
    page.wait(dialog.is_displayed)
    first = page.one("dialog li button")
    name = page.texts("dialog li span:first-child")[0]
    first.click()
    page.wait(lambda: not dialog.is_displayed())
    assert page.names() == [name]
    assert len(page.all("tr.detail")) == 1


@needs_browser
def test_a_click_on_a_track_shows_its_segments(page, run):
    table = pq.read_table(run / "predictions.parquet").to_pylist()
    name = page.names()[0]
    page.one("td.track button").click()
    assert page.one("td.track button").get_attribute("aria-expanded") == "true"
    segments = [row for row in table if row["track"] == name]
    columns = page.all(".columns .column")
    assert len(columns) == len(segments) == SEGMENTS
    assert page.texts(".column .start") == [f"{row['start']:.1f}" for row in segments]
    for column, row in zip(columns, segments, strict=True):
        label = column.get_attribute("aria-label").replace("\N{NO-BREAK SPACE}", " ")
        assert label.startswith(f"From {row['start']:.1f} s: ")
        heights = page.run(
            "return [...arguments[0].querySelectorAll('i')].map(part => part.getBoundingClientRect().height)",
            column,
        )
        np.testing.assert_allclose(np.array(heights) / 128, row["probabilities"], atol=0.002)
    page.run("arguments[0].focus()", columns[1])
    page.wait(lambda: page.one(".pointed").text.startswith(f"From {segments[1]['start']:.2f} s: "))
    assert sorted(page.texts(".legend .label")) == sorted([JAZZ, DOLLARS])
    page.one("td.track button").click()
    assert page.all("tr.detail") == []


@needs_browser
def test_tracks_play_from_their_files(page, dataset):
    assert page.all("audio") == []
    names = page.names()
    for index in range(len(names)):
        page.press(page.all("td.play button")[index])
        audio = page.one("audio")
        source = audio.get_attribute("src")
        if names[index] == NO_BROWSER_PLAYS:
            page.wait(lambda: "cannot play deeper/ü.aiff" in page.one("[role=alert]").text)
            continue
        page.wait(lambda audio=audio: page.run("return arguments[0].readyState", audio) >= 1)
        assert page.run("return arguments[0].duration", audio) == pytest.approx(5.5, abs=0.01)
        assert not page.one("[role=alert]").is_displayed()
        assert source.startswith((dataset.folder.parent / "music").local.as_uri())
    assert len(page.all("audio")) == 1


@needs_browser
def test_a_click_on_a_segment_plays_from_its_start(page):
    page.one("input[type=search]").send_keys("twin 2")
    page.one("td.track button").click()
    page.press(page.all(".column")[3])
    audio = page.wait(lambda: page.one("audio"))
    page.wait(lambda: page.run("return arguments[0].currentTime", audio) >= 0.48)


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_is_wider_than_the_screen(width, page, many):
    for path in (None, many[0]):
        if path:
            page.open(path)
        page.look(width)
        page.one("td.track button").click()
        scroll_width, inner_width = page.run("return [document.documentElement.scrollWidth, innerWidth]")
        assert scroll_width <= inner_width == width


CONTRASTS = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const luminance = (layers) => {
  for (const color of layers) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const text = "p, h1, h2, th, td, td button, td span, pre, nav a, figcaption, .figures div";
return [...document.querySelectorAll(text)]
  .filter((element) => element.textContent.trim() && element.getClientRects().length)
  .map((element) => {
    const behind = [];
    for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
    const [a, b] = [behind, [...behind, getComputedStyle(element).color]].map(luminance).sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), element.textContent.trim().slice(0, 40)];
  });
"""


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast_in_both_themes(dark, page, many):
    page.look(dark=dark)
    attribute = "srcset" if dark else "src"
    expected = page.run(
        f"return [...document.querySelectorAll('picture')].map(p => p.querySelector('[{attribute}]').{attribute})"
    )
    assert len(expected) == 1 + 2 + 2  # reliability, curves, and an MFCC image of each class
    page.wait(lambda: page.run("return [...document.images].map(image => image.currentSrc)") == expected)
    page.wait(lambda: all(page.run("return [...document.images].map(image => image.naturalWidth > 0)")))
    background = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 3 * 128) == dark
    contrasts = page.run(CONTRASTS)
    page.open(many[0])
    page.look(dark=dark)
    contrasts += page.run(CONTRASTS)
    assert len(contrasts) > 1000
    assert [contrast for contrast in contrasts if contrast[0] < 4.5] == []  # WCAG 2.2, level AA


def test_axe_is_the_published_file():
    """The file is package/axe.min.js of axe-core 4.14.1 on npm; its license is beside it."""
    published = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == published
    assert "Mozilla Public License" in (AXE.parent / "LICENSE").read_text()


@pytest.mark.slow
@needs_browser
def test_axe_finds_nothing_in_any_page_and_color_scheme(page, run, many, tmp_path):
    from train.report.comparison import read_entries, remarks_on, table_of
    from train.report.comparison_page import render_comparison
    from train.report.cross_validation_page import write_cross_validation_page
    from train.report.paired import compare_with_first

    page.one("td.track button").click()
    page.wait(lambda: page.all("tr.detail"))
    assert page.violations() == []
    page.open(many[0])
    assert page.violations() == []
    entries = read_entries([str(run)] * 2)
    pairs, _ = compare_with_first([entry.runs for entry in entries])
    compared = render_comparison(entries, table_of(entries), pairs, remarks_on(entries), Run(tmp_path).folder)
    (tmp_path / "compare.html").write_text(compared)
    for fold in (0, 1):
        shutil.copytree(run, tmp_path / f"fold={fold}")
    metrics = [Run(run).metrics().model_copy(update={"test_fold": fold}) for fold in (0, 1)]
    summary = summarize({0: metrics}, [each.tracks for each in metrics], metrics[0].intervals)
    Run(tmp_path).write("crossval.json", summary.to_json())
    write_cross_validation_page(Run(tmp_path))
    for name in ("compare.html", "crossval.html"):
        page.driver.get((tmp_path / name).as_uri())
        assert page.violations() == []
        page.look(390)
        assert page.run("return document.documentElement.scrollWidth") == 390


@needs_browser
def test_what_is_cut_off_fades_and_can_be_scrolled(page, many):
    page.open(many[0])
    page.look(390)
    page.wait(lambda: page.all(".scroll.more-right"))
    cut = page.run(
        "return [...document.querySelectorAll('.scroll, pre')].map(e => [e.scrollWidth > e.clientWidth + 1,"
        " e.classList.contains('more-right'), e.tabIndex === 0])"
    )
    assert any(wider for wider, _, _ in cut)
    assert all(wider == fades and (focusable or not wider) for wider, fades, focusable in cut)
    hints = page.all(".more-right + .more-hint")
    assert len(hints) == sum(fades for _, fades, _ in cut)
    assert all(hint.is_displayed() for hint in hints)
    box = page.one(".scroll.more-right")
    page.run("arguments[0].scrollLeft = 1e6", box)
    page.wait(lambda: "more-right" not in box.get_attribute("class"))
    assert not hints[0].is_displayed()
    links = page.run("return [...document.querySelectorAll('nav a')].map(a => a.getBoundingClientRect().right)")
    assert max(links) <= 390


@needs_browser
def test_a_mailed_report_plays_the_clips_that_are_in_it(page, run, dataset, tmp_path):
    from jobs.audio_clips import clips_of
    from train.report.run_page import render, surest_mistakes

    clips = clips_of(surest_mistakes(Run(run), 8), dataset)
    predictions = read_predictions(Run(run))
    mailed = tmp_path / "report.html"
    mailed.write_text(render(Run(run), dataset, TrainConfig(), Run(run).metrics(), predictions, clips))
    page.open(mailed)
    assert "The files are not in this page" in page.one("#tracks").text
    assert page.names()[0] in clips
    page.press(page.one("td.play button"))
    audio = page.wait(lambda: page.one("audio"))
    page.wait(lambda: page.run("return arguments[0].readyState", audio) >= 1)
    assert page.run("return arguments[0].duration", audio) == pytest.approx(5.5, abs=0.1)
    page.wait(lambda: "A clip from 0.0 s on, which is in this page" in page.one(".player").text)
    assert not page.one("[role=alert]").is_displayed()
    page.press(page.all("td.play button")[-1])
    page.wait(lambda: "The audio is not in this page." in page.one("[role=alert]").text)
    page.driver.get_log("browser")  # the missing files


@needs_browser
def test_thousands_of_tracks_are_listed_in_steps(page, many):
    path, metrics = many
    page.open(path)
    assert "The page lists the first 2000 of 2100 tracks; predictions.parquet" in page.one("#tracks").text
    assert len(page.names()) == 50
    more = page.one("#tracks button.boxed")
    assert more.text == "Show more (1950 left)"
    more.click()
    assert len(page.names()) == 100
    # The most confident correct predictions are not on the page, and the list of a cell states how many.
    correct = metrics["tracks"]["confusion"][3][3]
    page.press(page.one("button[data-level=tracks][data-actual='3'][data-predicted='3']"))
    page.wait(page.one("dialog").is_displayed)
    listed = len(page.all("dialog li"))
    assert 0 < listed < correct
    assert re.search(rf"Not listed: {correct - listed} tracks? beyond", page.one("dialog").text)


@needs_browser
def test_without_javascript_everything_except_the_tracks_is_shown(page, run, metrics):
    page.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.driver.get((run / "report.html").as_uri())
        text = page.one("main").text
    finally:
        page.command("Emulation.setScriptExecutionDisabled", value=False)
    for part in (
        f"Correct: {round(6 * metrics['tracks']['accuracy'])} of 6 tracks",
        "macro-F1 of segments",
        "The table of tracks needs JavaScript.",
        "Groups in more than one part of the split: 0 of 12",
        "the: config",
        "earmark train",
        REJECT,
    ):
        assert part in text
    assert "Click a number" not in text
    assert len(page.all("img")) == 5  # reliability, two curves, two classes
