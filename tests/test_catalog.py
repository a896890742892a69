"""A collection from a folder or a table: ids, columns, and what is refused."""

import os

import numpy as np
import pytest
from hypothesis import strategies as st
from support.collection import plan_of, touch, two_classes, write_table

from featurize.config import FeaturizeConfig
from featurize.dataset.schema import FOLDS
from featurize.errors import FeaturizeError

UNGROUPED = FeaturizeConfig(group_by="none")


def test_track_ids_do_not_depend_on_how_the_collection_is_specified(tmp_path, monkeypatch):
    two_classes(tmp_path / "music")
    monkeypatch.chdir(tmp_path / "music" / "jazz")
    whole = plan_of(str(tmp_path / "music"), UNGROUPED)
    for root in ("..", "../../music", "../../music/"):
        relative = plan_of(root, UNGROUPED)
        assert [t.id for t in relative.tracks] == [t.id for t in whole.tracks]
        assert all(
            os.path.samefile(a.file.path, b.file.path) for a, b in zip(relative.tracks, whole.tracks, strict=True)
        )
    rows = [{"path": t.file.path, "label": t.label} for t in whole.tracks]
    table = plan_of(str(write_table(tmp_path / "music", rows, ".csv")), UNGROUPED)
    assert [t.id for t in table.tracks] == [t.id for t in whole.tracks]


def test_a_file_name_that_is_not_utf8_is_supported(tmp_path):
    two_classes(tmp_path)
    os.makedirs(os.fsencode(tmp_path / "jazz"), exist_ok=True)
    with open(os.fsencode(tmp_path / "jazz") + b"/caf\xe9.mp3", "wb") as file:
        file.write(b"x")
    track = next(t for t in plan_of(str(tmp_path), UNGROUPED).tracks if "caf" in t.id)
    assert track.id == "jazz/caf\\xe9.mp3"
    assert os.path.exists(track.file.path)


ROWS = [
    {"path": f"{label}{n}.mp3", "label": label, "group": f"g{label}{n // 2}", "fold": n // 2 % FOLDS}
    for label in ("007", "punk")
    for n in range(10)
]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_specifies_path_label_group_and_fold(suffix, tmp_path):
    touch(tmp_path, *(row["path"] for row in ROWS))
    catalog = plan_of(str(write_table(tmp_path, ROWS, suffix)), FeaturizeConfig())
    assert catalog.classes == ["007", "punk"]
    found = [(t.id, t.label, t.group, t.fold) for t in catalog.tracks]
    assert found == sorted((r["path"], r["label"], r["group"], r["fold"]) for r in ROWS)
    assert all(track.file.path == str(tmp_path / track.id) and track.size == 1 for track in catalog.tracks)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_without_group_and_fold_columns_gets_defaults(suffix, tmp_path):
    touch(tmp_path, *(row["path"] for row in ROWS))
    rows = [{"path": row["path"], "label": row["label"]} for row in ROWS]
    catalog = plan_of(str(write_table(tmp_path, rows, suffix)), UNGROUPED)
    assert all(track.group == track.id for track in catalog.tracks)
    assert np.bincount([track.fold for track in catalog.tracks]).tolist() == [4] * FOLDS


def test_an_invalid_table_is_rejected_with_all_its_problems(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[1]["path"] = rows[0]["path"]
    rows[2]["label"] = ""
    rows[3]["fold"] = 70
    rows[4]["fold"] = "x"
    with pytest.raises(FeaturizeError) as caught:
        plan_of(str(write_table(tmp_path, rows, ".csv")), UNGROUPED)
    message = str(caught.value)
    assert "1 rows have an empty label: line 4" in message
    assert "1 rows have a path of an earlier row: line 3" in message
    assert "2 rows have a fold that is not a number from 0 to 20 (found '70', 'x'): line 5, 6" in message


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda root: "absent", "does not exist"),
        (lambda root: ".", "at least 2 classes in .*found 0"),
        (lambda root: (touch(root, "jazz/1.mp3"), ".")[1], "at least 2 classes in .*found 1: jazz"),
        (lambda root: (two_classes(root, 2), ".")[1], "at least 5 tracks in a class.*jazz: 2, punk: 2"),
        (lambda root: (touch(root, "song.mp3"), "song.mp3")[1], "neither a folder nor a table"),
        (
            lambda root: ((root / "t.csv").write_text("title,year\na,b\n"), "t.csv")[1],
            "no column is known to be the path or the label; it has title, year. Name them: --columns path=",
        ),
        (
            lambda root: ((root / "t.csv").write_text('path,label\n"a,b\n'), "t.csv")[1],
            "cannot be read|at least 2",
        ),
        (lambda root: ((root / "t.csv").write_text(""), "t.csv")[1], "cannot be read as a csv table"),
        (lambda root: ((root / "t.parquet").write_text("no"), "t.parquet")[1], "cannot be read as a parquet"),
        (
            lambda root: ((root / "t.jsonl").write_text('{"path": '), "t.jsonl")[1],
            "cannot be read as a jsonl",
        ),
        (
            lambda root: ((root / "t.jsonl").write_text('{"path": {"a": 1}, "label": "x"}\n'), "t.jsonl")[1],
            "path does not hold plain text",
        ),
    ],
)
def test_an_invalid_collection_is_rejected(prepare, expected, tmp_path):
    with pytest.raises(FeaturizeError, match=f"(?s){expected}"):
        plan_of(str(tmp_path / prepare(tmp_path)), UNGROUPED)


collections = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=20, max_size=120)
