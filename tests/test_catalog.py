"""Tracks found in folders and tables, their groups and folds, and invalid collections."""

import json
import os
import warnings
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold
from support.logs import logged

from featurize.collection.catalog import build_catalog, stored_path
from featurize.collection.location import locate
from featurize.config import FeaturizeConfig
from featurize.dataset.schema import FOLDS
from featurize.errors import FeaturizeError
from featurize.execution.tag_reading import read_tags
from featurize.planning.folds import assign_folds
from featurize.planning.groups import add_tags, known_groups, unread_files
from featurize.planning.plan import make_plan

UNGROUPED = FeaturizeConfig(group_by="none")


def _plan(music, config):
    """The tracks of a collection sorted by id, its classes, and the logged messages."""
    with logged("featurize") as messages:
        catalog = build_catalog(str(music))
        groups = known_groups(catalog, config, None)
        tags = read_tags(unread_files(catalog, groups), config.group_by)
        plan = make_plan(catalog, config, None, add_tags(catalog, groups, tags))
    tracks = [
        SimpleNamespace(
            **{**row, "label": plan.classes[row["label"]], "id": row["track"]},
            file=locate(plan.root, stored_path(row["track"], row["path"])),
        )
        for row in plan.tracks.sort_by("track").to_pylist()
    ]
    return SimpleNamespace(tracks=tracks, classes=plan.classes, messages=messages)


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _collection(root, per_class=6):
    _touch(root, *(f"{label}/{n}.mp3" for label in ("jazz", "punk") for n in range(per_class)))


def test_a_folder_is_searched_at_any_depth_for_audio_files(tmp_path):
    _collection(tmp_path)
    _touch(
        tmp_path,
        "jazz/live/cd 1/x.FLAC",
        "punk/.hidden.mp3",
        ".git/jazz/y.mp3",
        "punk/cover.jpg",
        "loose.mp3",
        "notes.txt",
    )
    os.symlink(tmp_path, tmp_path / "jazz" / "loop")
    catalog = _plan(str(tmp_path), UNGROUPED)
    ids = [track.id for track in catalog.tracks]
    assert ids == sorted(ids)
    assert len(ids) == 13
    assert "jazz/live/cd 1/x.FLAC" in ids
    assert catalog.classes == ["jazz", "punk"]
    assert {track.label for track in catalog.tracks if track.id.startswith("jazz/")} == {"jazz"}
    assert catalog.messages == [
        "3 other files were skipped (.jpg: 1, .txt: 1, hidden: 1).",
        "1 audio files are in no class folder and were skipped.",
    ]


def test_track_ids_do_not_depend_on_how_the_collection_is_specified(tmp_path, monkeypatch):
    _collection(tmp_path / "music")
    monkeypatch.chdir(tmp_path / "music" / "jazz")
    whole = _plan(str(tmp_path / "music"), UNGROUPED)
    for root in ("..", "../../music", "../../music/"):
        relative = _plan(root, UNGROUPED)
        assert [t.id for t in relative.tracks] == [t.id for t in whole.tracks]
        assert all(
            os.path.samefile(a.file.path, b.file.path) for a, b in zip(relative.tracks, whole.tracks, strict=True)
        )
    rows = [{"path": t.file.path, "label": t.label} for t in whole.tracks]
    table = _plan(str(_write(tmp_path / "music", rows, ".csv")), UNGROUPED)
    assert [t.id for t in table.tracks] == [t.id for t in whole.tracks]


def test_a_file_name_that_is_not_utf8_is_supported(tmp_path):
    _collection(tmp_path)
    os.makedirs(os.fsencode(tmp_path / "jazz"), exist_ok=True)
    with open(os.fsencode(tmp_path / "jazz") + b"/caf\xe9.mp3", "wb") as file:
        file.write(b"x")
    track = next(t for t in _plan(str(tmp_path), UNGROUPED).tracks if "caf" in t.id)
    assert track.id == "jazz/caf\\xe9.mp3"
    assert os.path.exists(track.file.path)


def test_groups_come_from_tags_in_every_format(music):
    by_artist = _plan(str(music), FeaturizeConfig())
    assert by_artist.messages == []
    assert {track.group for track in by_artist.tracks} == {
        f"{style} {artist}" for style in ("bells", "reeds", "pulses") for artist in range(5)
    }
    fold_of = {}
    for track in by_artist.tracks:
        assert fold_of.setdefault(track.group, track.fold) == track.fold
    counts = {(t.label, t.fold) for t in by_artist.tracks}
    assert len(counts) == 3 * FOLDS  # every class in every fold
    by_album = _plan(str(music), FeaturizeConfig(group_by="album"))
    assert by_album.messages == ["30 of 30 tracks have no album tag; each of them is its own group."]
    assert all(track.group == track.id for track in by_album.tracks)


ROWS = [
    {"path": f"{label}{n}.mp3", "label": label, "group": f"g{label}{n // 2}", "fold": n // 2 % FOLDS}
    for label in ("007", "punk")
    for n in range(10)
]


def _write(folder, rows, suffix):
    path = folder / f"tracks{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0])] + [",".join('"' + str(v) + '"' for v in row.values()) for row in rows]
        path.write_text("\ufeff" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_specifies_path_label_group_and_fold(suffix, tmp_path):
    _touch(tmp_path, *(row["path"] for row in ROWS))
    catalog = _plan(str(_write(tmp_path, ROWS, suffix)), FeaturizeConfig())
    assert catalog.classes == ["007", "punk"]
    found = [(t.id, t.label, t.group, t.fold) for t in catalog.tracks]
    assert found == sorted((r["path"], r["label"], r["group"], r["fold"]) for r in ROWS)
    assert all(track.file.path == str(tmp_path / track.id) and track.size == 1 for track in catalog.tracks)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_without_group_and_fold_columns_gets_defaults(suffix, tmp_path):
    _touch(tmp_path, *(row["path"] for row in ROWS))
    rows = [{"path": row["path"], "label": row["label"]} for row in ROWS]
    catalog = _plan(str(_write(tmp_path, rows, suffix)), UNGROUPED)
    assert all(track.group == track.id for track in catalog.tracks)
    assert np.bincount([track.fold for track in catalog.tracks]).tolist() == [4] * FOLDS


def test_an_invalid_table_is_rejected_with_all_its_problems(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[1]["path"] = rows[0]["path"]
    rows[2]["label"] = ""
    rows[3]["fold"] = 70
    rows[4]["fold"] = "x"
    with pytest.raises(FeaturizeError) as caught:
        _plan(str(_write(tmp_path, rows, ".csv")), UNGROUPED)
    message = str(caught.value)
    assert "1 rows have an empty label: line 4" in message
    assert "1 rows have a path of an earlier row: line 3" in message
    assert "2 rows have a fold that is not a number from 0 to 20 (found '70', 'x'): line 5, 6" in message


def test_a_table_that_splits_a_group_is_rejected(tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[0]["fold"] = 4
    _touch(tmp_path, *(row["path"] for row in rows))
    with pytest.raises(FeaturizeError, match="splits 1 groups across several folds: 'g0070'"):
        _plan(str(_write(tmp_path, rows, ".csv")), UNGROUPED)


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (lambda root: "absent", "does not exist"),
        (lambda root: ".", "at least 2 classes in .*found 0"),
        (lambda root: (_touch(root, "jazz/1.mp3"), ".")[1], "at least 2 classes in .*found 1: jazz"),
        (lambda root: (_collection(root, 2), ".")[1], "at least 5 tracks in a class.*jazz: 2, punk: 2"),
        (lambda root: (_touch(root, "song.mp3"), "song.mp3")[1], "neither a folder nor a table"),
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
        _plan(str(tmp_path / prepare(tmp_path)), UNGROUPED)


collections = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=20, max_size=120)


def _codes(values):
    return np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)[1]


@settings(max_examples=80, deadline=None)
@given(tracks=collections, order=st.randoms(use_true_random=False), share=st.floats(0, 1))
def test_folds_do_not_depend_on_track_order_and_fixed_groups_keep_their_fold(tracks, order, share):
    labels, groups = _codes([a for a, _ in tracks]), _codes([b for _, b in tracks])
    kept = np.full(groups.max() + 1, -1)
    folds = assign_folds(labels, groups, kept)
    assert set(folds) <= set(range(FOLDS))
    shuffled = np.arange(len(tracks))
    order.shuffle(shuffled)
    assert (assign_folds(labels[shuffled], groups[shuffled], kept) == folds).all()
    known = np.arange(len(kept)) < share * len(kept)
    kept[known] = np.arange(known.sum()) % FOLDS
    assert (assign_folds(labels, groups, kept)[known] == kept[known]).all()


@given(counts=st.lists(st.integers(5, 40), min_size=2, max_size=5))
def test_folds_without_groups_have_every_class_evenly(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = assign_folds(labels, np.arange(len(labels)), np.full(len(labels), -1))
    for c, count in enumerate(counts):
        held = np.bincount(folds[labels == c], minlength=FOLDS)
        assert held.sum() == count
        assert held.max() - held.min() <= 1 + count // 20


@settings(max_examples=60, deadline=None)
@given(tracks=collections.filter(lambda tracks: len({b for _, b in tracks}) >= FOLDS))
def test_folds_are_as_even_as_those_of_scikit_learn(tracks):
    labels, groups = _codes([a for a, _ in tracks]), _codes([b for _, b in tracks])
    ours = assign_folds(labels, groups, np.full(groups.max() + 1, -1))[groups]
    theirs = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes with fewer tracks than folds
        splits = StratifiedGroupKFold(FOLDS).split(labels, labels, groups)
        for fold, (_, members) in enumerate(splits):
            theirs[members] = fold

    def unevenness(folds):
        held = np.array(
            [[(folds[labels == c] == k).mean() for k in range(FOLDS)] for c in range(labels.max() + 1)]
        )
        return held.std(axis=1).mean()

    # The same algorithm; ties, which scikit-learn leaves to rounding, lead to other folds of similar evenness.
    assert unevenness(ours) <= 1.5 * unevenness(theirs) + 0.02
