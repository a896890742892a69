"""The files that tables name, as people write them, are found."""

import unicodedata

import pytest
from support.logs import logged
from support.tables import CLASSES, FILES, catalog_of, label_of, with_files, write

from featurize.collection.catalog import build_catalog
from featurize.errors import FeaturizeError


@pytest.fixture
def folder(tmp_path):
    """A folder of twelve files in two classes."""
    return with_files(tmp_path)


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
