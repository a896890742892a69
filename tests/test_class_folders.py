"""Classes, splits and skipped files of a folder."""

import os

import pytest
import typer
from support.collection import plan_of, touch, two_classes, write_table
from support.command_line import earmark_here
from support.logs import logged

from featurize.collection.catalog import build_catalog
from featurize.config import FeaturizeConfig
from featurize.dataset_build.inference_features import list_files
from featurize.errors import FeaturizeError
from jobs.commands.app import app
from jobs.remote.remote_command import read_command

UNGROUPED = FeaturizeConfig(group_by="none")


def test_a_folder_is_searched_at_any_depth_for_audio_files(tmp_path):
    two_classes(tmp_path)
    touch(tmp_path, "jazz/live/cd 1/x.FLAC", "punk/cover.jpg", "loose.mp3", "notes.txt", "artwork/a.png")
    os.symlink(tmp_path, tmp_path / "jazz" / "loop")
    catalog = plan_of(str(tmp_path), UNGROUPED)
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
    two_classes(tmp_path)
    touch(tmp_path, *DOTTED, *JUNK)
    _check_dotted(str(tmp_path), str(tmp_path))


def test_names_in_a_bucket_are_treated_like_those_on_a_disk(client, uri, tmp_path):
    two_classes(tmp_path)
    touch(tmp_path, *DOTTED, *JUNK)
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            client.put_object(Bucket="music", Key=f"dots/{path.relative_to(tmp_path)}", Body=b"x")
    _check_dotted(uri("music/dots"), "s3://music/dots")


def test_a_folder_with_two_names_is_two_folders_and_one_inside_itself_is_not(tmp_path):
    two_classes(tmp_path / "music")
    touch(tmp_path, "elsewhere/a.mp3")
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
    two_classes(tmp_path)
    for level in range(1, 40):
        (tmp_path / "links" / str(level)).mkdir(parents=True)
        for name in "ab":
            os.symlink(f"../{level + 1}", tmp_path / "links" / str(level) / name)
    with pytest.raises(FeaturizeError, match="has more than 100 names through symbolic links"):
        build_catalog(str(tmp_path))


def _split(root, *splits, classes=("jazz", "punk"), per_class=6):
    touch(root, *(f"{split}/{label}/{n}.mp3" for split in splits for label in classes for n in range(per_class)))


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
    touch(tmp_path, extra)
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


@pytest.mark.parametrize(
    "folders",
    [("fold1", "fold2"), ("CD 1", "cd 2", "CD 3"), ("00", "01", "99"), "0123456789abcdef", "ABCDEFGHI"],
    ids=["folds", "media", "numbers", "hexadecimal digits", "letters"],
)
def test_folders_that_are_named_like_parts_are_classes_with_a_remark(folders, tmp_path):
    _split(tmp_path, *folders)
    with logged("featurize") as messages:
        assert len(build_catalog(str(tmp_path)).tracks["label"].unique()) == len(folders)
    named = ", ".join(repr(name) for name in sorted(folders)[:5])
    assert len(messages) == 1
    assert messages[0].startswith(f"The class folders ({named}")
    assert "named like parts of a collection" in messages[0]


@pytest.mark.parametrize(
    "folders", [("fold1", "jazz"), ("80s", "90s"), ("1980", "1990"), ("a", "b"), ("pop",) * 2]
)
def test_other_folders_are_no_parts(folders, tmp_path):
    _split(tmp_path, *folders, "punk")
    with logged("featurize") as messages:
        build_catalog(str(tmp_path))
    assert messages == []


@pytest.mark.parametrize(
    "folders",
    [
        ("te", "tr"),
        ("Test Data", "Training Data"),
        ("holdout", "train"),
        ("test", "train1", "train_2"),
        ("dev", "trn"),
    ],
    ids=["short", "data", "holdout", "parts", "abbreviated"],
)
def test_other_names_of_splits_are_classes_with_a_remark(folders, tmp_path):
    _split(tmp_path, *folders)
    with logged("featurize") as messages:
        assert set(build_catalog(str(tmp_path)).tracks["label"].to_pylist()) == set(folders)
    *first, last = map(repr, folders)
    assert messages == [
        f"The folders {', '.join(first)} and {last} look like a split, but are taken for classes, because of "
        "their names; to use the split, name them train, validation and test."
    ]


def test_a_split_below_the_classes_is_a_remark(tmp_path):
    _split(tmp_path, "jazz", "punk", classes=("train", "test"))
    with logged("featurize") as messages:
        assert set(build_catalog(str(tmp_path)).tracks["label"].to_pylist()) == {"jazz", "punk"}
    assert messages == [
        "The folders 'test' and 'train' below the class folders look like a split, which is not used; to use it, "
        "put the class folders into folders train, validation and test."
    ]
    touch(tmp_path, "punk/live/1.mp3")
    with logged("featurize") as messages:
        build_catalog(str(tmp_path))
    assert messages == []


def test_splits_with_other_classes_are_reported_or_refused(tmp_path):
    _split(tmp_path, "train", "test")
    touch(tmp_path, "test/Folk/1.mp3", "train/empty/notes.txt")
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
        build_catalog(str(write_table(tmp_path, [{"path": "a.mp3", "label": "jazz"}], ".csv")), layout="folders")


def test_the_option_layout_reaches_the_catalog_and_the_cluster(tmp_path):
    command = ["featurize", "s3://b/music", "--out", "s3://b/out", "--layout", "folders"]
    sent = read_command(typer.main.get_command(app).commands, command).arguments
    assert " ".join(sent).count("--layout folders") == 1
    _split(tmp_path / "music", "train", "test", per_class=1)
    done = earmark_here("featurize", tmp_path / "music", "--out", tmp_path / "out", "--layout", "folders")
    assert done.returncode == 1
    assert "expected at least 5 tracks in a class" in done.stderr
    assert "found test: 2, train: 2" in done.stderr
