"""Files of a bucket are read ahead of the decoder, within bounds, and give the same samples as local ones."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from benchmarks.waiting_bucket import requests, uri, waiting_bucket
from featurize.audio import fetch_ahead
from featurize.audio.fetch_ahead import FetchAhead
from featurize.audio.load import load
from featurize.audio.remote_file import Beginning, PartlyReadFile
from featurize.config import FeaturizeConfig
from featurize.errors import Reject
from featurize.planning.shard_plan import feature_settings
from featurize.storage import StoragePath

WHOLE = feature_settings(FeaturizeConfig())
EXCERPT = feature_settings(FeaturizeConfig(excerpt_seconds=6))
MIDDLE = feature_settings(FeaturizeConfig(excerpt_seconds=6, excerpt_position="middle"))
SUFFIXES = (".mp3", ".flac", ".ogg", ".wav")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucket")
    noise = np.random.default_rng(0).standard_normal((40 * 44100, 2)) / 8
    for suffix in SUFFIXES:
        soundfile.write(folder / f"long{suffix}", noise, 44100)
    for number in range(20):
        soundfile.write(folder / f"{number}.flac", noise[: 6 * 44100], 44100)
    (folder / "grows.wav").write_bytes((folder / "long.wav").read_bytes())
    return folder


@pytest.fixture(scope="module")
def address(folder):
    with waiting_bucket(folder, 0) as address:
        yield address


def files(folder, address, names):
    return [(StoragePath.of(uri(address, name)), (folder / name).stat().st_size) for name in names]


@pytest.mark.parametrize("settings", [WHOLE, EXCERPT, MIDDLE], ids=["whole", "start", "middle"])
def test_the_samples_are_those_of_a_local_file(folder, address, settings):
    names = [f"long{suffix}" for suffix in SUFFIXES]
    with FetchAhead(files(folder, address, names), settings) as fetch:
        for name in names:
            path = StoragePath.of(uri(address, name))
            fetched = fetch.take(path)
            assert fetched is not None
            expected = load(StoragePath.of(folder / name), settings)
            np.testing.assert_array_equal(load(path, settings, fetched=fetched.result), expected)


def test_each_file_is_read_once(folder, address):
    names = [f"{number}.flac" for number in range(20)]
    paths = files(folder, address, names)
    before = requests(address)
    with FetchAhead(paths, WHOLE) as fetch:
        for path, size in paths:
            beginning = fetch.take(path).result()
            assert (len(beginning.content), beginning.size) == (size, size)
    counted = requests(address) - before
    assert (counted["HEAD"], counted["GET"]) == (20, 20)


def test_of_an_excerpt_only_the_beginning_is_read(folder, address):
    [(path, size)] = files(folder, address, ["long.wav"])
    before = requests(address)
    with FetchAhead([(path, size)], EXCERPT) as fetch:
        load(path, EXCERPT, fetched=fetch.take(path).result)
    assert (requests(address) - before)["bytes"] < size / 3


def test_files_on_a_disk_missing_and_very_large_ones_are_left_to_the_decoder(folder, address):
    remote = StoragePath.of(uri(address, "long.wav"))
    ignored = [(StoragePath.of(folder / "long.wav"), 7056044), (remote, -1), (remote, 0), (remote, 1 << 30)]
    with FetchAhead(ignored, WHOLE) as fetch:
        assert fetch.take(remote) is None
        assert fetch.take(StoragePath.of(folder / "long.wav")) is None


def test_a_missing_file_and_one_that_changed_are_rejects(folder, address):
    missing = StoragePath.of(uri(address, "missing.wav"))
    [(grows, size)] = files(folder, address, ["grows.wav"])
    with FetchAhead([(missing, 5), (grows, size)], EXCERPT) as fetch:
        with pytest.raises(Reject, match="missing"):
            load(missing, EXCERPT, fetched=fetch.take(missing).result)
        fetched = fetch.take(grows)
        beginning = fetched.result()
    with (folder / "grows.wav").open("ab") as file:
        file.write(b"more")
    rest = PartlyReadFile(grows, beginning)
    rest.seek(size - 10)
    with pytest.raises(OSError, match="when its beginning was read"):
        rest.read(10)


@pytest.mark.parametrize(("size", "expected"), [(1 << 20, 16), (20 << 20, 3), (32 << 20, 2)])
def test_what_is_on_the_way_is_bounded_in_files_and_in_bytes(monkeypatch, address, size, expected):
    begun, go_on = [], threading.Semaphore(0)

    def read(path, length):
        begun.append(path)
        go_on.acquire()
        return Beginning(b"", length)

    monkeypatch.setattr(fetch_ahead, "read_beginning", read)
    root = StoragePath.of(uri(address, "x"))
    paths = [dataclasses.replace(root, path=f"bucket/{number}") for number in range(20)]
    with FetchAhead([(path, size) for path in paths], WHOLE) as fetch, ThreadPoolExecutor(1) as waiting:
        for taken, path in enumerate(paths):
            while len(begun) < min(expected + taken, 20):
                time.sleep(0.001)
            assert len(begun) == min(expected + taken, 20)
            assert sorted(p.path for p in begun) == sorted(p.path for p in paths[: len(begun)])
            content = waiting.submit(fetch.take(path).result)
            go_on.release()
            if taken == 0:
                go_on.release(20)
            content.result()
