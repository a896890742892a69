"""Files that change while they are read, and files that are no files."""

import contextlib
import os
import shutil
import socket
import time

import numpy as np
import pytest
from hostile.encoders import encode_tune, make_noise, wav_file
from support.command_line import earmark

import featurize.audio.load
from featurize.audio.load import decode, load
from featurize.audio.source import BytesSource, Source, open_source
from featurize.collection.tags import UnreadableTags, read_tag
from featurize.config import FeaturizeConfig
from featurize.dataset_build.inference_features import featurize_files, list_files
from featurize.errors import Reject
from featurize.planning.shard_plan import ShardPlan, Track, feature_settings
from featurize.storage import StoragePath

SETTINGS = feature_settings(FeaturizeConfig())
EXCERPT = feature_settings(FeaturizeConfig(excerpt_seconds=6, excerpt_position="start"))
LONG = 33 << 20  # bytes: read in parts


def append(path):
    with open(path, "ab") as file:
        file.write(b"more")


def truncate(path):
    os.truncate(path, 1000)


def overwrite(path):
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"other")


def replace(path):
    other = path.with_suffix(".new")
    shutil.copyfile(path, other)
    os.replace(other, path)


@pytest.mark.parametrize("change", [append, truncate, overwrite, replace])
def test_a_change_of_a_file_that_is_read_in_parts_is_noticed(change, tmp_path):
    path = tmp_path / "long.wav"
    path.write_bytes(wav_file(make_noise(LONG), rate=1_000_000, bits=8))

    def read_and_change():
        with open_source(StoragePath.of(path)) as source:
            assert isinstance(source, Source)
            source.read(1 << 20)
            change(path)
            raise Reject("decode", "not decodable", "of the mixed bytes")

    with pytest.raises(Reject) as caught:
        read_and_change()
    assert (caught.value.stage, caught.value.reason) == ("open", "changed")


def test_a_file_that_is_removed_while_it_is_read_is_missing(tmp_path):
    path = tmp_path / "long.wav"
    path.write_bytes(wav_file(make_noise(LONG), rate=1_000_000, bits=8))
    with pytest.raises(Reject) as caught, open_source(StoragePath.of(path)):
        path.unlink()
    assert caught.value.reason == "missing"


def test_a_short_file_is_read_at_once_and_may_change_afterwards(tmp_path):
    path = tmp_path / "short.wav"
    path.write_bytes(wav_file(make_noise(1000)))
    with open_source(StoragePath.of(path)) as source:
        assert isinstance(source, BytesSource)
        truncate(path)


@pytest.mark.parametrize(("changes", "reason"), [(1, None), (2, "changed")])
def test_a_changed_file_is_read_again_once(changes, reason, tmp_path, monkeypatch):
    path = tmp_path / "long.wav"
    path.write_bytes(wav_file(make_noise(LONG), rate=1_000_000, bits=8))
    undisturbed = load(StoragePath.of(path), EXCERPT)
    left = [changes]

    def decode_and_touch(source, settings):
        samples = decode(source, settings)
        if left[0]:
            left[0] -= 1
            status = os.stat(path)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        return samples

    monkeypatch.setattr(featurize.audio.load, "decode", decode_and_touch)
    if reason:
        with pytest.raises(Reject) as caught:
            load(StoragePath.of(path), EXCERPT)
        assert caught.value.reason == reason
    else:
        assert np.array_equal(load(StoragePath.of(path), EXCERPT), undisturbed)
    assert left == [0]


@pytest.fixture
def special(tmp_path):
    """Links to, and things that are, no regular files, by what the reject calls them."""
    os.mkfifo(tmp_path / "pipe.mp3")
    (tmp_path / "folder.mp3").mkdir()
    (tmp_path / "zero.mp3").symlink_to("/dev/zero")
    (tmp_path / "link.mp3").symlink_to("pipe.mp3")
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.mp3")
        yield (
            tmp_path,
            {
                "pipe.mp3": "a pipe",
                "link.mp3": "a pipe",
                "folder.mp3": "a folder",
                "zero.mp3": "a device",
                "socket.mp3": "a socket",
            },
        )


def test_only_regular_files_are_opened(special):
    folder, kinds = special
    for name, kind in kinds.items():
        with pytest.raises(Reject) as caught:
            load(StoragePath.of(folder / name), SETTINGS)
        assert caught.value.reason == "unreadable"
        assert caught.value.message == f"not a regular file but {kind}"
        if kind != "a folder":
            began = time.monotonic()
            assert isinstance(read_tag(StoragePath.of(folder / name), "artist"), UnreadableTags)
            assert time.monotonic() - began < 5


def test_a_linked_file_is_read(tmp_path):
    (tmp_path / "real.wav").write_bytes(encode_tune("WAV", "PCM_16"))
    (tmp_path / "link.wav").symlink_to("real.wav")
    assert len(load(StoragePath.of(tmp_path / "link.wav"), SETTINGS))


def test_predict_lists_them_as_rejects(special):
    folder, kinds = special
    targets = [str(folder / name) for name in kinds if name != "folder.mp3"]
    files = list_files(targets)
    plan = ShardPlan("x", files[0].root, [Track(file.id, file.path, -1, file.size) for file in files], SETTINGS)
    featurized = featurize_files(plan, None, 60.0, {})
    assert [reason for _, _, reason, _ in featurized.rejects] == ["unreadable"] * len(targets)


@pytest.mark.slow
def test_a_table_may_name_them(special, music, tmp_path):
    folder, kinds = special
    rows = [f"{path},{path.parent.name}" for path in sorted(music.glob("*/*.*")) if path.is_file()]
    rows += [f"{folder / name},bells" for name in kinds]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label", *rows]) + "\n")
    done = earmark("featurize", table, "--out", tmp_path / "out", "--set", "featurize.max_reject_fraction=1")
    assert done.returncode == 0, done.stderr
    assert "unreadable" in done.stderr
