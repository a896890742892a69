"""Tracks found in folders and tables, their groups and folds, and invalid collections."""

import json
import os
import shutil
import warnings
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold
from support.audio import encode_with_tags
from support.command_line import earmark
from support.logs import logged

from featurize.collection.catalog import build_catalog, stored_path
from featurize.collection.location import locate
from featurize.config import FeaturizeConfig
from featurize.dataset.schema import FOLDS
from featurize.dataset_build.inference_features import list_files
from featurize.errors import FeaturizeError
from featurize.execution.tag_reading import read_tags
from featurize.planning.folds import assign_folds
from featurize.planning.groups import add_tags, known_groups, unread_files
from featurize.planning.plan import make_plan
from jobs.commands.app import app
from jobs.remote.remote_command import read_command

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
    remarks = [text for text in messages if not text.startswith("Table ")]  # which columns it uses
    return SimpleNamespace(tracks=tracks, classes=plan.classes, messages=remarks)


def _touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _collection(root, per_class=6):
    _touch(root, *(f"{label}/{n}.mp3" for label in ("jazz", "punk") for n in range(per_class)))


def test_a_folder_is_searched_at_any_depth_for_audio_files(tmp_path):
    _collection(tmp_path)
    _touch(tmp_path, "jazz/live/cd 1/x.FLAC", "punk/cover.jpg", "loose.mp3", "notes.txt", "artwork/a.png")
    os.symlink(tmp_path, tmp_path / "jazz" / "loop")
    catalog = _plan(str(tmp_path), UNGROUPED)
    ids = [track.id for track in catalog.tracks]
    assert ids == sorted(ids)
    assert len(ids) == 13
    assert "jazz/live/cd 1/x.FLAC" in ids
    assert catalog.classes == ["jazz", "punk"]
    assert {track.label for track in catalog.tracks if track.id.startswith("jazz/")} == {"jazz"}
    assert catalog.messages == [
        "3 other files were skipped (.jpg: 1, .png: 1, .txt: 1).",
        "1 audio files are in no class folder and were skipped.",
        "1 class folders hold no audio files and are no classes: 'artwork'.",
    ]


DOTTED = [
    "...And Justice/One.mp3",
    ".38/.x.mp3",
    "jazz/.hidden/a.mp3",
    "jazz/...Baby.mp3",
    "punk/.trash talk/a.mp3",
]
JUNK = [
    *("jazz/._One.mp3", "jazz/.DS_Store", "jazz/.pending-1690000000-a.mp3", "punk/.trashed-1690000000-a.mp3"),
    *(f"{name}/jazz/x.mp3" for name in (".git", "@eaDir", "__MACOSX", ".Trash-1000", "#recycle", "$RECYCLE.BIN")),
    *(
        f"punk/{name}/x.mp3"
        for name in (".AppleDouble", ".ipynb_checkpoints", ".cache", ".stversions", ".Trashes")
    ),
]


def _check_dotted(music, where):
    with logged("featurize") as messages:
        catalog = build_catalog(music)
    tracks = catalog.tracks["track"].to_pylist()
    assert set(DOTTED) < set(tracks)
    assert len(tracks) == 12 + len(DOTTED)
    assert set(catalog.tracks["label"].to_pylist()) == {"jazz", "punk", "...And Justice", ".38"}
    assert messages == [
        "4 other files were skipped (system files: 4).",
        "11 folders of systems and tools were skipped: '#recycle', '$RECYCLE.BIN', '.Trash-1000', '.git', "
        "'@eaDir' and 6 more.",
    ]
    assert sorted(file.id.partition("?")[0] for file in list_files([music])) == sorted(
        f"{where}/{track.replace(' ', '%20') if '://' in where else track}" for track in tracks
    )


def test_names_that_begin_with_dots_are_music_and_files_of_systems_are_not(tmp_path):
    _collection(tmp_path)
    _touch(tmp_path, *DOTTED, *JUNK)
    _check_dotted(str(tmp_path), str(tmp_path))


def test_names_in_a_bucket_are_treated_like_those_on_a_disk(client, uri, tmp_path):
    _collection(tmp_path)
    _touch(tmp_path, *DOTTED, *JUNK)
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            client.put_object(Bucket="music", Key=f"dots/{path.relative_to(tmp_path)}", Body=b"x")
    _check_dotted(uri("music/dots"), "s3://music/dots")


def test_a_folder_with_two_names_is_two_folders_and_one_inside_itself_is_not(tmp_path):
    _collection(tmp_path / "music")
    _touch(tmp_path, "elsewhere/a.mp3")
    for link, target in {
        "jazz/more": tmp_path / "elsewhere",
        "punk/more": tmp_path / "elsewhere",
        "punk/jazz": tmp_path / "music" / "jazz",
        "jazz/up": tmp_path / "music",
        "jazz/self": tmp_path / "music" / "jazz" / "self",
    }.items():
        os.symlink(target, tmp_path / "music" / link)
    tracks = set(build_catalog(str(tmp_path / "music")).tracks["track"].to_pylist())
    assert {"jazz/more/a.mp3", "punk/more/a.mp3", "punk/jazz/0.mp3", "punk/jazz/more/a.mp3"} < tracks
    assert len(tracks) == 12 + 2 + 6 + 1


def test_links_that_make_exponentially_many_names_are_refused(tmp_path):
    _collection(tmp_path)
    for level in range(1, 40):
        (tmp_path / "links" / str(level)).mkdir(parents=True)
        for name in "ab":
            os.symlink(f"../{level + 1}", tmp_path / "links" / str(level) / name)
    with pytest.raises(FeaturizeError, match="has more than 100 names through symbolic links"):
        build_catalog(str(tmp_path))


def _split(root, *splits, classes=("jazz", "punk"), per_class=6):
    _touch(root, *(f"{split}/{label}/{n}.mp3" for split in splits for label in classes for n in range(per_class)))


def _splits_of(catalog):
    """The class and the split of the folders above each track."""
    rows = catalog.tracks.to_pylist()
    return {row["track"].rpartition("/")[0]: (row["label"], row["split"]) for row in rows}


def test_folders_above_the_class_folders_are_a_split(tmp_path):
    _split(tmp_path, "Training", "val", "TEST", "eval")
    with logged("featurize") as messages:
        catalog = build_catalog(str(tmp_path))
    names = {"Training": "train", "val": "validation", "TEST": "test", "eval": "validation"}
    assert _splits_of(catalog) == {
        f"{name}/{label}": (label, split) for name, split in names.items() for label in ("jazz", "punk")
    }
    assert messages == [
        "The folders 'TEST', 'Training', 'eval' and 'val' are a split and not classes (train: 12, validation: 24, "
        "test: 12); the classes are the folders in them. If they are classes, add --layout folders."
    ]
    catalog = build_catalog(str(tmp_path), layout="folders")
    assert set(_splits_of(catalog).values()) == {(name, None) for name in names}


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("blues/1.mp3", "'blues' is no split"),
        ("test/1.mp3", "'test/1.mp3' is in no class folder below it"),
    ],
)
def test_folders_that_are_almost_a_split_are_classes_with_a_remark(extra, reason, tmp_path):
    _split(tmp_path, "train", "test")
    _touch(tmp_path, extra)
    with logged("featurize") as messages:
        catalog = build_catalog(str(tmp_path))
    assert {"train", "test"} <= set(catalog.tracks["label"].to_pylist())
    assert not catalog.tracks["split"].drop_null()
    assert messages == [
        "The folders 'test' and 'train' look like a split, but are taken for classes, because "
        f"{reason}; to use the split, put every audio file into a class folder below one of them."
    ]


@pytest.mark.parametrize("folders", [("train", "traffic"), ("test", "valid"), ("jazz", "training")])
def test_other_first_level_folders_are_classes(folders, tmp_path):
    _split(tmp_path, *folders)
    with logged("featurize") as messages:
        catalog = build_catalog(str(tmp_path))
    assert set(catalog.tracks["label"].to_pylist()) == set(folders)
    assert messages == []


def test_splits_with_other_classes_are_reported_or_refused(tmp_path):
    _split(tmp_path, "train", "test")
    _touch(tmp_path, "test/Folk/1.mp3", "train/empty/notes.txt")
    untrained = r"has no track to train 1 of its 3 classes on.*Folk: 1"
    with logged("featurize") as messages, pytest.raises(FeaturizeError, match=untrained):
        build_catalog(str(tmp_path))
    assert messages[1] == "1 class folders hold no audio files and are no classes: 'train/empty'."
    _split(tmp_path / "other", "train", classes=("jazz", "punk"))
    _split(tmp_path / "other", "test", classes=("artist 1", "artist 2"))
    with pytest.raises(FeaturizeError, match=r"look like a split, but the folders in them.*add --layout folders"):
        build_catalog(str(tmp_path / "other"))


def test_the_layout_of_folders_is_not_for_tables(tmp_path):
    with pytest.raises(FeaturizeError, match=r"--layout folders needs a folder; .* is a file"):
        build_catalog(str(_write(tmp_path, ROWS, ".csv")), layout="folders")


def test_the_option_layout_reaches_the_catalog_and_the_cluster(tmp_path):
    command = ["featurize", "s3://b/music", "--out", "s3://b/out", "--layout", "folders"]
    sent = read_command(typer.main.get_command(app).commands, command).arguments
    assert " ".join(sent).count("--layout folders") == 1
    _split(tmp_path / "music", "train", "test", per_class=1)
    done = earmark("featurize", tmp_path / "music", "--out", tmp_path / "out", "--layout", "folders")
    assert done.returncode == 1
    assert "expected at least 5 tracks in a class" in done.stderr
    assert "found test: 2, train: 2" in done.stderr


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
    assert by_album.messages == [
        "30 of 30 tracks have no album tag; each of them is its own group: 'bells/0-0.mp3', 'bells/1-0.flac', "
        "'bells/2-0.ogg', 'bells/3-0.wav', 'bells/4-0.aiff' and 25 more."
    ]
    assert all(track.group == track.id for track in by_album.tracks)


def _grouped(groups, tmp_path, names="{label}{n}.mp3", labels=("jazz", "punk"), suffix=".csv"):
    """Plan a table with these groups, the same in each class; '' is no group."""
    rows = [
        {"path": names.format(label=label, n=n), "label": label, "group": group}
        for label in labels
        for n, group in enumerate(groups)
    ]
    _touch(tmp_path, *(row["path"] for row in rows))
    return _plan(_write(tmp_path, rows, suffix), FeaturizeConfig())


def test_groups_that_differ_only_in_case_spaces_or_normal_form_are_one(tmp_path):
    plan = _grouped(["Björk", "bjo\u0308rk", " BJÖRK ", "a b", "A  B", *"cdefghijklmnop"], tmp_path)
    assert {track.group for track in plan.tracks} == {"björk", "a b", *"cdefghijklmnop"}
    assert len({track.fold for track in plan.tracks if track.group == "björk"}) == 1
    assert plan.messages == []


def test_names_for_no_artist_group_nothing(tmp_path):
    names = ["Various Artists", "various artists", "V.A.", "<Unknown>", "n/a", "Verschiedene Interpreten"]
    plan = _grouped([*names, "", "Nina", "Va Va Voom", "Sampler"], tmp_path)
    grouped = {track.group for track in plan.tracks if track.group != track.id}
    assert grouped == {"nina", "va va voom", "sampler"}
    assert plan.messages == [
        "2 of 20 rows have no group and are each their own group.",
        "12 tracks have a name for no group in particular; each of them is its own group ('various artists': 4, "
        "'v.a.': 2, '<unknown>': 2, 'n/a': 2, 'verschiedene interpreten': 2).",
    ]


def test_tags_for_no_artist_group_nothing(music, tmp_path):
    shutil.copytree(music, tmp_path / "music")
    for number, artist in enumerate(["Various Artists", "Various Artists", "Unknown Artist"]):
        content = encode_with_tags(".flac", {"artist": artist, "album": "Unknown Album"})
        (tmp_path / "music" / "bells" / f"va {number}.flac").write_bytes(content)
    plan = _plan(tmp_path / "music", FeaturizeConfig())
    added = [track for track in plan.tracks if "va " in track.id]
    assert all(track.group == track.id for track in added)
    assert plan.messages == [
        "3 tracks have a name for no artist in particular; each of them is its own group ('various artists': 2, "
        "'unknown artist': 1)."
    ]
    plan = _plan(tmp_path / "music", FeaturizeConfig(group_by="album"))
    assert plan.messages[1] == (
        "3 tracks have a name for no album in particular; each of them is its own group ('unknown album': 3)."
    )


def test_a_group_larger_than_a_fold_is_named(tmp_path):
    assert _grouped(["a", "a", *"bcdefghi"], tmp_path).messages == []
    assert _grouped(["A", "a", "a", *"bcdefgh"], tmp_path).messages == [
        "The group 'a' has 6 of 20 tracks, more than the share of a fold (a fifth), so folds differ in size; if "
        "these tracks do not belong together, correct the column group of the table."
    ]


def test_unreadable_tags_are_reported_apart_from_missing_ones(music, tmp_path):
    shutil.copytree(music, tmp_path / "music")
    (tmp_path / "music" / "bells" / "z.mp3").write_bytes(b"no audio")
    (tmp_path / "music" / "bells" / "gone.mp3").symlink_to("nowhere.mp3")
    (tmp_path / "music" / "bells" / "plain.flac").write_bytes(encode_with_tags(".flac", {}))
    assert _plan(tmp_path / "music", FeaturizeConfig()).messages == [
        "1 of 33 tracks have no artist tag; each of them is its own group: 'bells/plain.flac'.",
        "The tags of 2 tracks are unreadable; each of them is its own group: 'bells/gone.mp3' (missing), "
        "'bells/z.mp3' (not recognized).",
    ]


PARTS = [
    ["{song}_{n:02}.wav", "jazz/one_00.wav", "jazz/one_01.wav"],
    ["{song}-{n:03}.mp3", "jazz/one-000.mp3", "jazz/one-001.mp3"],
    ["{song}.part{n}.wav", "jazz/one.part0.wav", "jazz/one.part1.wav"],
    ["{song} (Part {n}).flac", "jazz/one (Part 0).flac", "jazz/one (Part 1).flac"],
    ["jazz.00000{song}.{n}.wav", "jazz/jazz.00000one.0.wav", "jazz/jazz.00000one.1.wav"],
    ["song{song}1_{n}.wav", "jazz/songone1_0.wav", "jazz/songone1_1.wav"],
    ["{song}/{song}{n}.wav", "jazz/one/one0.wav", "jazz/one/one1.wav"],
]


def _untagged(root, pattern, songs, numbers):
    for label in ("jazz", "punk"):
        _touch(root, *(f"{label}/{pattern.format(song=song, n=n)}" for song in songs for n in numbers))
    return _plan(root, UNGROUPED).messages


@pytest.mark.parametrize(("pattern", "first", "second"), PARTS)
def test_parts_of_recordings_without_a_group_are_named(pattern, first, second, tmp_path):
    assert _untagged(tmp_path, pattern, ("one", "two", "three"), range(3)) == [
        f"18 tracks without a group look like parts of 6 recordings (such as {first!r} and {second!r}), and parts "
        "of one recording may be in different folds, which makes scores too high; give a table whose column group "
        "names the recording."
    ]


@pytest.mark.parametrize(
    ("pattern", "songs", "numbers"),
    [
        ("{n:02} - {song}.mp3", ("one", "two"), range(9)),
        ("{song}/track{n:02}.mp3", ("album one", "album two"), range(1, 13)),
        ("{song}/{n:02}.mp3", ("album one", "album two"), range(1, 13)),
        ("{song}-{n:02}.mp3", ("1", "2"), range(1, 13)),
        ("jazz.{n:05}.wav", ("",), range(100)),
        ("CD{song} - {n:02}.mp3", ("1", "2"), range(1, 13)),
        ("{n:06}.mp3", ("",), range(100)),
        ("Symphony No. {n}{song}.mp3", ("",), range(1, 10)),
        ("{song}-{n:02}.wav", ("2001-04", "2001-05"), range(1, 10)),
        ("{song}{n}.wav", ("song_",), range(100)),
        ("{song} {n}.mp3", ("one", "two", "three", "four", "five", "six"), range(1)),
    ],
)
def test_numbers_of_tracks_are_no_parts_of_recordings(pattern, songs, numbers, tmp_path):
    assert _untagged(tmp_path, pattern, songs, numbers) == []


def test_parts_with_a_group_are_no_remark(tmp_path):
    groups = [f"{song}" for song in range(6) for _ in range(3)]
    rows = [
        {"path": f"{label}/{group}song_{n}.wav", "label": label, "group": f"{label} {group}"}
        for label in ("jazz", "punk")
        for n, group in enumerate(groups)
    ]
    _touch(tmp_path, *(row["path"] for row in rows))
    messages = _plan(_write(tmp_path, rows, ".csv"), FeaturizeConfig()).messages
    assert not [text for text in messages if "look like parts" in text]


def test_classes_that_are_hardly_meant_are_named(tmp_path):
    names = ["Rock", "rock", "caf\u00e9", "cafe\u0301", "Hip Hop", "hip-hop ", "nan", "jazz"]
    _touch(tmp_path, *(f"{label}/{n}.mp3" for label in names for n in range(5)))
    assert _plan(str(tmp_path), UNGROUPED).messages == [
        "Some classes differ only in case, accents, spaces or hyphens, and are different classes ('Hip Hop': 5, "
        "'hip-hop ': 5; 'Rock': 5, 'rock': 5; 'cafe\\u0301': 5, 'caf\u00e9': 5); if they are one class, give them "
        "one name.",
        "The classes 'nan' (5 tracks) are named like a missing value; if it is one, remove these tracks or label "
        "them.",
    ]


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
