"""Formats of tables as people have them: delimiters, encodings, quotation marks, and files that are no tables."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.logs import logged
from support.tables import CLASSES, FILES, catalog_of, label_of, with_files, write

from featurize.collection.catalog import build_catalog
from featurize.errors import FeaturizeError


@pytest.fixture
def folder(tmp_path):
    """A folder of twelve files in two classes."""
    return with_files(tmp_path)


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
