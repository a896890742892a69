"""The page of a run: what it says, and what a reader can do with it in a browser."""

import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.audio import encode

from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import read_row_group, read_segments
from jobs.demo.synthesis import SAMPLE_RATE, STYLES, Habits, compose
from train.config import TrainConfig, TrainError
from train.evaluation.predictions import PREDICTIONS, Predictions
from train.run import Run

ROOT = Path(__file__).parent.parent
JAZZ, DOLLARS = '<b>Jazz & "Blues"</b>', "$x$ {{ 7*7 }}"
SCRIPT = "<script>alert(1)</script>.wav"
QUOTES = "it's $x$ {{ 7*7 }}.wav"
PERCENT = "100%20 #?&a=b.wav"
NO_BROWSER_PLAYS = "deeper/ü.aiff"
COPIED = "copied.wav"
REJECT = "<img src=x onerror=alert(2)>.wav"
# Path, class, fold, and which piece it is. The twins sound alike: one of them is a mistake, whatever is learned.
TRACKS = [
    (SCRIPT, JAZZ, 0, 0),
    (QUOTES, DOLLARS, 0, 1),
    (PERCENT, JAZZ, 0, 2),
    (NO_BROWSER_PLAYS, DOLLARS, 0, 3),
    ("twin 2.wav", JAZZ, 0, 4),
    ("twin 10.wav", DOLLARS, 0, 4),
    (COPIED, JAZZ, 0, 6),
    *((f"learned/{n}.wav", (JAZZ, DOLLARS)[n % 2], 1, n) for n in range(6, 10)),
]
JUDGED = {path: label for path, label, fold, _ in TRACKS if fold == 0 and path != COPIED}
SEGMENTS = 4

needs_browser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium and chromedriver are not installed (Debian: chromium, chromium-driver)",
)


@pytest.fixture(scope="module")
def dataset(ray_here, tmp_path_factory):
    """Names that break a page, in a table; a copy on the other side of the split; a file that is no music."""
    from featurize.config import FeaturizeConfig
    from featurize.dataset_build.driver import featurize

    root = tmp_path_factory.mktemp("a place with spaces & #")
    styles = list(STYLES.values())
    for path, _, _, piece in TRACKS:
        habits = Habits.draw(np.random.default_rng([5, piece]))
        samples = compose(styles[piece % 2], habits, 5.5, np.random.default_rng([5, piece, 1]))
        file = root / "music" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(samples, SAMPLE_RATE, file.suffix))
    (root / "music" / REJECT).write_bytes(b"no music")
    rows = [*TRACKS, (REJECT, JAZZ, 1, None)]
    table = root / "music" / "tracks.jsonl"
    table.write_text("\n".join(json.dumps({"path": p, "label": c, "fold": f, "group": p}) for p, c, f, _ in rows))
    featurize(str(table), root / "features", FeaturizeConfig(segments_per_track=SEGMENTS, tracks_per_shard=4))
    return open_dataset(root / "features")


@pytest.fixture(scope="module")
def run(dataset, logical_cpus):
    from support.training import trained

    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page

    folder = dataset.folder.local.parent / "runs" / "one"
    trained(dataset.folder, folder, validation_fold="none", epochs=2, model="modulation", batch_size=8)
    evaluate_run(Run(folder), dataset)
    assert not Run(folder).report.is_file()
    write_run_page(Run(folder), dataset)
    return folder


@pytest.fixture(scope="module")
def metrics(run):
    return Run(run).read("metrics.json")


def expected_order(run):
    """Track, class, what it was heard as and how surely, in the order in which a reader should get them."""
    table = pq.read_table(run / "predictions.parquet")
    classes = json.loads(table.schema.field("probabilities").metadata[b"classes"])
    rows = np.array(table["probabilities"].to_pylist()).reshape(-1, SEGMENTS, len(classes)).mean(axis=1)
    tracks, labels = (table[name].to_pylist()[::SEGMENTS] for name in ("track", "label"))
    found = [(t, c, classes[p.argmax()], p.max()) for t, c, p in zip(tracks, labels, rows, strict=True)]
    mistakes = sorted((row for row in found if row[1] != row[2]), key=lambda row: -row[3])
    return mistakes + sorted((row for row in found if row[1] == row[2]), key=lambda row: row[3])


def test_predictions_are_what_the_model_says_of_each_segment(dataset, run, metrics):
    import keras

    table = pq.read_table(run / "predictions.parquet")
    assert table.column_names == ["track", "label", "segment", "start", "probabilities"]
    assert table.schema.field("start").metadata == {b"unit": b"seconds"}
    assert json.loads(table.schema.field("probabilities").metadata[b"classes"]) == dataset.classes
    said = {(row["track"], row["segment"]): row for row in table.to_pylist()}
    assert set(said) == {(track, segment) for track in JUDGED for segment in range(SEGMENTS)}
    model = keras.models.load_model(run / "model.keras")
    for shard in dataset.in_folds({0}):
        mfcc = np.concatenate([read_row_group(shard, i)[0] for i in range(len(shard.row_groups))])
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(model(mfcc)))
        for row, expected in zip(read_segments([shard]).to_pylist(), probabilities, strict=True):
            if row["track"] != COPIED:
                found = said[row["track"], row["segment"]]
                assert (found["label"], found["start"]) == (JUDGED[row["track"]], row["start"])
                np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    confusion = np.zeros((2, 2), int)
    for row in said.values():
        confusion[dataset.classes.index(row["label"]), np.argmax(row["probabilities"])] += 1
    assert metrics["segments"]["confusion"] == confusion.tolist()
    assert metrics["copies_left_out"] == 1


def test_only_the_judged_segments_are_predicted(dataset):
    from train.evaluation.held_out import held_out

    rows = held_out(dataset, TrainConfig(test_segments="first_last"), 0).segments()
    assert rows["segment"].to_pylist() == [0, SEGMENTS - 1] * len(JUDGED)
    assert set(rows["track"].to_pylist()) == set(JUDGED)


def test_a_run_without_its_predictions_is_judged_again(run, tmp_path):
    from train.evaluation.evaluate import is_evaluated

    assert is_evaluated(Run(run))
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "predictions.parquet").unlink()
    assert not is_evaluated(Run(tmp_path / "run"))


class Reader(HTMLParser):
    """What a browser makes of a page: how many elements of each kind, and its text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = Counter(), ""

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1

    def handle_data(self, data):
        self.text += data


def test_names_reach_the_page_as_text_alone(dataset, run, metrics):
    page = (run / "report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert reader.tags["script"] == 3  # data, ours and Alpine's
    assert reader.tags["b"] == 0
    assert reader.tags["img"] == 4  # two curves, two classes
    for name in (JAZZ, DOLLARS, REJECT):
        assert name in reader.text
    train = next(line for line in reader.text.splitlines() if line.startswith("earmark train"))
    assert shlex.split(train)[2::4] == [str(dataset.folder), f"{run}/config.yaml"]
    data = json.loads(re.search('id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert {track["track"] for track in data["tracks"]} == set(JUDGED)
    assert data["classes"] == metrics["classes"] == sorted([JAZZ, DOLLARS])
    assert "Left out: 1 track of which a copy lies in another fold." in page
    assert "1 of 12 tracks could not be used" in page


def test_alpine_is_the_published_file():
    """That of alpinejs 3.17.5, as npm has it: package/dist/cdn.min.js."""
    content = (ROOT / "train" / "report" / "templates" / "alpine.min.js").read_bytes()
    published = "b4036e9e9ac22fa6f6ae1ba292e015e1f3e9c85d0d79e73e4c8eb9bb139b522e"
    assert hashlib.sha256(content).hexdigest() == published
    assert "alpinejs 3.17.5" in (ROOT / "train" / "report" / "templates" / "alpine.LICENSE").read_text()


def test_music_that_is_not_at_hand_has_no_link(tmp_path):
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


def judged(labels, predicted, classes, **settings):
    """The summary of a run that heard tracks of some classes as others."""
    from train.evaluation.metrics import score_predicted
    from train.report.summary import summarize_run

    tracks = score_predicted(np.array(predicted), np.array(labels, np.int32), classes)
    metrics = {"tracks": tracks, "classes": classes, "epoch": 3}
    small = settings.pop("small", {})
    text = "\n".join(summarize_run(metrics, TrainConfig(**settings), 5, small))
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_the_summary_says_how_many_are_right_and_what_is_confused():
    text = judged(
        [0] * 9 + [1] * 6 + [2] * 6, [0] * 7 + [1, 2] + [1] * 3 + [0] * 3 + [2] * 6, ["pop", "rock", "ska"]
    )
    assert "It names 16 of 21 tracks right, 76 %." in text
    assert "between 55 % and 89 % (95 % interval)" in text  # Wilson's, by hand: (16 + 1.92 +- 4.27) / 24.84... %
    assert "Always saying “pop”, the most frequent class here, would be right for 9, 43 %." in text
    assert "It hears “ska” best (F1 0.92) and “rock” worst (0.60)." in text
    assert "Most often it takes “rock” for “pop”: 3 of 6 tracks." in text
    assert "One fold of 21 tracks says little: earmark crossval" in text
    assert "There was no validation fold; the model is the one after the last epoch, 3." in text


@pytest.mark.parametrize(
    ("labels", "predicted", "sentences"),
    [
        (
            [0, 0, 1],
            [0, 0, 1],
            ["all of 3 tracks right, 100 %", "all classes alike (F1 1.00)", "no track for another"],
        ),
        ([0, 1], [1, 0], ["none of 2 tracks right, 0 %", "1 of 1 track, and 1 other confusion is as frequent"]),
        ([0], [0], ["1 of 1 track right", "The test fold has no track of “b” and “c”"]),
        ([0, 0, 1, 2], [0, 0, 0, 0], ["“a” best", "takes “b” for “a”: 1 of 1 track, and 1 other confusion is as"]),
    ],
)
def test_the_summary_of_few_tracks(labels, predicted, sentences):
    text = judged(labels, predicted, ["a", "b", "c"])
    for sentence in sentences:
        assert sentence in text


def test_the_summary_warns_only_where_there_is_reason_to():
    labels = [0, 1] * 40
    text = judged(labels, labels, ["a", "b"], validation_fold="next", small={"b": 12})
    assert "says little" not in text
    assert "Epoch 3 of 5 was chosen by the validation fold (track_macro_f1), not by the test fold." in text
    assert "Fewer than 20 tracks in all folds: “b” (12)." in text


@pytest.fixture(scope="module")
def many(dataset, run, tmp_path_factory):
    """The page of thirty classes and of more tracks than a page shows, drawn by the same code."""
    from train.evaluation.metrics import score_both
    from train.evaluation.predictions import Predictions
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
    metrics = {**Run(run).read("metrics.json"), "classes": classes}
    metrics |= score_both(probabilities, labels, 2, classes)
    counts = [{"label": label, "fold": 0, "tracks": 70, "groups": 9, "segments": 140} for label in classes]
    of_thirty = dataclasses.replace(dataset, info={**dataset.info, "classes": classes, "counts": counts})
    predictions = Predictions(segments, probabilities, labels, 2, classes)
    path = tmp_path_factory.mktemp("many") / "report.html"
    path.write_text(render(Run(run), of_thirty, TrainConfig(), metrics, predictions))
    return path, metrics


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--mute-audio"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield Browser(driver)
    driver.quit()


class Browser:
    """Chromium, and what a reader does in it."""

    def __init__(self, driver):
        self.driver = driver

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: condition())

    def press(self, element):
        """Click where the bar on top of the page is not in the way."""
        self.run("arguments[0].scrollIntoView({ block: 'center' })", element)
        element.click()

    def texts(self, selector):
        """What elements say, those that are out of sight too."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def names(self):
        return self.texts("td.track button")

    def look(self, width=1200, dark=False):
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[theme])

    def open(self, path):
        self.look()
        self.driver.get(path.as_uri())
        self.wait(self.names)


@pytest.fixture
def page(browser, run):
    """The report, open; nothing may go wrong in it, and nothing may be asked of a network."""
    browser.open(run / "report.html")
    yield browser
    assert [entry for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert (run / "report.html").as_uri() in asked
    assert {url.split(":")[0] for url in asked} <= {"file", "data", "blob"}


@needs_browser
def test_it_opens_with_the_surest_mistakes_first(page, run):
    from selenium.common.exceptions import NoAlertPresentException

    with pytest.raises(NoAlertPresentException):
        _ = page.driver.switch_to.alert
    expected = expected_order(run)
    assert any(row[1] != row[2] for row in expected)
    assert page.names() == [row[0] for row in expected]
    assert page.texts("td.is span:last-child") == [row[1] for row in expected]
    assert page.texts("td.heard span:nth-child(2)") == [row[2] for row in expected]
    shown = [float(text.split("\N{NO-BREAK SPACE}")[0]) for text in page.texts("td.sureness")]
    np.testing.assert_allclose(shown, [100 * row[3] for row in expected], atol=0.56)
    assert len(page.all("td.mistake")) == sum(row[1] != row[2] for row in expected)
    assert f"Earmark: {DOLLARS}, {JAZZ}" == page.driver.title


@needs_browser
def test_headers_sort_and_a_third_press_goes_back(page):
    before = page.names()
    sureness = [int(text.split("\N{NO-BREAK SPACE}")[0]) for text in page.texts("td.sureness")]
    for key, values, in_order in (
        # As people count and not as characters do.
        ("track", page.names, [SCRIPT, PERCENT, NO_BROWSER_PLAYS, QUOTES, "twin 2.wav", "twin 10.wav"]),
        ("sureness", lambda: page.texts("td.sureness"), [f"{n}\N{NO-BREAK SPACE}%" for n in sorted(sureness)]),
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
def test_search_and_mistakes_only(page, run):
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
    assert page.one("#tracks").text.endswith("No track is like that.")


@needs_browser
@pytest.mark.parametrize("level", ["tracks", "segments"])
def test_a_cell_opens_the_list_of_its_tracks(level, page, run, metrics):
    from selenium.webdriver.common.keys import Keys

    dialog = page.one("dialog")
    expected = expected_order(run)
    table = pq.read_table(run / "predictions.parquet").to_pylist()
    for cell in page.all(f"button[data-level={level}]"):
        is_, heard = (int(cell.get_attribute(f"data-{name}")) for name in ("is", "heard"))
        count = metrics[level]["confusion"][is_][heard]
        assert cell.text == str(count)
        page.press(cell)
        page.wait(dialog.is_displayed)
        names = page.texts("dialog li span:first-child")
        classes = metrics["classes"]
        assert page.one("dialog h3").text.endswith(f"of {classes[is_]}, heard as {classes[heard]}")
        if level == "tracks":
            assert names == [row[0] for row in expected if row[1:3] == (classes[is_], classes[heard])]
        else:
            there = [
                r["track"] for r in table if r["label"] == classes[is_] and np.argmax(r["probabilities"]) == heard
            ]
            told = zip(names, page.texts("dialog li span:last-child"), strict=True)
            assert dict(told) == {track: f"{there.count(track)} of 4 segments" for track in there}
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
def test_a_track_opens_to_its_segments(page, run):
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
        assert label.startswith(f"From {round(row['start'], 2):g} s: ")
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
def test_tracks_are_heard_where_their_files_are(page, dataset):
    assert page.all("audio") == []
    names = page.names()
    for place in range(len(names)):
        page.press(page.all("td.play button")[place])
        audio = page.one("audio")
        source = audio.get_attribute("src")
        if names[place] == NO_BROWSER_PLAYS:
            page.wait(lambda: "cannot play deeper/ü.aiff" in page.one("[role=alert]").text)
            continue
        page.wait(lambda audio=audio: page.run("return arguments[0].readyState", audio) >= 1)
        assert page.run("return arguments[0].duration", audio) == pytest.approx(5.5, abs=0.01)
        assert not page.one("[role=alert]").is_displayed()
        assert source.startswith((dataset.folder.parent / "music").local.as_uri())
    assert len(page.all("audio")) == 1


@needs_browser
def test_a_segment_is_heard_from_its_start(page):
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
  for (const colour of layers) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
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
def test_both_themes_can_be_read(dark, page, many):
    page.look(dark=dark)
    chosen = "srcset" if dark else "src"
    offered = page.run(
        f"return [...document.querySelectorAll('picture')].map(p => p.querySelector('[{chosen}]').{chosen})"
    )
    assert len(offered) == 2 + 2  # curves, and an MFCC image of each class
    page.wait(lambda: page.run("return [...document.images].map(image => image.currentSrc)") == offered)
    page.wait(lambda: all(page.run("return [...document.images].map(image => image.naturalWidth > 0)")))
    background = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 3 * 128) == dark
    contrasts = page.run(CONTRASTS)
    page.open(many[0])
    page.look(dark=dark)
    contrasts += page.run(CONTRASTS)
    assert len(contrasts) > 1000
    assert [found for found in contrasts if found[0] < 4.5] == []  # WCAG 2.2, level AA


@needs_browser
def test_thousands_of_tracks_are_shown_by_and_by(page, many):
    path, metrics = many
    page.open(path)
    assert "The page has 2000 of 2100 tracks in this order; predictions.parquet" in page.one("#tracks").text
    assert len(page.names()) == 50
    more = page.one("#tracks button.boxed")
    assert more.text == "Show more: 1950 are left"
    more.click()
    assert len(page.names()) == 100
    # The surest of the right ones are left out, and the list of a cell says so.
    right = metrics["tracks"]["confusion"][3][3]
    page.press(page.one("button[data-level=tracks][data-is='3'][data-heard='3']"))
    page.wait(page.one("dialog").is_displayed)
    listed = len(page.all("dialog li"))
    assert 0 < listed < right
    assert f"{right - listed} of them are of tracks that this page leaves out." in page.one("dialog").text


@needs_browser
def test_without_javascript_all_but_the_tracks_is_there(page, run, metrics):
    page.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.driver.get((run / "report.html").as_uri())
        text = page.one("main").text
    finally:
        page.command("Emulation.setScriptExecutionDisabled", value=False)
    for part in (
        f"It names {round(6 * metrics['tracks']['accuracy'])} of 6 tracks right",
        "macro-F1 of segments",
        "The table of tracks needs JavaScript.",
        "Groups that lie on two sides of the split: 0 of 12",
        "the: config",
        "earmark train",
        REJECT,
    ):
        assert part in text
    assert "Press a number" not in text
    assert len(page.all("img")) == 4


def test_the_predictions_that_a_run_keeps_are_those_that_its_page_shows(run, metrics):
    read = Predictions.read(Run(run).folder / PREDICTIONS)
    assert read.classes == metrics["classes"]
    assert len(read.labels) == metrics["segments"]["count"] == read.per_track * metrics["tracks"]["count"]
    assert (read.probabilities.argmax(axis=1) == read.labels).mean() == metrics["segments"]["accuracy"]
    again = Predictions(read.segments, read.probabilities, read.labels, read.per_track, read.classes)
    assert again.table().equals(read.table())


def test_a_report_is_never_that_of_earlier_metrics(run, dataset, tmp_path):
    from train.evaluation.evaluate import evaluate_run
    from train.report.run_page import write_run_page

    shutil.copytree(run, tmp_path / "run")
    again = Run(tmp_path / "run")
    evaluate_run(again, dataset)
    assert not again.report.is_file()
    (tmp_path / "run" / PREDICTIONS).write_bytes(b"not Parquet")
    with pytest.raises(TrainError, match=r"(?s)cannot read .*predictions.parquet.*earmark evaluate"):
        write_run_page(again, dataset)
