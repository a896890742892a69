"""Groups from tags and tables, and remarks on groups and classes."""

import shutil

import pytest
from support.audio import encode_with_tags
from support.collection import plan_of, touch, write_table

from featurize.config import FeaturizeConfig
from featurize.dataset.schema import FOLDS

UNGROUPED = FeaturizeConfig(group_by="none")


def test_groups_come_from_tags_in_every_format(music):
    by_artist = plan_of(str(music), FeaturizeConfig())
    assert by_artist.messages == []
    assert {track.group for track in by_artist.tracks} == {
        f"{style} {artist}" for style in ("bells", "reeds", "pulses") for artist in range(5)
    }
    fold_of = {}
    for track in by_artist.tracks:
        assert fold_of.setdefault(track.group, track.fold) == track.fold
    counts = {(t.label, t.fold) for t in by_artist.tracks}
    assert len(counts) == 3 * FOLDS  # every class in every fold
    by_album = plan_of(str(music), FeaturizeConfig(group_by="album"))
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
    touch(tmp_path, *(row["path"] for row in rows))
    return plan_of(write_table(tmp_path, rows, suffix), FeaturizeConfig())


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
    plan = plan_of(tmp_path / "music", FeaturizeConfig())
    added = [track for track in plan.tracks if "va " in track.id]
    assert all(track.group == track.id for track in added)
    assert plan.messages == [
        "3 tracks have a name for no artist in particular; each of them is its own group ('various artists': 2, "
        "'unknown artist': 1)."
    ]
    plan = plan_of(tmp_path / "music", FeaturizeConfig(group_by="album"))
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
    assert plan_of(tmp_path / "music", FeaturizeConfig()).messages == [
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
        touch(root, *(f"{label}/{pattern.format(song=song, n=n)}" for song in songs for n in numbers))
    return plan_of(root, UNGROUPED).messages


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
    touch(tmp_path, *(row["path"] for row in rows))
    messages = plan_of(write_table(tmp_path, rows, ".csv"), FeaturizeConfig()).messages
    assert not [text for text in messages if "look like parts" in text]


def test_classes_that_are_hardly_meant_are_named(tmp_path):
    names = ["Rock", "rock", "caf\u00e9", "cafe\u0301", "Hip Hop", "hip-hop ", "nan", "jazz"]
    touch(tmp_path, *(f"{label}/{n}.mp3" for label in names for n in range(5)))
    assert plan_of(str(tmp_path), UNGROUPED).messages == [
        "Some classes differ only in case, accents, spaces or hyphens, and are different classes ('Hip Hop': 5, "
        "'hip-hop ': 5; 'Rock': 5, 'rock': 5; 'cafe\\u0301': 5, 'caf\u00e9': 5); if they are one class, give them "
        "one name.",
        "The classes 'nan' (5 tracks) are named like a missing value; if it is one, remove these tracks or label "
        "them.",
    ]


SEVERAL = "Leave one label in each cell, or name another column: --columns label=NAME."


@pytest.mark.parametrize(
    ("labels", "several"),
    [
        (("rock", "pop", "rock|pop"), ["rock|pop"]),
        (("Rock", "pop", "pop; rock", "jazz"), ["pop; rock"]),
        (("rock, indie", "pop, indie", "rock, pop"), ["pop, indie", "rock, indie", "rock, pop"]),
        (("['rock']", "['rock', 'pop']", "[]"), ["['rock', 'pop']", "['rock']", "[]"]),
        (("[21, 12]", "[21]"), ["[21, 12]", "[21]"]),
        (("Folk, World, & Country", "Funk / Soul", "rock"), []),
        (("[unknown]", "R&B;", "rock"), []),
    ],
)
def test_classes_of_several_labels_are_named(labels, several, tmp_path):
    rows = [{"path": f"{n}.wav", "label": labels[n % len(labels)]} for n in range(10 * len(labels))]
    touch(tmp_path, *(row["path"] for row in rows))
    messages = plan_of(write_table(tmp_path, rows, ".csv"), UNGROUPED).messages
    named = ", ".join(repr(name) for name in several)
    expected = f"{len(several)} classes look like several labels in one ({named}); each combination is a separate "
    assert messages == ([f"{expected}class. {SEVERAL}"] if several else [])


def test_an_invisible_character_in_a_class_is_named(tmp_path):
    rows = [{"path": f"{n}.wav", "label": ("rock", "rock\u200b", "pop")[n % 3]} for n in range(30)]
    touch(tmp_path, *(row["path"] for row in rows))
    messages = plan_of(write_table(tmp_path, rows, ".csv"), UNGROUPED).messages
    assert len(messages) == 1
    assert "('rock': 10, 'rock\\u200b': 10)" in messages[0]
