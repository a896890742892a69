"""Columns of tables as people have them: their names, splits and folds."""

import pyarrow as pa
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from support.logs import logged
from support.tables import CLASSES, FILES, catalog_of, label_of, with_files, write

from featurize.collection.catalog import build_catalog
from featurize.collection.role_values import SPLITS, read_folds, read_splits
from featurize.errors import FeaturizeError
from jobs.commands.app import app
from jobs.remote.remote_command import read_command


@pytest.fixture
def folder(tmp_path):
    """A folder of twelve files in two classes."""
    return with_files(tmp_path)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (("path", "label"), "path=path, label=label; not used: none"),
        (("File", " GENRE "), "path=File, label=GENRE; not used: none"),
        (("file name", "Class"), "path=file name, label=Class; not used: none"),
        (("mp3_path", "track.genre_top"), "path=mp3_path, label=track.genre_top; not used: none"),
        (("audio", "style"), "path=audio, label=style; not used: none"),
    ],
)
def test_columns_are_found_by_their_usual_names(folder, header, said):
    tracks, messages = catalog_of(write(folder / "t.csv", header, lambda name, _: (name, label_of(name))))
    assert {name: row["label"] for name, row in tracks.items()} == {name: label_of(name) for name in FILES}
    assert messages == [f"Table t.csv: {said}."]


def test_the_columns_artist_and_split_are_used_and_others_are_named(folder):
    table = write(
        folder / "t.csv",
        ("title", "file_name", "genre", "style", "artist", "album", "split"),
        lambda name, n: ("a title", name, label_of(name), "x", f"artist {n // 2}", "y", ("train", "test")[n % 2]),
    )
    tracks, messages = catalog_of(table)
    assert [row["group"] for row in tracks.values()] == [f"artist {n // 2}" for n in range(12)]
    assert [row["split"] for row in tracks.values()] == ["train", "test"] * 6
    assert messages == [
        "Table t.csv: path=file_name, label=genre (rather than style), group=artist (rather than album), "
        "split=split; not used: title, style, album."
    ]


@pytest.mark.parametrize(
    ("labels", "differs"),
    [
        (lambda n: ("EMI", "Warp", "Sony")[n % 3], True),
        (lambda n: n // 6, False),
        (lambda n: n // 3, False),
        (lambda n: "all", False),
    ],
    ids=["record labels", "numbers of the genres", "parts of the genres", "one label"],
)
def test_a_column_label_that_may_be_the_record_label_is_a_remark(folder, labels, differs):
    header = ("path", "genre", "label")
    table = write(folder / "t.csv", header, lambda name, n: (name, label_of(name), labels(n)))
    with logged("featurize") as messages:
        build_catalog(str(table), to_train=False)
    assert messages[0] == "Table t.csv: path=path, label=label (rather than genre); not used: genre."
    assert messages[1:] == differs * [
        "The columns label and genre differ, and label is used; a record label is no class. For the other one, "
        "add --columns label=genre."
    ]


def test_the_option_columns_decides(folder):
    table = write(
        folder / "t.csv",
        ("path", "label", "artist", "Mood", "where"),
        lambda name, n: ("no file", "no label", f"a{n}", label_of(name), name),
    )
    tracks, messages = catalog_of(table, columns="path=where, label=mood, group=")
    assert {row["label"] for row in tracks.values()} == set(CLASSES)
    assert all(row["group"] is None for row in tracks.values())
    assert "path=where, label=Mood; not used: path, label, artist." in messages[0]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("path=where", "the column 'where' for path is not in the table. It has path, label, a."),
        ("file=path", "'file' is no role. Expected one or more of path, label, group, split, fold"),
        ("path", "'path' is not ROLE=COLUMN"),
        ("path=path,path=a", "'path' is there twice"),
    ],
)
def test_an_unknown_role_or_column_is_refused_with_what_there_is(folder, columns, expected):
    table = write(folder / "t.csv", ("path", "label", "a"), lambda name, _: (name, label_of(name), ""))
    with pytest.raises(FeaturizeError) as refused:
        build_catalog(str(table), columns=columns)
    assert expected in str(refused.value)


def test_the_options_travel_with_a_submitted_command():
    options = ["--columns", "path=file,label=genre", "--layout", "fma"]
    words = ["run", "s3://b/t.csv", "--out", "s3://b/run", *options]
    arguments = read_command(typer.main.get_command(app).commands, words).arguments
    assert all(option in arguments for option in options)
    assert arguments[arguments.index("--columns") + 1] == "path=file,label=genre"


def test_a_column_that_is_there_twice_is_refused_only_if_it_has_a_role(folder):
    table = write(folder / "t.csv", ("path", "x", "x", "label"), lambda name, _: (name, 1, 2, label_of(name)))
    assert len(catalog_of(table)[0]) == 12
    table = write(folder / "t.csv", ("path", "label", "Label"), lambda name, _: (name, label_of(name), ""))
    with pytest.raises(FeaturizeError, match="it has the column label more than once"):
        build_catalog(str(table))
    rows = [f'{{"path": "{name}", "label": "a", "label": "b"}}\n' for name in FILES]
    (folder / "t.jsonl").write_text("".join(rows))
    with pytest.raises(FeaturizeError, match="line 1 has label more than once"):
        build_catalog(str(folder / "t.jsonl"))


@pytest.mark.parametrize("name", ["subset", "set", "partition", "set.split"])
def test_a_split_is_recognized_by_its_values(folder, name):
    def tracks_of(values):
        header = ("path", "label", name)
        return catalog_of(
            write(folder / "t.csv", header, lambda file, n: (file, label_of(file), values[n % len(values)]))
        )

    tracks, _ = tracks_of(("training", "Val", "TEST"))
    assert [row["split"] for row in tracks.values()] == ["train", "validation", "test"] * 4
    tracks, messages = tracks_of(("small", "medium", "large"))
    assert {row["split"] for row in tracks.values()} == {None}
    assert f"not used: {name}" in messages[0]


@given(
    st.sampled_from(SPLITS).flatmap(
        lambda split: st.tuples(
            st.just(split),
            st.sampled_from(
                {
                    "train": ["train", "training", "tr", "train set", "train_set", "trainset", "Training-Set"],
                    "validation": ["validation", "valid", "val", "va", "dev", "development", "validation split"],
                    "test": ["test", "testing", "te", "eval", "evaluation", "hold-out", "test_set", "testset"],
                }[split]
            ),
            st.sampled_from([str.lower, str.upper, str.title]),
        )
    )
)
def test_usual_spellings_of_splits_are_understood(case):
    split, spelling, form = case
    splits, wrong = read_splits(pa.array([form(spelling), "", "nan", "extra"]))
    assert splits.to_pylist() == [split, None, None, None]
    assert wrong.to_pylist() == [False, False, False, True]


def test_an_unknown_split_refuses_the_table_with_the_lines(folder):
    table = write(
        folder / "t.csv",
        ("path", "label", "split"),
        lambda name, n: (name, label_of(name), "extra" if n in (1, 7) else "train"),
    )
    with pytest.raises(FeaturizeError) as refused:
        build_catalog(str(table))
    problem = str(refused.value).splitlines()[1]
    assert problem.startswith("  - 2 rows have a split that is none of train (training, tr, ")
    assert problem.endswith("add --columns split= (found 'extra'): line 3, 9")
    assert len(catalog_of(table, columns="split=")[0]) == 12


def test_a_split_of_folds_is_refused_with_the_option_for_folds(folder):
    table = write(
        folder / "t.csv",
        ("path", "label", "split"),
        lambda name, index: (name, label_of(name), f"fold{index % 3}"),
    )
    with pytest.raises(FeaturizeError, match="if these are folds, --columns split=,fold=NAME"):
        build_catalog(str(table))
    assert {row["fold"] for row in catalog_of(table, columns="split=,fold=split")[0].values()} == {0, 1, 2}


def test_an_empty_split_is_said(folder):
    table = write(
        folder / "t.csv",
        ("path", "label", "split"),
        lambda name, n: (name, label_of(name), ("test", "", "train")[n % 3]),
    )
    tracks, messages = catalog_of(table)
    assert [row["split"] for row in tracks.values()] == ["test", None, "train"] * 4
    assert messages[1] == "4 of 12 rows have no split and count as train."


@given(st.integers(0, 20), st.sampled_from(["{}", "{}.0", "fold{}", "Fold {}", "fold_{}", "fold-0{}", "{}."]))
def test_folds_are_read_as_people_write_them(fold, form):
    folds, wrong = read_folds(pa.array([form.format(fold), "", "x", "-1", "1.5"]))
    assert folds.to_pylist() == [fold, None, None, None, None]
    assert wrong.to_pylist() == [False, False, True, True, True]


@pytest.mark.parametrize(("first", "count"), [(0, 2), (1, 3), (1, 10), (0, 12)])
def test_any_number_of_folds_from_0_or_1_is_taken(folder, first, count):
    table = write(
        folder / "t.csv",
        ("path", "label", "fold"),
        lambda name, n: (name, label_of(name), f"fold{first + n % count}"),
    )
    tracks, messages = catalog_of(table)
    assert [row["fold"] for row in tracks.values()] == [n % count for n in range(12)]
    said = f"The folds of the table are numbered from 1: 1 to {count} are 0 to {count - 1} here."
    assert (said in messages) == (first == 1)


def test_folds_that_are_partly_given_are_taken_and_gaps_and_one_fold_are_not(folder):
    def folds(values):
        header = ("path", "label", "fold")
        return write(folder / "t.csv", header, lambda name, n: (name, label_of(name), values[n % len(values)]))

    tracks, messages = catalog_of(folds((1, "", 2)))
    assert [row["fold"] for row in tracks.values()] == [0, None, 1] * 4
    assert "4 of 12 rows have no fold and are assigned to one." in messages
    for values, expected in (
        ((0, 1, 3), "no row is in fold 2, but in fold 3"),
        ((1, 1), "every row is in fold 1, expected 2 to 20 folds"),
        (
            (1, 21),
            r"6 rows have a fold that is not a number from 0 to 20 \(found '21'\): line 3, 5, 7, 9, 11, \.\.\.",
        ),
        ((0, 20), "there are 21 folds"),
        (("train", "test"), "these are splits, add --columns fold=,split=NAME"),
    ):
        with pytest.raises(FeaturizeError, match=expected):
            build_catalog(str(folds(values)))
