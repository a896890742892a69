"""Tables as people have them: names of columns, splits and folds, encodings, delimiters, and names of files."""

import gzip
import json
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from support.logs import logged

from featurize.collection.catalog import build_catalog
from featurize.collection.role_values import SPLITS, read_folds, read_splits
from featurize.errors import FeaturizeError
from jobs.commands.app import app
from jobs.remote.remote_command import read_command

CLASSES = ("jazz", "punk")
FILES = [f"{label}/{n}.wav" for label in CLASSES for n in range(6)]


@pytest.fixture
def folder(tmp_path):
    """A folder of twelve files in two classes."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def catalog_of(path, **options):
    """The tracks of a table as rows by id, and the log."""
    with logged("featurize") as messages:
        tracks = build_catalog(str(path), **options).tracks
    return {row["track"]: row for row in tracks.to_pylist()}, messages


def write(path, header, row, delimiter=",", encoding="utf-8", end="\n"):
    """Write a table with one row for each file, made by a function of its path and its index."""
    lines = [header, *(row(name, index) for index, name in enumerate(FILES))]
    path.write_bytes("".join(delimiter.join(map(str, cells)) + end for cells in lines).encode(encoding))
    return path


def label_of(name):
    return name.split("/")[0]


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


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_the_delimiter_is_detected(folder, delimiter, suffix):
    table = write(
        folder / f"t{suffix}",
        ("path", "title", "label"),
        lambda name, n: (name, '"a, b; c | d\te"', label_of(name)),
        delimiter,
    )
    tracks, messages = catalog_of(table)
    assert {name: row["label"] for name, row in tracks.items()} == {name: label_of(name) for name in FILES}
    usual = "," if suffix == ".csv" else "\t"
    assert ("delimiter" in messages[0]) == (delimiter != usual)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "encoding UTF-16"),
        ("utf-16-le", "encoding UTF-16 (guessed)"),
        ("utf-16-be", "encoding UTF-16 (guessed)"),
        ("cp1252", "encoding Windows-1252 (guessed)"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".csv.gz"])
def test_the_encoding_is_detected(folder, encoding, said, suffix):
    rows = [{"path": name, "label": label_of(name) + " caf\xe9"} for name in FILES]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    if "csv" in suffix:
        text = "path,label\r\n" + "".join(f"{row['path']},{row['label']}\r\n" for row in rows)
    content = text.encode(encoding)
    (folder / f"t{suffix}").write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    tracks, messages = catalog_of(folder / f"t{suffix}")
    assert {row["label"] for row in tracks.values()} == {"jazz caf\xe9", "punk caf\xe9"}
    assert messages[0].endswith(f"({said})." if said else "none.")


def test_a_compressed_table_has_limits(folder, monkeypatch):
    from featurize.collection import table_text

    (folder / "t.csv.gz").write_bytes(gzip.compress(b"path,label\n" + b"a\n" * (1 << 20)))
    monkeypatch.setattr(table_text, "MOST_TEXT_BYTES", 1 << 20)
    with pytest.raises(FeaturizeError, match="it has more than 1,048,576 bytes of text"):
        build_catalog(str(folder / "t.csv.gz"))
    (folder / "t.csv.gz").write_bytes(gzip.compress(b"path,label\n" * 99)[:-9])
    with pytest.raises(FeaturizeError, match="cannot be read as a csv table: Compressed file ended"):
        build_catalog(str(folder / "t.csv.gz"))


def test_text_stays_text(folder):
    labels = ("1980-01-01", "007", "1980.10", "1e5", "true")
    rows = [
        {"path": name, "label": labels[n % 5], "year": n if n % 2 else "unknown"} for n, name in enumerate(FILES)
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(folder / "t.csv", ("path", "label", "year"), lambda name, n: (name, labels[n % 5], n))
    pq.write_table(pa.table({k: [row[k] for row in rows] for k in ("path", "label")}), folder / "t.parquet")
    for name in ("t.jsonl", "t.csv", "t.parquet"):
        with pytest.raises(FeaturizeError, match="at least 5 tracks in a class") as refused:
            build_catalog(str(folder / name))
        assert "found 1980-01-01: 3, 007: 3, 1980.10: 2, 1e5: 2, true: 2" in str(refused.value)
    (folder / "t.jsonl").write_text(
        "".join(f'{{"path": "{name}", "label": {(1980.10, 7)[n % 2]}0}}\n' for n, name in enumerate(FILES))
    )
    tracks, _ = catalog_of(folder / "t.jsonl")
    assert {row["label"] for row in tracks.values()} == {"1980.10", "70"}


def test_a_json_column_exists_even_if_the_first_rows_do_not_have_it(folder, monkeypatch):
    from featurize.collection import table_file

    monkeypatch.setattr(table_file, "_TEXT_ROWS", 4)
    rows = [
        {"path": name, "label": label_of(name)} | ({"artist": "x"} if n > 8 else {})
        for n, name in enumerate(FILES)
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tracks, messages = catalog_of(folder / "t.jsonl")
    assert [row["group"] for row in tracks.values()] == [None] * 9 + ["x"] * 3
    assert "9 of 12 rows have no group and are each their own group." in messages


def test_line_breaks_in_quotes_and_long_rows_of_other_columns_are_read(folder):
    table = write(
        folder / "t.csv",
        ("path", "lyrics", "label"),
        lambda name, n: (name, f'"a\nb, ""c""\n{"x" * 3_000_000 if n == 2 else ""}"', label_of(name)),
    )
    tracks, _ = catalog_of(table)
    assert {row["label"] for row in tracks.values()} == set(CLASSES)
    table = write(
        folder / "t.csv",
        ("path", "lyrics", "label"),
        lambda name, n: (name, '"a\nb"', label_of(name) if n != 5 else ""),
    )
    with pytest.raises(FeaturizeError, match="1 rows have an empty label: line 12"):
        build_catalog(str(table))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.wav", "1 rows have another number of columns than the header, which has 2: line 14 has 1"),
        ("a.wav,jazz,x", "which has 2: line 14 has 3"),
        ("a\0.wav,jazz", "line 14 has the character NUL"),
        ("\0" * 64, "line 14 has the character NUL"),
        ('"a.wav,jazz', "line 14: unexpected end of data: a quotation mark has no end"),
        ('"a"b.wav,jazz', "line 14: ',' expected after '\"'"),
    ],
)
def test_a_damaged_row_is_refused_with_its_line(folder, line, expected):
    table = write(folder / "t.csv", ("path", "label"), lambda name, _: (name, label_of(name)))
    with table.open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(FeaturizeError) as refused:
        build_catalog(str(table))
    assert expected in str(refused.value)


def test_the_delimiter_that_excel_declares_is_used(folder):
    table = write(folder / "t.csv", ("path", "label"), lambda name, _: (name, label_of(name)), ";")
    content = table.read_text()
    for declared in ("sep=;", '"sep=;"'):
        table.write_text(f"{declared}\n{content}")
        assert len(catalog_of(table)[0]) == 12


def test_quotation_marks_may_follow_blanks(folder):
    table = folder / "t.csv"
    table.write_text('"path", "label", "title"\n' + "".join(f'"{n}", "{label_of(n)}", "a, b"\n' for n in FILES))
    tracks, _ = catalog_of(table)
    assert {row["label"] for row in tracks.values()} == set(CLASSES)


@pytest.mark.parametrize("place", [0, 3, 40])
def test_quotation_marks_after_blanks_may_be_a_part_of_a_value(place, folder):
    rows = [f"{name}, {label_of(name)}, plain" for name in FILES] + [
        f"jazz/{n}.wav, jazz, plain" for n in range(9, 50)
    ]
    rows[place] = rows[place].replace("plain", '"Weird Al" Yankovic')
    table = folder / "t.csv"
    table.write_text("\n".join(["path, label, artist", *rows]))
    tracks, _ = catalog_of(table)
    assert [row["group"] for row in tracks.values() if row["group"] != "plain"] == ['"Weird Al" Yankovic']


def test_a_guessed_encoding_is_said_with_what_to_do(folder):
    table = write(
        folder / "t.csv", ("path", "label", "artist"), lambda name, _: (name, label_of(name), "Bj\xf6rk")
    )
    assert len(catalog_of(table)[1]) == 1
    table.write_bytes(table.read_text().encode("cp1252"))
    assert "The encoding of the table is a guess: if names are garbled, save it as UTF-8." in catalog_of(table)[1]


def test_classes_that_are_too_small_because_of_their_spelling_are_said(folder):
    table = write(
        folder / "t.csv",
        ("path", "label"),
        lambda name, index: (name, (str.lower, str.upper)[index % 2](label_of(name))),
    )
    with logged("featurize") as messages, pytest.raises(FeaturizeError, match="expected at least 5 tracks"):
        build_catalog(str(table))
    assert any("differ only in case" in message for message in messages)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("t.jsonl", "", "it has no columns"),
        ("t.csv", "# by hand\npath,label\n", "Expected the names of the columns in the first line"),
        ("t.csv", "jazz/0.wav,jazz\n", "its first line is a track. Add the names of the columns"),
        ("t.csv", 'path,label,"a"b\njazz/0.wav,jazz,c\n', "line 1: ',' expected after"),
        ("t.xlsx", "x", "is neither a folder nor a table"),
        ("t.xlsx", "PK\3\4", r"is neither a folder .* It is an Excel workbook .*\. Save its sheet as CSV\.$"),
        ("t.csv", "PK\3\4\0\0", "it is an Excel workbook or a ZIP archive. Save its sheet as CSV$"),
        ("t.csv", "PAR1\0\0", "it is a Parquet file. Name it with the suffix .parquet"),
        ("t.tsv", "\x1f\x8b", "it is compressed with gzip. Decompress it, or name it"),
        ("t.feather", "ARROW1", "It is an Arrow or Feather file. Write it as Parquet"),
        ("t.parquet", "path,label\n", "it is no Parquet file"),
        ("t.json", "[{}]", "It is a JSON list. Write one object on each line"),
        ("t.jsonl", "[\n{}]", "it is a JSON list. Write one object on each line"),
        ("t.jsonl", "{},\n", "line 1, character 3: Extra data. Expected one JSON object on each line"),
        ("t.jsonl", "7\n", "line 1 is not an object in braces. Expected one JSON object on each line"),
        ("t.csv.zip", "x", "is neither a folder nor a table"),
        ("t.csv.gz", "path,label\n", "Not a gzipped file"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_a_sentence(folder, name, content, expected):
    (folder / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(FeaturizeError, match=expected):
        build_catalog(str(folder / name))


def test_columns_of_lists_are_used_only_if_there_is_no_other_one(folder):
    labels = [label_of(name) for name in FILES]
    table = pa.table({"path": FILES, "genre": [[label] for label in labels], "style": labels})
    pq.write_table(table, folder / "t.parquet")
    tracks, messages = catalog_of(folder / "t.parquet")
    assert {row["label"] for row in tracks.values()} == set(CLASSES)
    assert messages == ["Table t.parquet: path=path, label=style (rather than genre); not used: genre."]
    pq.write_table(table.drop_columns("style"), folder / "t.parquet")
    with pytest.raises(FeaturizeError, match=r"the column genre .* list.* name another column, such as --columns"):
        build_catalog(str(folder / "t.parquet"))


def test_audio_in_a_table_is_refused_with_what_to_do(folder):
    audio = [{"bytes": b"x", "path": name} for name in FILES]
    pq.write_table(pa.table({"audio": audio, "label": [label_of(name) for name in FILES]}), folder / "t.parquet")
    with pytest.raises(FeaturizeError, match=r"the column audio holds the audio itself.* Save it as files"):
        build_catalog(str(folder / "t.parquet"))


def test_dates_that_pandas_stores_as_times_are_dates(folder):
    years = np.array([1980 + 10 * (label_of(name) == "punk") for name in FILES])
    times = (years - 1970).astype("datetime64[Y]").astype("datetime64[ns]")
    pq.write_table(pa.table({"path": FILES, "label": times}), folder / "t.parquet")
    assert {row["label"] for row in catalog_of(folder / "t.parquet")[0].values()} == {"1980-01-01", "1990-01-01"}


def test_a_byte_order_mark_before_a_name_is_no_part_of_it(folder):
    table = write(folder / "t.csv", ("path", "\ufefflabel\u200b"), lambda name, _: (name, label_of(name)))
    table.write_text(f"\ufeff\ufeff{table.read_text()}")
    assert len(catalog_of(table)[0]) == 12


def test_blank_lines_and_delimiters_at_the_end_are_no_damage(folder):
    table = write(folder / "t.csv", ("path", "label"), lambda name, _: (name, f"{label_of(name)},,\n \n"))
    assert len(catalog_of(table)[0]) == 12


NFD = [unicodedata.normalize("NFD", name.replace("/", "/caf\xe9 ")) for name in FILES]


@pytest.mark.parametrize(
    ("spelled", "difference"),
    [
        (lambda name: name.replace("/", "\\"), "with slashes instead of backslashes"),
        (lambda name: f".\\{name}".replace("/", "\\"), "with slashes instead of backslashes"),
        (
            lambda name: f"C:\\Users\\x\\genres\\{name}".replace("/", "\\"),
            "without C:/Users/x/genres and with slashes",
        ),
        (lambda name: f"/home/x/data/genres/{name}", "without /home/x/data/genres"),
        (lambda name: f"file:///home/x/{name}", "without home/x"),
        (lambda name: f"data/genres/{name}", "without data/genres"),
        (lambda name: name.removesuffix(".wav"), "with another suffix"),
        (lambda name: name.replace(".wav", ".mp3"), "with another suffix"),
        (lambda name: name.upper(), "in other letter case"),
        (lambda name: name.replace("a", "%61").replace("u", "%75"), "without percent-encoding"),
        (lambda name: f"file://localhost/home/x/{name}", "without home/x"),
    ],
)
def test_files_are_found_under_other_names(folder, spelled, difference):
    table = write(folder / "t.csv", ("path", "label"), lambda name, _: (spelled(name), label_of(name)))
    tracks, messages = catalog_of(table)
    assert sorted(tracks) == FILES
    assert all(row["size"] == 1 for row in tracks.values())
    assert messages[-1].startswith(f"12 files were found under other names than in the table: {difference}")


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_are_found_in_either_form(tmp_path, on_disk, in_table):
    names = [name.replace("/", "/caf\xe9 ") for name in FILES]
    for name in names:
        path = tmp_path / unicodedata.normalize(on_disk, name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    lines = [f"{unicodedata.normalize(in_table, name)},{label_of(name)}\n" for name in names]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(lines))
    tracks, messages = catalog_of(tmp_path / "t.csv")
    assert sorted(tracks) == sorted(unicodedata.normalize(on_disk, name) for name in names)
    assert "with accents in another Unicode form (12)" in messages[-1]


def test_a_name_that_fits_several_files_or_the_file_of_another_row_stays_missing(folder):
    (folder / "jazz" / "0.mp3").write_bytes(b"x")
    table = write(
        folder / "t.csv",
        ("path", "label"),
        lambda name, n: ({0: "jazz/0", 1: "/a/jazz/2.wav", 6: "/b/x/punk/5.wav"}.get(n, name), label_of(name)),
    )
    tracks, messages = catalog_of(table)
    assert [name for name, row in tracks.items() if row["size"] == -1] == [
        "/a/jazz/2.wav",
        "/b/x/punk/5.wav",
        "jazz/0",
    ]
    assert messages[-1] == (
        f"3 of 12 files of the table do not exist; the first, 'jazz/0', was looked for in {folder}. They become "
        "rejects."
    )


def test_a_table_none_of_whose_files_exists_is_an_error_that_says_where_they_were_looked_for(tmp_path):
    (tmp_path / "music").mkdir()
    table = write(tmp_path / "music" / "t.csv", ("path", "label"), lambda name, _: (name, label_of(name)))
    with pytest.raises(FeaturizeError) as refused:
        build_catalog(str(table))
    assert str(refused.value).startswith(
        "12 of 12 files of the table do not exist; the first, 'jazz/0.wav', was looked for in "
        f"{tmp_path / 'music'}. "
    )


@pytest.mark.parametrize("below", ["audio", "."])
def test_the_audio_may_be_in_a_folder_below_the_table_or_above_it(tmp_path, below):
    for name in FILES:
        path = tmp_path / "music" / below / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "music" / "tables").mkdir()
    place = tmp_path / "music" / ("tables" if below == "." else ".")
    table = write(place / "t.csv", ("path", "label"), lambda name, _: (name, label_of(name)))
    tracks, messages = catalog_of(table)
    assert list(tracks) == FILES
    assert messages[-1] == f"The audio is in {(tmp_path / 'music' / below).resolve()}."


def test_names_without_folders_are_found_in_any_subfolder(tmp_path, monkeypatch):
    names = [f"{label}.{n:05}" for label in CLASSES for n in range(6)]
    for name in names:
        path = tmp_path / "genres_original" / name.split(".")[0] / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    table = tmp_path / "features_30_sec.csv"
    looked_in = []  # each folder by itself, which takes long for many rows and folders
    monkeypatch.setattr("featurize.collection.audio_folder._other_folders", lambda *_: looked_in.append(_) or [])
    for suffix in ("", ".wav", ".au"):
        rows = [f"{name}{suffix},{name.split('.')[0]}\n" for name in names]
        table.write_text("filename,label\n" + "".join(rows))
        tracks, messages = catalog_of(table)
        assert list(tracks) == [f"genres_original/{name.split('.')[0]}/{name}.wav" for name in names]
        assert messages[-1] == f"12 files were found by their names alone, in subfolders of {tmp_path}."
    assert not looked_in
    monkeypatch.undo()
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "jazz.00000.wav").write_bytes(b"x")
    with logged("featurize") as messages:
        sizes = build_catalog(str(table)).tracks["size"].to_pylist()
    assert sizes.count(-1) == 1
    assert any("1 of 12 files of the table do not exist; the first, 'jazz.00000.au'" in line for line in messages)


def test_names_without_suffixes_beside_the_table_are_those_of_its_folder(folder):
    """Also if a subfolder has files of the same names."""
    names = [f"{label}.{n}" for label in CLASSES for n in range(6)]
    for name in names:
        (folder / f"{name}.wav").write_bytes(b"x")
    (folder / "backup").mkdir()
    (folder / "backup" / "jazz.0.wav").write_bytes(b"x")
    table = folder / "t.csv"
    table.write_text("path,label\n" + "".join(f"{name},{name.split('.')[0]}\n" for name in names))
    tracks, messages = catalog_of(table)
    assert list(tracks) == [f"{name}.wav" for name in names]
    assert messages[-1] == "12 files were found under other names than in the table: with another suffix (12)."
    for n in range(5):
        (folder / f"jazz.{n}.wav").rename(folder / "backup" / f"jazz.{n}.wav")
    assert len(catalog_of(table)[0]) == 12
    assert catalog_of(table)[1][-1] == f"12 files were found by their names alone, in {folder} and its subfolders."


def test_numbers_are_found_whose_leading_zeros_a_table_has_lost(tmp_path):
    for n in range(12):
        path = tmp_path / "audio" / f"{n:06}.mp3"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    table = tmp_path / "t.csv"
    table.write_text("track,label\n" + "".join(f"{n},{CLASSES[n % 2]}\n" for n in range(12)))
    tracks, messages = catalog_of(table)
    assert list(tracks) == [f"{n:06}.mp3" for n in range(12)]
    assert messages[-1] == (
        "12 files were found under other names than in the table: with other leading zeros (12)."
    )


def test_a_file_has_one_name_however_a_table_writes_it(folder):
    spellings = (
        lambda name: f"./{name}",
        lambda name: f"../{folder.name}/{name}",
        lambda name: f"{folder}/{name}",
        lambda name: f"file://{folder}/{name}",
        lambda name: f"file://localhost{folder}/{label_of(name)}/%2e/{name.split('/')[1]}",
    )
    for spelled in spellings:
        table = write(
            folder / "t.csv", ("path", "label"), lambda name, _, as_=spelled: (as_(name), label_of(name))
        )
        assert list(catalog_of(table)[0]) == FILES
        table.write_text(f"{table.read_text()}jazz/0.wav,jazz\n")
        with pytest.raises(FeaturizeError, match=r"1 tracks have the same name as another one: 'jazz/0\.wav'"):
            build_catalog(str(table))


def test_web_addresses_are_refused_with_what_to_do(folder):
    table = write(folder / "t.csv", ("path", "label"), lambda name, _: (f"https://host/{name}", label_of(name)))
    with pytest.raises(FeaturizeError, match="12 rows have a web address; download the files"):
        build_catalog(str(table))
