"""Rows that are kept on this machine: read from the bucket once, bounded, and never wrong."""

import dataclasses
import itertools
import os
import shutil

import numpy as np
import pytest
from support.logs import logged
from support.rows import write_shards

from benchmarks.waiting_bucket import requests, uri, waiting_bucket
from featurize.dataset.reader import read_row_group
from featurize.dataset.row_group_cache import RowGroupCache
from featurize.dataset.row_group_reader import RowGroupReader
from featurize.errors import DatasetError
from featurize.storage import StoragePath
from train.config import TrainConfig

ROOM = 1 << 30


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("rows"), (9, 40, 70), 4)[0]


@pytest.fixture(scope="module")
def bucket(local):
    """The address of a bucket that has the shards, and each row group of them."""
    with waiting_bucket(local[0].path.local.parents[2], 0) as address:
        remote = [dataclasses.replace(s, path=StoragePath.of(uri(address, f"shards/{s.name}"))) for s in local]
        yield address, groups_of(remote)


def groups_of(shards):
    return [(shard, index) for shard in shards for index in range(len(shard.row_groups))]


def assert_same(read, local):
    for (mfcc, labels), group in itertools.zip_longest(read, groups_of(local)):
        expected = read_row_group(*group)
        np.testing.assert_array_equal(mfcc, expected[0])
        np.testing.assert_array_equal(labels, expected[1])


def cache_in(folder, limit=ROOM, dataset="/dataset"):
    return RowGroupCache(folder, limit, StoragePath.of(dataset))


def test_each_row_group_is_requested_once(local, bucket, tmp_path):
    address, groups = bucket
    reader = RowGroupReader(cache_in(tmp_path))
    before = requests(address)
    assert_same(reader.read(groups), local)
    counted = requests(address) - before
    assert len(groups) >= 6
    assert counted["GET"] <= len(groups) + len(local)  # and one for each footer
    before = requests(address)
    assert_same(reader.read(groups), local)
    assert_same(RowGroupReader(cache_in(tmp_path)).read(groups), local)  # another training
    assert not {"GET", "HEAD"} & set(requests(address) - before)


def test_row_groups_of_other_workers_are_not_copied(local, bucket, tmp_path):
    address, groups = bucket
    before = requests(address)
    list(RowGroupReader(cache_in(tmp_path)).read(groups[1::3]))
    assert (requests(address) - before)["GET"] <= len(groups[1::3]) + len(local)


def damage(folder, how):
    for copy in folder.glob("*/*.parquet"):
        if how == "flipped":
            content = bytearray(copy.read_bytes())
            content[len(content) // 2] ^= 1
            copy.write_bytes(content)
        elif how == "hole":
            size = copy.stat().st_size
            with copy.open("r+b") as file:
                file.truncate(1000)
                file.truncate(size)
        elif how == "removed":
            copy.unlink()
        elif how == "cut off":
            os.truncate(copy, 1000)
    if how == "no folder":
        shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["flipped", "hole", "removed", "cut off", "no folder"])
@pytest.mark.parametrize("reopened", [False, True])
def test_damaged_copies_are_read_from_the_dataset(how, reopened, local, bucket, tmp_path):
    groups = bucket[1]
    reader = RowGroupReader(cache_in(tmp_path / "cache"))
    assert_same(reader.read(groups), local)
    damage(tmp_path / "cache", how)
    if reopened:
        reader = RowGroupReader(cache_in(tmp_path / "cache"))
    assert_same(reader.read(groups), local)
    assert_same(reader.read(groups), local)


def test_the_folder_keeps_to_its_limit(local, bucket, tmp_path):
    groups = bucket[1]
    size = sum(shard.size for shard in local)
    with logged("featurize") as records:
        reader = RowGroupReader(cache_in(tmp_path, size // 2))
        assert_same(reader.read(groups), local)
        assert_same(reader.read(groups), local)
    assert ["has no room" in record for record in records] == [True]
    used = sum(file.stat().st_blocks * 512 for file in tmp_path.rglob("*") if file.is_file())
    assert 0 < used <= size // 2 + (1 << 17)  # footers and the ends of blocks


def test_copies_of_other_datasets_make_room(local, bucket, tmp_path):
    groups = bucket[1]
    list(RowGroupReader(cache_in(tmp_path, dataset="/old")).read(groups))
    mine = tmp_path / "mine"
    mine.mkdir()
    assert len(list(tmp_path.glob("earmark-rows-*"))) == 1
    cache_in(tmp_path, ROOM, "/second")
    assert len(list(tmp_path.glob("earmark-rows-*"))) == 2
    cache_in(tmp_path, sum(shard.size for shard in local), "/third")
    assert mine.is_dir()
    assert not list(tmp_path.glob("earmark-rows-*/*.parquet"))


def test_a_damaged_shard_is_named_by_its_place_in_the_dataset(local, tmp_path):
    folder = tmp_path / "dataset" / "shards"
    shutil.copytree(local[0].path.local.parents[1], folder)
    shards = [dataclasses.replace(shard, path=StoragePath.of(folder / shard.name)) for shard in local]
    content = bytearray((folder / shards[1].name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / shards[1].name).write_bytes(content)
    with pytest.raises(DatasetError, match=str(folder / shards[1].name)):
        list(RowGroupReader(cache_in(tmp_path / "cache")).read(groups_of(shards)))


def test_a_full_disk_ends_no_training(local, bucket, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with logged("featurize") as records:
        assert_same(RowGroupReader(cache_in(tmp_path)).read(bucket[1]), local)
    assert ["no space left" in record.lower() for record in records] == [True]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match=r"Set train\.cache to a folder"):
        cache_in(tmp_path / "file" / "cache")


@pytest.mark.parametrize("folder", ["relative", "s3://bucket/cache", ""])
def test_the_setting_is_an_absolute_path(folder):
    with pytest.raises(ValueError, match="absolute path"):
        TrainConfig(cache=folder)
