"""Text from outside is shown with visible escapes, and a spreadsheet computes none of it."""

import json
import logging

import numpy as np
import pytest
import typer

from featurize.dataset.info import RejectCount
from featurize.dataset_build.finalize import Summary
from featurize.dataset_build.verify import Status
from featurize.display import csv_cell, one_line, visible, visible_json
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe
from jobs.commands.error_exits import plain_errors
from jobs.inference.output_formats import FORMATS
from jobs.inference.predict import PredictionResults, TrackPrediction
from jobs.terminal.console import ConsoleReporter, status_lines
from jobs.terminal.log import show_log

CLIPBOARD = "\x1b]52;c;cm0gLXJmIH4=\x07"
HOSTILE = [
    CLIPBOARD,
    "\x1b]0;title\x1b\\",
    "\x9d0;title\x9c",
    "a\nearmark: verified",
    "a\r\nb",
    "a\u2028b",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u200e\u200f\u061c",
    "\ufeff\u200b\xad",
    "\udcff",
    "\ud800",
    "\U000e0041",
    "\x00\x08\x7f",
]
FORBIDDEN = set("".join(HOSTILE)) - set("".join(HOSTILE).encode("ascii", "ignore").decode()) | set(
    "\x1b\x07\x00\x08\x7f\r"
)


def is_clean(text: str) -> bool:
    return not FORBIDDEN & set(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_hidden_characters_become_visible_escapes(text):
    assert is_clean(one_line(text))
    assert "\n" not in one_line(text)
    one_line(text).encode()
    assert visible(text).count("\n") == text.count("\n")
    assert is_clean(visible(text))
    value = json.dumps([text, {text: 1}], indent=2, ensure_ascii=False)
    assert is_clean(visible_json(value))
    assert json.loads(visible_json(value)) == [text, {text: 1}]


def test_the_escapes_are_those_of_python_and_bytes_of_a_name_are_shown_as_bytes():
    assert one_line("a\n\t\r\x1b\x9b\u202e\U000e0041") == r"a\n\t\r\x1b\x9b\u202e\U000e0041"
    assert one_line(b"caf\xe9.mp3".decode("utf-8", "surrogateescape")) == r"caf\xe9.mp3"


@pytest.mark.parametrize(
    "text", ["Björk", "שלום עולם", "نمی‌خواهم", "👩‍👩‍👧 family", "日本語", "e\u0301", "\\x1b", "a b"]
)
def test_other_text_is_unchanged(text):
    assert one_line(text) == visible(text) == csv_cell(text) == text
    assert visible_json(json.dumps(text, ensure_ascii=False)) == json.dumps(text, ensure_ascii=False)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("=1+1", "'=1+1"),
        ("+1-1", "'+1-1"),
        ("-2+3+cmd|' /C calc'!A0", "'-2+3+cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("a=1", "a=1"),
        ("-0.5", "-0.5"),
        ("+1e-3", "+1e-3"),
        ("", ""),
        ("rock", "rock"),
    ],
)
def test_a_spreadsheet_computes_no_cell(cell, expected):
    assert csv_cell(cell) == expected


@pytest.mark.parametrize("form", ["table", "json", "csv"])
@pytest.mark.parametrize("timeline", [False, True])
def test_predictions_show_hostile_names_in_one_row_each(form, timeline):
    names = [f"{text}{number}.mp3" for number, text in enumerate(HOSTILE)]
    tracks = [TrackPrediction(name, np.zeros(1), np.array([[0.25, 0.75]])) for name in names]
    results = PredictionResults([CLIPBOARD, "=a\nforged.mp3  a 1.000"], tracks, [(names[0], "a\nb")])
    text = FORMATS[form](results, 2, timeline)
    assert is_clean(text)
    if form == "json":
        assert [track["path"] for track in json.loads(text)["tracks"]] == names
    else:
        rows = len(names) * (2 if timeline and form == "table" else 1) + (form == "csv")
        assert len(text.splitlines()) == rows
    if form == "csv":
        assert ",'=a" in text


def test_rejects_status_verification_and_logs_are_not_forged(capsys):
    reporter = ConsoleReporter()
    for text in HOSTILE:
        reporter.rejects(Summary(2, 4, {(f"decode{text}", f"[bold]{text}"): 1}))
        problems = reporter.verifying([(_shard(text), [f"{text} has a label that differs"])], 1)
        assert len("\n".join(problems).splitlines()) == 1
        assert is_clean(problems[0])
        show_log()
        logging.getLogger("featurize.x").warning("%s: %s", text, f"{text} :fire:")
        status = status_lines(
            Status(False, None, 1, 1, 1, 1, [RejectCount(stage=text, reason=text, tracks=1)], [text])
        )
        assert is_clean(status)
        assert len(status.splitlines()) == 6
    shown = capsys.readouterr().err
    assert is_clean(shown)
    assert shown.count(":fire:") == len(HOSTILE)  # not replaced by an emoji
    assert "[bold]" in shown
    assert all(not line.startswith("earmark: verified") for line in shown.splitlines())


def _shard(name):
    from support.default_features import FORMAT

    from featurize.dataset.reader import Shard

    return Shard(name, StoragePath.of("/x"), 0, (1,), format=FORMAT)


def test_errors_keep_their_own_lines_and_escape_the_rest(capsys):
    with pytest.raises(typer.Exit), plain_errors():
        raise FeaturizeError(f"two problems in {StoragePath.of('/a' + HOSTILE[3])}:\n  - {CLIPBOARD}\n  - b")
    error = capsys.readouterr().err
    assert error == (
        "earmark: two problems in /aa\\nearmark: verified:\n  - \\x1b]52;c;cm0gLXJmIH4=\\x07\n  - b\n"
    )
    with pytest.raises(typer.Exit), plain_errors(kept=""):
        raise FileNotFoundError(2, "No such file or directory", f"/{CLIPBOARD}\nearmark: fine")
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert is_clean(error)


def test_messages_about_datasets_and_collections_are_not_forged(tmp_path):
    from featurize.collection.catalog import build_catalog

    for text in ("a\nearmark: fine", CLIPBOARD):
        (tmp_path / "a.mp3").touch()
        (tmp_path / "tracks.csv").write_text(f'path,label\na.mp3,"{text}"\n')
        with pytest.raises(FeaturizeError) as error:
            build_catalog(str(tmp_path / "tracks.csv"))
        assert one_line(text) in str(error.value)
        assert is_clean(str(error.value))
        assert "\n" not in str(error.value)
    assert (
        describe(OSError(5, "Input/output error", os_bytes := b"/a\xff\n")) == r"Input/output error (/a\xff\n)"
    ), os_bytes
