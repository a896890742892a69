"""Tags of files that attack the reader: only their own tags are lost."""

import os
import shutil
import socket

import pytest
from support.hostile_tags import compressed_id3, external_ape, huge_picture, many_comments, nested_mp4
from support.logs import logged

from featurize.collection.catalog import build_catalog
from featurize.collection.tags import UnreadableTags, read_tag
from featurize.config import FeaturizeConfig
from featurize.execution import tag_reading
from featurize.execution.tag_reading import read_tags
from featurize.planning.groups import add_tags, known_groups, unread_files
from featurize.storage import StoragePath

ATTACKS = {"nested.m4a": nested_mp4, "external.ape": external_ape}


def test_attacks_are_reported_by_name_and_the_other_files_keep_their_groups(music, tmp_path):
    shutil.copytree(music, tmp_path / "music")
    for name, make in {**ATTACKS, "bomb.mp3": lambda: compressed_id3(600 << 20)}.items():
        (tmp_path / "music" / "bells" / name).write_bytes(make())
    catalog, config = build_catalog(str(tmp_path / "music")), FeaturizeConfig()
    groups = known_groups(catalog, config, None)
    with logged("featurize") as messages:
        done = add_tags(catalog, groups, read_tags(unread_files(catalog, groups), config.group_by))
    group_of = dict(zip(catalog.tracks["track"].to_pylist(), done.groups.to_pylist(), strict=True))
    attacked = {f"bells/{name}" for name in (*ATTACKS, "bomb.mp3")}
    assert {name: group_of.pop(name) for name in attacked} == {name: name for name in attacked}
    assert set(group_of.values()) == {f"{style} {n}" for style in ("bells", "reeds", "pulses") for n in range(5)}
    assert messages == [
        "The tags of 3 tracks are unreadable; each of them is its own group: 'bells/bomb.mp3' (MemoryError), "
        "'bells/external.ape' (TypeError), 'bells/nested.m4a' (RecursionError)."
    ]


@pytest.mark.parametrize("make", [many_comments, huge_picture])
def test_sizes_that_a_file_only_claims_cost_nothing(make, tmp_path):
    path = tmp_path / "x.flac"
    path.write_bytes(make())
    assert not isinstance(read_tags([StoragePath.of(path)], "artist")[0], str)


def test_no_more_than_a_limit_is_read_of_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("featurize.collection.tags._MOST_BYTES", 1 << 20)
    (tmp_path / "x.mp3").write_bytes(b"\0" * (3 << 20))
    assert read_tag(StoragePath.of(tmp_path / "x.mp3"), "artist") == UnreadableTags("more than 1 MiB")


def test_files_in_a_bucket_are_read_with_the_same_limits(client, uri, music):
    good = next((music / "bells").glob("0-0*"))
    client.upload_file(str(good), "music", "tags/0-0.mp3")
    for name, make in ATTACKS.items():
        client.put_object(Bucket="music", Key=f"tags/{name}", Body=make())
    paths = [StoragePath.of(uri(f"music/tags/{name}")) for name in ("0-0.mp3", *ATTACKS, "absent.mp3")]
    assert read_tags([*paths, None], "artist") == [
        "bells 0",
        UnreadableTags("RecursionError"),
        UnreadableTags("TypeError"),
        None,
        None,
    ]


def test_a_file_that_is_never_sent_is_given_up_and_the_rest_is_read(music, monkeypatch):
    monkeypatch.setattr(tag_reading, "_START_SECONDS", 4.0)
    monkeypatch.setattr(tag_reading, "_FILE_SECONDS", 1.0)
    good = [StoragePath.of(path) for path in sorted((music / "bells").glob("*-0.*"))]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"s3://bucket/x.mp3?endpoint_override=http://127.0.0.1:{silent.getsockname()[1]}"
        found = read_tags([good[0], StoragePath.of(uri), *good[1:]], "artist")
    assert isinstance(found.pop(1), UnreadableTags)
    assert found == [f"bells {n}" for n in range(5)]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.mp3")
    assert read_tags([StoragePath.of(tmp_path / "x.mp3")], "artist") == [UnreadableTags("not a regular file")]
