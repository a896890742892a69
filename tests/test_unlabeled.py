"""Collections without labels: folders at any depth, and tables whose columns are carried along."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurize.collection.path_table import read_paths
from featurize.collection.unlabeled import list_unlabeled
from featurize.dataset.feature_settings import FeatureSettings
from featurize.errors import FeaturizeError
from featurize.execution.table_reading import read_table_apart
from featurize.storage import StoragePath
from jobs.inference.answer_plan import plan_music
from train.answers.shard import carried_names


def listed(place, columns=None):
    return list_unlabeled(str(place), (), read_paths, columns)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.mp3", "a/c.flac", "a/deep/er/d.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_a_folder_is_listed_at_any_depth_without_labels(folder):
    os.link(folder / "b.mp3", os.fsencode(folder) + b"/\xff.mp3")
    found = listed(folder)
    assert found.tracks["track"].to_pylist() == ["\\xff.mp3", "a/c.flac", "a/deep/er/d.wav", "b.mp3"]
    assert found.tracks["path"].to_pylist() == [b"\xff.mp3", None, None, None]
    assert found.tracks["size"].to_pylist() == [5, 8, 15, 5]
    assert found.carried.column_names == []


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_all_columns_of_a_table_are_carried_along_in_the_order_of_the_tracks(folder, suffix):
    rows = {"title": ["B", None, "C"], "path": ["b.mp3", "gone.mp3", "a/c.flac"], "label": ["x", "y", "z"]}
    table, file = pa.table(rows), folder / f"list.{suffix}"
    if suffix == "parquet":
        table = table.append_column("tags", pa.array([["x"], [], None]))
        table = table.append_column("picture", pa.array([b"\xff\xd8", b"", None]))
        pq.write_table(table.append_column("digest", pa.array([b"\xff\xd8", None, None], pa.binary(2))), file)
    elif suffix == "csv":
        file.write_text("title,path,label\nB,b.mp3,x\n,gone.mp3,y\nC,a/c.flac,z\n")
    else:
        table.to_pandas().to_json(file, orient="records", lines=True)
    found = list_unlabeled(str(file), (), lambda source, request: read_table_apart(source, request, read_paths))
    assert found.tracks["track"].to_pylist() == ["a/c.flac", "b.mp3", "gone.mp3"]
    assert found.tracks["size"].to_pylist() == [8, 5, -1]
    assert found.carried.to_pydict() == {
        "title": ["C", "B", None],
        "path": ["a/c.flac", "b.mp3", "gone.mp3"],
        "label": ["z", "x", "y"],
    }


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("title,label\na,b\n", None, "no column is known to be the path.*--columns path=NAME"),
        ("path,x,x\nb.mp3,1,2\n", None, "the column x more than once"),
        ("path,x\nb.mp3,1\nb.mp3,2\n", None, "1 rows have a path of an earlier row: line 3"),
        ("path,x\n,1\ngs://other/x.mp3,2\n", None, "an empty path: line 2\n.*add --allow-bucket other"),
        ("path,x\nb.mp3,1\n", "label=x", "needs the path only"),
        ("path,x\ngone.mp3,1\n", None, "1 of 1 files of the table do not exist"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(folder, content, columns, message):
    (folder / "list.csv").write_text(content)
    with pytest.raises(FeaturizeError, match=message):
        listed(folder / "list.csv", columns)


def test_other_places_are_refused(folder):
    (folder / "empty").mkdir()
    for place, message in [
        ("empty", "expected audio files in .*, found none"),
        ("b.mp3", "neither a folder nor a table"),
        ("gone", "does not exist"),
    ]:
        with pytest.raises(FeaturizeError, match=message):
            listed(folder / place)
    with pytest.raises(FeaturizeError, match="--columns is about a table"):
        listed(folder, "path=x")


def test_carried_columns_never_replace_those_of_the_answers():
    assert carried_names(["title", "label", "given_label", "track"]) == [
        *("title", "given_given_label", "given_label", "given_track")
    ]


def test_names_of_shards_change_with_what_the_answers_depend_on(folder, features):
    from featurize.dataset.info import read_info

    settings = read_info(StoragePath.of(features)).settings
    found, about = listed(folder), {"model": "a"}
    plan = plan_music(found, settings, about, 2)
    assert list(plan.tracks.values()) == [1, 2]
    assert plan_music(found, settings, about, 2).names == plan.names
    others = [
        plan_music(found, settings, {"model": "b"}, 2),
        plan_music(found, FeatureSettings(**{**settings.model_dump(), "max_seconds": 9.0}), about, 2),
    ]
    (folder / "b.mp3").write_bytes(b"longer")
    changed = plan_music(listed(folder), settings, about, 2)
    assert all(not set(other.names) & set(plan.names) for other in others)
    assert [name in plan.names for name in changed.names] == [True, False]
