"""Tags that were read before the driver died are not read again."""

import dataclasses
import multiprocessing
import os
import shutil
import time

import pytest
from support.audio import encode_with_tags

from featurize.collection.catalog import build_catalog
from featurize.config import FeaturizeConfig
from featurize.dataset_build import driver
from featurize.dataset_build.driver import featurize, read_all_tags
from featurize.errors import CollectionLostError
from featurize.execution import kept_tags
from featurize.execution.kept_tags import FOLDER, forget_tags
from featurize.planning.groups import known_groups
from featurize.storage import StoragePath

AT_ONCE = 4  # files of a task


@pytest.fixture
def read(monkeypatch):
    """The files whose tags are read, in order."""
    files = []
    original = kept_tags.read_tags

    def counted(paths, tag):
        files.extend(path.name for path in paths if path is not None)
        return original(paths, tag)

    monkeypatch.setattr(kept_tags, "read_tags", counted)
    monkeypatch.setattr(driver, "_TAGS_AT_ONCE", AT_ONCE)
    return files


def tags_of(music, folder):
    catalog = build_catalog(str(music))
    return read_all_tags(StoragePath.of(folder), catalog, known_groups(catalog, FeaturizeConfig(), None), False)


def die_in_the_third_part(music, folder):
    """Read tags in a process that dies while it reads the third part."""
    original, parts = kept_tags.read_tags, []

    def dying(paths, tag):
        parts.append(paths)
        if len(parts) == 3:
            os._exit(9)
        return original(paths, tag)

    kept_tags.read_tags = dying
    driver._TAGS_AT_ONCE = AT_ONCE
    tags_of(music, folder)


def test_a_driver_that_died_in_the_tag_pass_reads_only_the_rest(music, read, tmp_path):
    shutil.copytree(music, tmp_path / "music")
    process = multiprocessing.get_context("spawn").Process(
        target=die_in_the_third_part, args=(tmp_path / "music", tmp_path / "out")
    )
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert len(os.listdir(tmp_path / "out" / FOLDER)) == 2
    tracks = build_catalog(str(tmp_path / "music")).tracks["track"].to_pylist()
    retagged = tmp_path / "music" / tracks[0]
    later = time.time_ns() + 10**10
    os.utime(retagged, ns=(later, later))  # of the same size
    (tmp_path / "out" / FOLDER / "part-broken.parquet").write_bytes(b"PAR1")
    tags = tags_of(tmp_path / "music", tmp_path / "out")
    assert read == [retagged.name, *(os.path.basename(track) for track in tracks[2 * AT_ONCE :])]
    read.clear()
    assert tags == tags_of(tmp_path / "music", tmp_path / "out")
    assert read == []
    forget_tags(StoragePath.of(tmp_path / "out"))
    assert tags == tags_of(tmp_path / "music", tmp_path / "out")
    assert len(read) == len(tracks)


def test_kept_tags_are_removed_when_the_plan_is_stored(music, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "_TAGS_AT_ONCE", 100)
    tags_of(music, tmp_path)
    assert (tmp_path / FOLDER).is_dir()

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        featurize(str(music), tmp_path, FeaturizeConfig(), on_progress=stop)
    assert (tmp_path / "tracks.parquet").exists()
    assert not (tmp_path / FOLDER).exists()


def test_tags_that_cannot_be_read_are_read_again(read, tmp_path):
    for name in ("a.flac", "b.flac"):
        (tmp_path / "music" / name[0]).mkdir(parents=True)
        for number in range(5):
            content = encode_with_tags(".flac", {"artist": f"{name} {number}"})
            (tmp_path / "music" / name[0] / f"{number}{name}").write_bytes(content)
    (tmp_path / "music" / "a" / "bad.flac").write_bytes(b"fLaC" + bytes(100))
    tags_of(tmp_path / "music", tmp_path / "out")
    read.clear()
    tags_of(tmp_path / "music", tmp_path / "out")
    assert read == ["bad.flac"]


@pytest.mark.parametrize("lost", ["disk", "bucket"])
def test_files_that_can_no_longer_be_reached_are_no_groups_of_their_own(
    lost, music, server, tmp_path, monkeypatch
):
    root = shutil.copytree(music, tmp_path / "music")
    build = driver.build_catalog

    def build_and_lose(*arguments):
        catalog = build(*arguments)
        if lost == "bucket":
            nowhere = StoragePath.of("s3://music/small?endpoint_override=http://127.0.0.1:9")
            return dataclasses.replace(catalog, root=nowhere)
        root.rename(tmp_path / "away")
        return catalog

    monkeypatch.setattr(driver, "build_catalog", build_and_lose)
    with pytest.raises(
        CollectionLostError, match=rf"can no longer be read .* Is its {lost} still .* same command"
    ):
        featurize(str(root), tmp_path / "features", FeaturizeConfig())
    assert not (tmp_path / "features" / "tracks.parquet").exists()
