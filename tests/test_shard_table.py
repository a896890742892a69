"""The manifest `shards.parquet`: the same bytes from workers and from footers, and nothing in it is trusted."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import contents

from featurize.config import FeaturizeConfig
from featurize.dataset import dataset as dataset_module
from featurize.dataset.dataset import open_dataset
from featurize.dataset.reader import list_shards
from featurize.dataset.schema import SHARD_NAME, SHARDS_SCHEMA
from featurize.dataset.tables import write_table
from featurize.dataset_build import finalize
from featurize.dataset_build.driver import featurize
from featurize.dataset_build.finalize import find_duplicates
from featurize.dataset_build.verify import verify
from featurize.errors import DatasetError
from featurize.storage import StoragePath

CONFIG = FeaturizeConfig(tracks_per_shard=3, segments_per_track=4)


@pytest.fixture
def copy(features, tmp_path):
    return shutil.copytree(features, tmp_path / "features")


@pytest.fixture
def footers_read(monkeypatch):
    """Names of the shards whose footers were read."""
    names = []

    def read_record(path, name, *arguments):
        names.append(name)
        return original(path, name, *arguments)

    original = finalize.read_record
    for module in (finalize, dataset_module):
        monkeypatch.setattr(module, "read_record", read_record)
    return names


def test_opening_reads_no_footer_and_finds_what_footers_have(copy, footers_read):
    dataset = open_dataset(copy)
    assert footers_read == []
    (copy / "shards.parquet").unlink()  # a dataset of an earlier version
    assert open_dataset(copy) == dataset
    assert sorted(footers_read) == sorted(list_shards(copy))


@pytest.mark.parametrize("lost", ["shards.parquet", "dataset.json", "both", "three shards", "junk"])
def test_the_files_are_the_same_however_they_came_about(lost, copy, features, music, ray_here, footers_read):
    removed = {"shards.parquet": ["shards.parquet"], "dataset.json": ["dataset.json"]}
    for name in removed.get(lost, ["shards.parquet", "dataset.json"] if lost != "junk" else ()):
        (copy / name).unlink()
    names = sorted(list_shards(copy))
    if lost == "junk":
        (copy / "shards.parquet").write_bytes(b"PAR1 junk PAR1")
    if lost == "three shards":
        for name in names[::4]:
            (copy / "shards" / name).unlink()
        names = [name for name in names if name not in names[::4]]
    featurize(str(music), copy, CONFIG)
    assert contents(copy) == contents(features)
    assert sorted(footers_read) == ([] if lost == "dataset.json" else names)


def test_a_shard_of_another_size_is_refused_and_read_again(copy, music, ray_here, footers_read):
    name = min(list_shards(copy))
    path = copy / "shards" / name
    file = pq.ParquetFile(path)
    table = file.read()
    with pq.ParquetWriter(path, file.schema_arrow) as writer:
        writer.write_table(table, row_group_size=len(table))
        writer.add_key_value_metadata({b"earmark": file.metadata.metadata[b"earmark"]})
    with pytest.raises(DatasetError, match=rf"{name} has [\d,]+ bytes, expected [\d,]+"):
        open_dataset(copy)
    footers_read.clear()
    featurize(str(music), copy, CONFIG)
    assert footers_read == [name]
    assert open_dataset(copy).shards[0].size == path.stat().st_size


def replaced(table, column, values):
    field = SHARDS_SCHEMA.field(column)
    old = table[column].to_pylist()
    return table.set_column(
        table.column_names.index(column), field, pa.array([*values, *old[len(values) :]], field.type)
    )


FIRST = "fold=0/part-00000-0123456789abcdef.parquet"
HOSTILE = [
    ("name", ["../../etc/passwd"], "not the name of a shard"),
    ("name", ["fold=0/../fold=1/part-00000-0123456789abcdef.parquet"], "not the name of a shard"),
    ("name", [FIRST, FIRST], "a shard twice"),
    ("name", ["fold=4/part-00000-0123456789abcdef.parquet"], "has the fold 0 for fold=4"),
    ("name", ["fold=99999/part-00000-0123456789abcdef.parquet"], "has the fold 0 for fold=99999"),
    ("name", [FIRST], f"{FIRST} is missing"),
    ("fold", [-1], "has the fold -1"),
    ("bytes", [-1], "in the column bytes"),
    ("bytes", [2**62], "in the column bytes"),
    ("bytes", [17], "bytes, expected 17"),
    ("rejects", [-1], "in the column rejects"),
    ("rejects", [9], "has 39 tracks in its shards, but dataset.json has 30"),
    ("row_groups", [b"abc"], "not 32-bit numbers"),
    ("row_groups", [np.array([-4], "<i4").tobytes()], "row groups that are not those of 1 to 8 tracks"),
    ("row_groups", [np.array([0], "<i4").tobytes()], "row groups that are not those of 1 to 8 tracks"),
    ("row_groups", [np.array([36], "<i4").tobytes()], "row groups that are not those of 1 to 8 tracks"),
    ("row_groups", [np.array([2**30], "<i4").tobytes()], "row groups that are not those of 1 to 8 tracks"),
    ("row_groups", [np.array([3], "<i4").tobytes()], "row groups that are not those of 1 to 8 tracks"),
    ("row_groups", [b""], "rows in its shards, but dataset.json has 120 segments"),
]


@pytest.mark.parametrize(("column", "values", "problem"), HOSTILE)
def test_a_manifest_that_lies_is_refused_and_written_again(column, values, problem, copy):
    path = StoragePath.of(copy / "shards.parquet")
    write_table(path, replaced(pq.read_table(path.path), column, values))
    with pytest.raises(DatasetError) as caught:
        open_dataset(copy)
    assert problem in str(caught.value)
    assert "earmark featurize MUSIC --out" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values"),
    [("digests", [b"short"]), ("sums", [b""]), ("sums", [np.full(80, np.nan).tobytes()]), ("remarks", [-3])],
)
def test_figures_that_cannot_be_are_not_taken_over(column, values, copy, features, music, ray_here, footers_read):
    path = StoragePath.of(copy / "shards.parquet")
    write_table(path, replaced(pq.read_table(path.path), column, values))
    (copy / "dataset.json").unlink()
    featurize(str(music), copy, CONFIG)
    assert len(footers_read) == 10
    assert contents(copy) == contents(features)


def test_verify_compares_the_manifest_with_the_footers(copy):
    assert not [problems for _, problems in verify(open_dataset(copy)) if problems]
    path = StoragePath.of(copy / "shards.parquet")
    table = pq.read_table(path.path)
    write_table(path, replaced(table, "digests", [bytes(48), *table["digests"].to_pylist()[1:]]))
    [(shard, problems)] = [entry for entry in verify(open_dataset(copy)) if entry[1]]
    assert (shard.name, problems) == (table["name"][0].as_py(), ["its footer differs from shards.parquet"])


def test_a_manifest_with_other_columns_is_refused(copy):
    table = pq.read_table(copy / "shards.parquet")
    write_table(StoragePath.of(copy / "shards.parquet"), table.drop_columns("sums"))
    with pytest.raises(DatasetError, match=r"shards.parquet is missing or broken: lacks the column sums"):
        open_dataset(copy)


def test_duplicates_are_found_by_all_digits_of_their_digests():
    """Two digests with equal first halves are no duplicates."""
    one, two, three = b"a" * 16, b"a" * 8 + b"b" * 8, b"c" * 16
    tracks = pa.table(
        {
            "track": ["e", "d", "rejected", "c", "b", "a"],
            "label": pa.array([0, 1, 0, 1, 0, 1], pa.int32()),
            "fold": pa.array([0, 0, 0, 1, 1, 1], pa.int32()),
        }
    )
    kept = np.array([True, True, False, True, True, True])
    digests = pa.chunked_array([pa.array([one + two, three + one + three], pa.binary())])
    found = find_duplicates(digests, kept, tracks, ["x", "y"]).to_pylist()
    assert [(row["digest"], row["track"], row["label"], row["fold"]) for row in found] == [
        (one.hex(), "b", "x", 1),
        (one.hex(), "e", "x", 0),
        (three.hex(), "a", "y", 1),
        (three.hex(), "c", "y", 1),
    ]
    nothing = find_duplicates(pa.chunked_array([pa.array([], pa.binary())]), np.zeros(6, np.bool_), tracks, [])
    assert len(nothing) == 0


def test_names_in_the_manifest_are_in_the_order_of_the_plan(features):
    table = pq.read_table(features / "shards.parquet")
    assert table.schema.equals(SHARDS_SCHEMA)
    names = table["name"].to_pylist()
    assert all(map(SHARD_NAME.fullmatch, names))
    assert names == [shard.name for shard in open_dataset(features).shards]
