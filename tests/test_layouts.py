"""Published datasets are read from their own files; each test imitates one of them with empty audio files."""

import json
import re
import sys
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from support.logs import logged

from featurize.collection.catalog import build_catalog
from featurize.collection.column_roles import USUAL_NAMES
from featurize.collection.layouts.magnatagatune import GENRES
from featurize.collection.layouts.readers import LAYOUT_NAMES
from featurize.errors import FeaturizeError

PAGE = (Path(__file__).parent.parent / "docs" / "collections.md").read_text()


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def catalog_of(path, **options):
    """The catalog, its tracks as rows by id, and the log."""
    with logged("featurize") as messages:
        catalog = build_catalog(str(path), **options)
    return catalog, {row["track"]: row for row in catalog.tracks.to_pylist()}, messages


# FMA


def fma(root, subsets=("fma_small",), absent=()):
    """FMA's metadata and audio: ids 2 to 13 in the subset small, 14 to 15 in medium, 16 without a top genre."""
    ids = range(2, 17)
    upper = ["", "album", "artist", "set", "set", "track", "track"]
    lower = ["", "id", "id", "split", "subset", "genre_top", "title"]
    lines = [",".join(upper), ",".join(lower), "track_id" + "," * 6]
    for n in ids:
        genre = "" if n == 16 else ("Rock", "Hip-Hop")[n % 2]
        split = ("training", "validation", "test")[n % 3]
        lines.append(
            f'{n},1,{n // 2},{split},{"small" if n < 14 else "medium"},{genre},"a ""title"",\nof two lines"'
        )
    (root / "fma_metadata").mkdir(parents=True)
    (root / "fma_metadata" / "tracks.csv").write_text("\n".join(lines) + "\n")
    for subset in subsets:
        names = [n for n in ids if (n < 14 or subset != "fma_small") and n not in absent]
        touch(root / subset, *(f"000/{n:06}.mp3" for n in names))


@pytest.mark.parametrize("place", [".", "fma_metadata/tracks.csv", "fma_metadata"])
@pytest.mark.parametrize("layout", [None, "fma"])
def test_fma_is_read_from_its_metadata(tmp_path, place, layout):
    fma(tmp_path)
    catalog, tracks, messages = catalog_of(tmp_path / place, layout=layout)
    assert catalog.root.path == str(tmp_path / "fma_small")
    assert list(tracks) == [f"000/{n:06}.mp3" for n in range(2, 14)]
    assert [row["label"] for row in tracks.values()] == ["Rock", "Hip-Hop"] * 6
    assert [row["group"] for row in tracks.values()] == [str(n // 2) for n in range(2, 14)]
    assert [row["split"] for row in tracks.values()] == ["test", "train", "validation"] * 4
    assert messages == [
        "FMA's table tracks.csv: path=track_id, label=track.genre_top, group=artist.id, split=set.split; not "
        "used: album.id, set.subset, track.title.",
        "1 rows without a top genre are left out.",
        f"The audio is in {tmp_path / 'fma_small'}.",
        f"2 of 14 files of the table do not exist; the first, '000/000014.mp3', was looked for in "
        f"{tmp_path / 'fma_small'}. These rows are left out.",
    ]


def test_a_folder_of_fma_audio_is_that_subset_and_its_missing_files_are_rejects(tmp_path):
    fma(tmp_path, ("fma_small", "fma_medium"), absent=(5,))
    with pytest.raises(
        FeaturizeError, match=r"files of the table are in 2 folders: .*fma_medium .13., .*fma_small .11"
    ):
        build_catalog(str(tmp_path))
    _, tracks, messages = catalog_of(tmp_path / "fma_small")
    assert len(tracks) == 12
    assert tracks["000/000005.mp3"]["size"] == -1
    assert "Of the table, the rows of the subset small are used, because the folder is fma_small." in messages
    assert len(catalog_of(tmp_path / "fma_medium")[1]) == 14


def test_fma_audio_without_its_metadata_is_no_folder_of_classes(tmp_path):
    touch(tmp_path, *(f"{n // 6:03}/{n:06}.mp3" for n in range(12)))
    with pytest.raises(
        FeaturizeError, match=r"are numbers, as in the audio of FMA, and no genres.*--layout folders"
    ):
        build_catalog(str(tmp_path))
    assert len(catalog_of(tmp_path, layout="folders")[1]) == 12


def test_fma_converted_to_another_format_and_with_other_columns(tmp_path):
    fma(tmp_path, ())
    touch(tmp_path, *(f"audio/000/{n:06}.wav" for n in range(2, 14)))
    _, tracks, messages = catalog_of(tmp_path, columns="group=album.id,split=")
    assert list(tracks) == [f"000/{n:06}.wav" for n in range(2, 14)]
    assert {(row["group"], row["split"]) for row in tracks.values()} == {("1", None)}
    assert "12 files were found under other names than in the table: with another suffix (12)." in messages


@pytest.mark.parametrize("joined", ["{0}_{1}", "{0}.{1}", "('{0}', '{1}')"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_fma_with_the_levels_of_its_header_joined(tmp_path, joined, suffix):
    root, ids = tmp_path / "fma", range(2, 14)
    fma(root)
    names = [joined.format(*name) for name in (("track", "genre_top"), ("artist", "id"), ("set", "split"))]
    values = [(("Rock", "Hip-Hop")[n % 2], str(n // 2), ("training", "validation", "test")[n % 3]) for n in ids]
    columns = {name: [row[i] for row in values] for i, name in enumerate(names)}
    path = root / f"tracks.{suffix}"
    if suffix == "csv":
        pyarrow.csv.write_csv(pa.table({**columns, "track_id": ids}), path)
    else:
        pq.write_table(pa.table({**columns, "track_id": ids}), path)
    assert catalog_of(path)[1] == catalog_of(root)[1]


def test_a_table_of_fma_with_a_column_of_paths_is_an_ordinary_one(tmp_path):
    touch(tmp_path, *(f"{n}.mp3" for n in range(12)))
    rows = [f"{n},{n}.mp3,{('Rock', 'Pop')[n % 2]}\n" for n in range(12)]
    (tmp_path / "t.csv").write_text("track_id,file,track_genre_top\n" + "".join(rows))
    assert catalog_of(tmp_path / "t.csv")[2] == [
        "Table t.csv: path=file, label=track_genre_top; not used: track_id."
    ]


# GTZAN


def gtzan(root):
    """Ten files of two genres, eight of which are in the lists of the artist-filtered split."""
    genres = ("blues", "rock")
    touch(root, *(f"genres/{genre}/{genre}.{n:05}.wav" for genre in genres for n in range(8)))
    for name, numbers in (("train", range(4)), ("valid", (4, 5)), ("test", (6,))):
        lines = [f"{genre}/{genre}.{n:05}.wav\n" for genre in genres for n in numbers]
        (root / f"{name}_filtered.txt").write_text("".join(lines))


@pytest.mark.parametrize("layout", [None, "gtzan"])
def test_gtzan_with_the_artist_filtered_split(tmp_path, layout):
    gtzan(tmp_path)
    catalog, tracks, messages = catalog_of(tmp_path, layout=layout)
    assert catalog.root.path == str(tmp_path / "genres")
    assert list(tracks) == [f"{genre}/{genre}.{n:05}.wav" for genre in ("blues", "rock") for n in range(7)]
    assert [row["label"] for row in tracks.values()] == ["blues"] * 7 + ["rock"] * 7
    assert [row["split"] for row in tracks.values()] == (["train"] * 4 + ["validation"] * 2 + ["test"]) * 2
    assert messages == [
        "GTZAN's artist-filtered split: train 8, validation 4, test 2 files; others in the folders are not used.",
        f"The audio is in {tmp_path / 'genres'}.",
    ]


def test_gtzan_with_a_list_missing_or_without_lists(tmp_path):
    gtzan(tmp_path)
    (tmp_path / "valid_filtered.txt").unlink()
    with pytest.raises(
        FeaturizeError, match=r"holds train_filtered.txt and test_filtered.txt, but .* --layout folders"
    ):
        build_catalog(str(tmp_path))
    _, tracks, _ = catalog_of(tmp_path / "genres")
    assert len(tracks) == 16
    assert {row["split"] for row in tracks.values()} == {None}


def test_homburg_is_a_folder_of_genres(tmp_path):
    names = [f"{genre}/{n} artist - title.mp3" for genre in ("alternative", "funksoulrnb") for n in range(5)]
    touch(tmp_path, *names)
    assert list(catalog_of(tmp_path)[1]) == names


# MTG-Jamendo


def jamendo(root, name, numbers):
    rows = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
    for n in numbers:
        genres = ("genre---rock", "genre---pop\tgenre---rock")[n % 2]
        tags = "mood/theme---calm" if n == 99 else f"instrument---piano\t{genres}\tmood/theme---happy"
        rows.append(f"track_{n:07}\tartist_{n // 3:06}\talbum_000001\t{n % 100:02}/{n}.mp3\t124.6\t{tags}")
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("place", [".", "data", "data/autotagging_genre.tsv"])
def test_jamendo_has_its_tags_in_many_columns(tmp_path, place):
    jamendo(tmp_path / "data", "autotagging_genre.tsv", [*range(200, 212), 99, 300])
    touch(tmp_path, *(f"audio/{n % 100:02}/{n}.low.mp3" for n in range(200, 212)))
    catalog, tracks, messages = catalog_of(tmp_path / place)
    assert catalog.root.path == str(tmp_path / "audio")
    assert list(tracks) == [f"{n % 100:02}/{n}.low.mp3" for n in range(200, 212)]
    assert [row["label"] for row in tracks.values()] == ["rock", "pop"] * 6
    assert [row["group"] for row in tracks.values()] == [f"artist_{n // 3:06}" for n in range(200, 212)]
    assert "The label is the first genre tag; 6 of 14 tracks have more than one." in messages
    assert "1 rows without a genre tag are left out." in messages
    assert any("1 of 13 files of the table do not exist; the first, '00/300.mp3'" in text for text in messages)


def test_jamendo_split_into_three_tables(tmp_path):
    for split, numbers in (("train", range(6)), ("validation", range(6, 9)), ("test", range(9, 12))):
        jamendo(tmp_path, f"autotagging_genre-{split}.tsv", numbers)
    touch(tmp_path, *(f"{n:02}/{n}.mp3" for n in range(12)))
    _, tracks, messages = catalog_of(tmp_path)
    assert [row["split"] for row in tracks.values()] == ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    assert "The split is that of the three tables." in messages


# MagnaTagATune


def magnatagatune(root, with_clips):
    tags = ("rock", "no voice", "metal", "jazz", "classical", "hip hop", "techno", "classic")
    rows = ['"clip_id"\t' + "\t".join(f'"{tag}"' for tag in tags) + '\t"mp3_path"']
    paths = []
    for n in range(14):
        has = {"no voice"} | ({"rock", "metal"} if n % 2 else {"classic"}) if n < 12 else set()
        paths.append(f"{n % 3}/artist_{n // 4}-album-{n:02}-title-0-29.mp3")
        rows.append(f'"{n}"\t' + "\t".join(f'"{int(tag in has)}"' for tag in tags) + f'\t"{paths[-1]}"')
    root.mkdir(parents=True)
    (root / "annotations_final.csv").write_text("\n".join(rows) + "\n")
    if with_clips:
        clips = [f"{n}\t1\tt\tThe Artist {n // 4}\ta\tu\t0\t29\to\t{path}" for n, path in enumerate(paths)]
        header = (
            "clip_id\ttrack_number\ttitle\tartist\talbum\turl\tsegmentStart\tsegmentEnd\toriginal_url\tmp3_path"
        )
        (root / "clip_info_final.csv").write_text("\n".join([header, *clips]) + "\n")
    touch(root / "mp3", *paths)


@pytest.mark.parametrize("with_clips", [True, False])
@pytest.mark.parametrize("place", ["m", "m/annotations_final.csv"])
def test_magnatagatune_has_a_column_for_each_tag(tmp_path, place, with_clips):
    magnatagatune(tmp_path / "m", with_clips)
    _, tracks, messages = catalog_of(tmp_path / place)
    assert len(tracks) == 12
    artist = "The Artist {}" if with_clips else "artist_{}"
    for name, row in tracks.items():
        n = int(name.split("-")[2])
        assert (row["label"], row["group"]) == (("classical", "metal")[n % 2], artist.format(n // 4))
    log = "\n".join(messages)
    assert (
        "special ones before broad ones; 6 clips have more than one. 2 of 14 clips have none and are left" in log
    )
    assert (
        f"{'The group' if with_clips else 'There'} is {'the artist in' if with_clips else 'no'} clip_info_fin"
        in log
    )


def test_magnatagatune_with_a_column_as_the_label(tmp_path):
    magnatagatune(tmp_path / "m", with_clips=True)
    _, tracks, _ = catalog_of(tmp_path / "m", columns="label=rock")
    assert {row["label"] for row in tracks.values()} == {"0", "1"}
    assert len(tracks) == 14


# Hugging Face

HF = [f"{split}/{n}.wav" for split in ("test", "train") for n in range(6)]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("below", ["", "data/"])
def test_hugging_face_metadata_beside_the_folders_of_splits(tmp_path, suffix, below):
    rows = [
        {"file_name": below + name, "genre": ("a", "b")[n % 2], "artist": f"x{n}"} for n, name in enumerate(HF)
    ]
    touch(tmp_path, *(row["file_name"] for row in rows))
    path = tmp_path / f"metadata.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text("file_name,genre,artist\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    _, tracks, messages = catalog_of(tmp_path)
    assert list(tracks) == [below + name for name in HF]
    assert [row["split"] for row in tracks.values()] == ["test"] * 6 + ["train"] * 6
    assert [row["label"] for row in tracks.values()] == ["a", "b"] * 6
    assert messages == [
        f"Hugging Face's metadata metadata.{suffix}: path=file_name, label=genre, group=artist; not used: none.",
        "The split is the folder of each file.",
    ]


def test_the_classes_of_hugging_face_have_their_names(tmp_path):
    touch(tmp_path, *HF)
    feature = {"info": {"features": {"genre": {"names": ["jazz", "rock"], "_type": "ClassLabel"}}}}
    table = pa.table({"file_name": HF, "genre": [n % 2 for n in range(12)]})
    described = table.replace_schema_metadata({"huggingface": json.dumps(feature)})
    pq.write_table(described, tmp_path / "metadata.parquet")
    assert [row["label"] for row in catalog_of(tmp_path)[1].values()] == ["jazz", "rock"] * 6
    unknown = table.set_column(1, "genre", [[0, 1, 2] * 4]).replace_schema_metadata(described.schema.metadata)
    pq.write_table(unknown, tmp_path / "metadata.parquet")
    with pytest.raises(FeaturizeError, match=r"the column genre has the class 2 in row 3, .* the classes 0 to 1"):
        build_catalog(str(tmp_path))


def test_audio_inside_of_parquet_files_is_saved_as_files_by_the_lines_of_the_page(tmp_path, monkeypatch):
    """A dataset as Hugging Face offers it for download: two parts of a split, one of another."""
    data = tmp_path / "dataset" / "data"
    data.mkdir(parents=True)
    feature = {"info": {"features": {"label": {"names": ["jazz", "rock"], "_type": "ClassLabel"}}}}
    for part, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        audio = [{"bytes": bytes([65 + part, row]), "path": f"{row}.wav"} for row in range(6)]
        table = pa.table({"audio": audio, "label": [0, 1] * 3, "artist": [f"{part}-{row}" for row in range(6)]})
        pq.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps(feature)}), data / f"{name}.parquet"
        )
    with pytest.raises(FeaturizeError, match=rf"give {data}/test-00000-of-00001\.parquet"):
        build_catalog(str(data.parent))
    with pytest.raises(FeaturizeError, match="the column audio holds the audio itself, which is not read"):
        build_catalog(str(data / "test-00000-of-00001.parquet"))
    [lines] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(lines, {})
    _, tracks, messages = catalog_of(tmp_path / "music")
    assert len(tracks) == 18
    row = tracks["train/train-00001-of-00002-000003.wav"]
    assert (row["label"], row["group"], row["split"]) == ("rock", "1-3", "train")
    assert (tmp_path / "music" / row["track"]).read_bytes() == b"B\x03"
    assert messages[0].startswith(
        "Hugging Face's metadata metadata.parquet: path=file_name, label=label, group=artist"
    )


def test_hugging_face_metadata_in_each_folder_of_a_split(tmp_path):
    touch(tmp_path, *(f"data/{name}" for name in HF))
    for split in ("train", "test"):
        lines = [f"{n}.wav,{'ab'[n % 2]}\n" for n in range(6)]
        (tmp_path / "data" / split / "metadata.csv").write_text("file_name,label\n" + "".join(lines))
    _, tracks, _ = catalog_of(tmp_path)
    assert {name: row["split"] for name, row in tracks.items()} == {
        f"data/{name}": name.split("/")[0] for name in HF
    }


def test_what_only_one_table_of_a_split_has(tmp_path):
    touch(tmp_path, *HF, "validation/0.wav")
    for split, more in (("train", {"artist": "x", "subset": "train"}), ("test", {})):
        rows = [{"file_name": f"{n}.wav", "label": "ab"[n % 2], **more} for n in range(6)]
        (tmp_path / split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, tracks, messages = catalog_of(tmp_path)
    assert [row["group"] for row in tracks.values()] == [None] * 6 + ["x"] * 6
    assert [row["split"] for row in tracks.values()] == ["test"] * 6 + ["train"] * 6
    assert "6 of 12 rows have no group and are each their own group." in messages
    assert "Not all of the tables have a column of the split, so that it is not used." in messages
    assert "Folders of splits without metadata are not used: 'validation'." in messages


def test_folders_of_splits_with_folders_of_classes_in_a_folder_data(tmp_path):
    below = "data/"
    names = [f"{below}{split}/{label}/{n}.wav" for split in ("test", "train") for label in "ab" for n in range(3)]
    touch(tmp_path, *names)
    _, tracks, messages = catalog_of(tmp_path)
    assert list(tracks) == names
    assert {name: f"{row['split']}/{row['label']}" for name, row in tracks.items()} == {
        name: name.removeprefix("data/").rpartition("/")[0] for name in names
    }
    assert (
        "The folders are splits, and the classes are the folders in them; if not, add --layout folders."
        in messages
    )
    touch(tmp_path, f"{below}train/loose.wav")
    with pytest.raises(FeaturizeError, match=f"1 files are in no class in them: {below}train/loose.wav"):
        build_catalog(str(tmp_path))


def test_another_file_named_metadata_does_not_change_a_folder_of_classes(tmp_path):
    touch(tmp_path, *(f"{label}/{n}.wav" for label in ("jazz", "punk") for n in range(5)))
    (tmp_path / "metadata.csv").write_text("title,year\nx,1990\n")
    assert len(catalog_of(tmp_path)[1]) == 10


# mirdata


@pytest.fixture
def mirdata(monkeypatch, tmp_path):
    """A module with the interface of mirdata, for one dataset."""

    class Track:
        def __init__(self, n):
            self.track_id, self.genre = f"t{n}", ("rock", "jazz")[n % 2]
            self.artist = f"artist {n // 3}"
            self.audio_path = str(tmp_path / f"audio/{n}.wav") if n < 12 else None

        @property
        def audio(self):
            raise AssertionError("the audio is not loaded")

    class Dataset:
        def load_tracks(self):
            return {f"t{n}": Track(n) for n in range(13)}

        def get_track_splits(self):
            return {"train": [f"t{n}" for n in range(8)], "test": [f"t{n}" for n in range(8, 13)]}

    module = types.ModuleType("mirdata")
    module.list_datasets = lambda: ["tiny"]
    module.initialize = lambda name, data_home: Dataset()
    monkeypatch.setitem(sys.modules, "mirdata", module)
    touch(tmp_path, *(f"audio/{n}.wav" for n in range(12)))


def test_a_dataset_of_mirdata(mirdata, tmp_path):
    _, tracks, messages = catalog_of(tmp_path, layout="mirdata:tiny")
    assert {name: (row["label"], row["group"], row["split"], row["size"]) for name, row in tracks.items()} == {
        f"audio/{n}.wav": (("rock", "jazz")[n % 2], f"artist {n // 3}", "train" if n < 8 else "test", 1)
        for n in range(12)
    }
    assert messages == [
        "mirdata's tiny: path=audio_path, label=genre, group=artist.",
        "The split is that of mirdata.",
        "1 tracks without audio or label are left out.",
    ]
    with pytest.raises(FeaturizeError, match=r"mirdata has no dataset 'large'. It has tiny"):
        build_catalog(str(tmp_path), layout="mirdata:large")
    with pytest.raises(
        FeaturizeError, match=r"no attribute 'x'. They have artist, audio, audio_path, genre, track_id"
    ):
        build_catalog(str(tmp_path), layout="mirdata:tiny", columns="label=x")


def test_without_mirdata_the_error_says_what_to_type(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mirdata", None)
    with pytest.raises(FeaturizeError, match=r"needs the library mirdata .*pip install 'earmark\[mirdata\]'"):
        build_catalog(str(tmp_path), layout="mirdata:tiny")


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (
            "fm",
            "--layout 'fm' is unknown. Expected one of folders, fma, gtzan, jamendo, magnatagatune, huggingface",
        ),
        ("mirdata:", "--layout 'mirdata:' is unknown"),
        ("fma", "expected fma_metadata/tracks.csv"),
        ("gtzan", "expected train_filtered.txt"),
        ("jamendo", "expected autotagging_genre.tsv"),
        ("magnatagatune", "expected annotations_final.csv"),
        ("huggingface", "expected metadata.csv"),
    ],
)
def test_a_layout_that_is_not_there_is_refused(tmp_path, layout, expected):
    touch(tmp_path, "jazz/1.wav")
    with pytest.raises(FeaturizeError, match=expected):
        build_catalog(str(tmp_path), layout=layout)


def test_a_folder_with_nothing_but_a_table_names_it(tmp_path):
    (tmp_path / "tracks.tsv").write_text("path\tlabel\n")
    with pytest.raises(
        FeaturizeError, match=f"The folder holds tracks.tsv; to read it, give {tmp_path}/tracks.tsv"
    ):
        build_catalog(str(tmp_path))


def test_a_folder_around_the_folders_of_classes_is_refused_with_the_one_to_give(tmp_path):
    touch(tmp_path, *(f"genres_original/{label}/{n}.wav" for label in ("jazz", "punk") for n in range(5)))
    with pytest.raises(FeaturizeError, match=f"folders in it, give {tmp_path}/genres_original\\.$"):
        build_catalog(str(tmp_path))
    (tmp_path / "metadata.csv").write_text("file_name,bpm\ngenres_original/jazz/0.wav,90\n")
    with pytest.raises(
        FeaturizeError, match="label=NAME; or, if the folders are the classes, add --layout folders"
    ):
        build_catalog(str(tmp_path))


def test_columns_of_a_folder_of_classes_are_refused(tmp_path):
    touch(tmp_path, "jazz/1.wav")
    with pytest.raises(FeaturizeError, match="--columns is about a table"):
        build_catalog(str(tmp_path), columns="label=x")


def test_the_page_about_collections_names_every_layout_role_and_line(tmp_path):
    assert all(f"`{name}`" in PAGE for name in LAYOUT_NAMES)
    for role, names in USUAL_NAMES.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{role}` |"))
        listed = re.findall("`([a-z_0-9]+)`", row)[1:]
        assert set(listed) <= set(names)
        assert listed[:3] == list(names[:3])
    assert f"first of {len({genre for _, genre in GENRES})} genres" in PAGE
    fma(tmp_path / "fma")
    gtzan(tmp_path / "gtzan")
    jamendo(tmp_path / "jamendo", "autotagging_genre.tsv", [*range(200, 212), 99, 300])
    touch(tmp_path, *(f"jamendo/{n % 100:02}/{n}.mp3" for n in range(200, 212)))
    touch(tmp_path, *(f"table/{n}.mp3" for n in range(10)))
    rows = [f"t,{n}.mp3,{'ab'[n % 2]},x,1990" for n in range(10)]
    (tmp_path / "table" / "tracks.csv").write_text("\n".join(["title,file_name,genre,artist,year", *rows]))
    for name in ("fma", "jamendo", "table/tracks.csv"):
        for message in catalog_of(tmp_path / name)[2]:
            line = message.replace(str(tmp_path), "/data").replace("album.id, set.subset, track.title.", "...")
            assert line in PAGE or "genre tag are left out" in line or "00/300.mp3" in line
    assert (
        catalog_of(tmp_path / "gtzan")[2][1].replace(str(tmp_path), "/data")
        == "The audio is in /data/gtzan/genres."
    )


def test_a_published_dataset_in_a_bucket(client, uri, tmp_path):
    fma(tmp_path)
    for path in sorted(tmp_path.rglob("*.*")):
        client.put_object(Bucket="music", Key=f"fma/{path.relative_to(tmp_path)}", Body=path.read_bytes())
    for place in ("fma", "fma/fma_small", "fma/fma_metadata/tracks.csv"):
        catalog, tracks, _ = catalog_of(uri(f"music/{place}"))
        assert catalog.root.path == "music/fma/fma_small"
        assert {row["size"] for row in tracks.values()} == {1}
        assert len(tracks) == 12
    rows = [f"{label}\\{n}.wav,{label}" for label in ("jazz", "punk") for n in range(5)]
    client.put_object(Bucket="music", Key="other/t.csv", Body="\n".join(["path,label", *rows]).encode())
    for row in rows:
        client.put_object(Bucket="music", Key=f"other/{row.split(',')[0]}".replace("\\", "/"), Body=b"x")
    _, tracks, messages = catalog_of(uri("music/other/t.csv"))
    assert {row["size"] for row in tracks.values()} == {1}
    assert (
        "10 files were found under other names than in the table: with slashes instead of backslashes (10)."
        in messages
    )
