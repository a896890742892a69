"""Tags of every container, and of files that attack the reader: only their own tags are lost."""

import io
import os
import shutil
import socket
import struct

import numpy as np
import pytest
from hostile.encoders import ape_tag, id3_tag, id3_text_frame, id3v1_tag, riff_chunk, riff_file, synchsafe
from support.audio import CODECS, encode, encode_with_tags
from support.collection import files_without_group
from support.hostile_tags import comments, compressed_id3, external_ape, huge_picture, many_comments, nested_mp4
from support.logs import logged

from benchmarks.waiting_bucket import requests, uri, waiting_bucket
from featurize.collection import tags
from featurize.collection.catalog import build_catalog
from featurize.collection.tags import UnreadableTags, read_tag
from featurize.config import FeaturizeConfig
from featurize.execution import tag_reading
from featurize.execution.tag_reading import read_tags
from featurize.planning.groups import add_tags, known_groups
from featurize.storage import StoragePath

ATTACKS = {"nested.m4a": nested_mp4, "external.ape": external_ape}


def test_attacks_are_reported_by_name_and_the_other_files_keep_their_groups(music, tmp_path):
    shutil.copytree(music, tmp_path / "music")
    for name, make in {**ATTACKS, "bomb.mp3": lambda: compressed_id3(600 << 20)}.items():
        (tmp_path / "music" / "bells" / name).write_bytes(make())
    catalog, config = build_catalog(str(tmp_path / "music")), FeaturizeConfig()
    groups = known_groups(catalog, config, None)
    with logged("featurize") as messages:
        done = add_tags(
            catalog,
            groups,
            read_tags(files_without_group(catalog, groups), config.group_by),
        )
    group_of = dict(zip(catalog.tracks["track"].to_pylist(), done.groups.to_pylist(), strict=True))
    attacked = {f"bells/{name}" for name in (*ATTACKS, "bomb.mp3")}
    assert {name: group_of.pop(name) for name in attacked} == {name: name for name in attacked}
    assert set(group_of.values()) == {f"{style} {n}" for style in ("bells", "reeds", "pulses") for n in range(5)}
    assert messages == [
        "The tags of 3 tracks are unreadable; each of them is its own group: 'bells/bomb.mp3' (not recognized), "
        "'bells/external.ape' (Invalid argument), 'bells/nested.m4a' (not recognized)."
    ]


@pytest.fixture(scope="module")
def mp3():
    return encode(0.3 * np.random.default_rng(0).standard_normal(22050), 22050, ".mp3")


@pytest.fixture(scope="module")
def wav():
    return encode(0.3 * np.random.default_rng(0).standard_normal(22050), 22050, ".wav")


@pytest.fixture
def tags_of(tmp_path):
    """A function that returns the artist and the album of the bytes of a file."""

    def read(content, name="x"):
        (tmp_path / name).write_bytes(content)
        return tuple(read_tag(StoragePath.of(tmp_path / name), tag) for tag in ("artist", "album"))

    return read


NAMES = {"artist": "Sigur  Ro\u0301s", "album": "\u00c1g\u00e6tis Byrjun", "album_artist": "Somebody"}
READ = ("sigur r\u00f3s", "\u00e1g\u00e6tis byrjun")


@pytest.mark.parametrize("suffix", sorted({*CODECS} - {".aiff"}))
def test_artist_and_album_are_read_from_every_container(suffix, tags_of):
    content = encode_with_tags(suffix, NAMES)
    assert tags_of(content) == READ
    assert tags_of(encode_with_tags(suffix, {"title": "A Title"})) == (None, None)
    if suffix != ".wav":  # RIFF has no such field
        assert tags_of(encode_with_tags(suffix, {"album_artist": "Some Body"}))[0] in ("some body", None)


def test_the_author_of_aiff_is_its_artist(tags_of):
    samples = 0.3 * np.random.default_rng(0).standard_normal(22050)
    assert tags_of(encode(samples, 22050, ".aiff", "An Author"))[0] == "an author"


def test_several_values_are_joined_as_one_group(tags_of, mp3):
    text = id3_text_frame(b"TPE1", b"  The One\0The Two ") + id3_text_frame(b"TALB", b"A")
    assert tags_of(id3_tag(text) + mp3) == ("the one; the two", "a")
    assert tags_of(comments("artist=The One", "ARTIST=The Two", "album=A")) == ("the one; the two", "a")
    assert tags_of(mp3 + ape_tag(1, b"The One\0The Two"))[0] == "the one; the two"
    # ID3v1 has 30 characters of the first.
    assert tags_of(mp3 + ape_tag(1, b"The One\0The Two") + id3v1_tag())[0] == "the one; the two"


def _id3_v2_2(encoding, text):
    frame = b"TP1" + struct.pack(">I", len(text) + 1)[1:] + encoding + text
    return b"ID3\x02\0\0" + synchsafe(len(frame)) + frame


def _id3_v2_3(encoding, text, flags=0):
    frames = b"TIT2" + struct.pack(">I", 5) + b"\0\0" + b"\x01\xff\xfeA\0"
    frames += b"TPE1" + struct.pack(">I", len(text) + 1) + b"\0\0" + encoding + text
    if flags & 0x80:
        frames = frames.replace(b"\xff", b"\xff\0")
    if flags & 0x40:
        frames = struct.pack(">I", 6) + bytes(6) + frames
    return b"ID3\x03\0" + bytes([flags]) + synchsafe(len(frames)) + frames


UTF16 = "\ufeffBj\u00f6rk".encode("utf-16-le")


@pytest.mark.parametrize(
    ("tag", "artist"),
    [
        (_id3_v2_2(b"\0", b"Bj\xf6rk"), "bj\u00f6rk"),
        (_id3_v2_2(b"\x01", UTF16), "bj\u00f6rk"),
        (_id3_v2_3(b"\x01", UTF16), "bj\u00f6rk"),
        (_id3_v2_3(b"\x01", "\ufeffBj\u00f6rk".encode("utf-16-be")), "bj\u00f6rk"),
        (_id3_v2_3(b"\x01", UTF16, 0x80), "bj\u00f6rk"),
        (_id3_v2_3(b"\x01", UTF16, 0x40), "bj\u00f6rk"),
        (_id3_v2_3(b"\0", b"Guns N\x92 Roses"), "guns n\u2019 roses"),
        (_id3_v2_3(b"\0", "Bj\u00f6rk".encode()), "bj\u00f6rk"),
        (_id3_v2_3(b"\0", b"AC/DC"), "ac/dc"),
        (id3_tag(id3_text_frame(b"TPE2", b"The Band")), "the band"),
        (id3_tag(id3_text_frame(b"TPE2", b"Various") + id3_text_frame(b"TPE1", b"Nina")), "nina"),
        (id3_tag(b"TPE1" + synchsafe(9) + b"\0\x01" + synchsafe(5) + b"\x03Nina"), "nina"),
        (id3_tag(b"TPE1" + synchsafe(6) + b"\0\x02" + b"\x01\xff\0\xfeN\0"), "n"),
        (id3_tag(b"APIC" + struct.pack(">I", 300) + bytes(302) + id3_text_frame(b"TPE1", b"Nina")), "nina"),
        (id3_tag(b"APIC" + synchsafe(300) + bytes(302) + id3_text_frame(b"TPE1", b"Nina")), "nina"),
        (id3_tag(id3_text_frame(b"TPE1", b"")), None),
        (id3_tag(b"TPE1\x7f\x7f\x7f\x7f\0\0\x03Nina"), None),
        (id3_tag(b""), None),
    ],
)
def test_id3_in_all_its_versions(tag, artist, tags_of, mp3):
    assert tags_of(tag + mp3)[0] == artist


def test_text_without_an_encoding_is_that_of_windows_unless_it_is_utf8(tags_of, mp3, wav):
    id3v1 = b"TAG" + bytes(30) + b"Bj\xf6rk".ljust(30) + b"Alb\xfam".ljust(30) + bytes(35)
    assert tags_of(mp3 + id3v1) == ("bj\u00f6rk", "alb\u00fam")
    for text in (b"Bj\xf6rk", "Bj\u00f6rk".encode()):
        info = riff_chunk(b"LIST", b"INFO" + riff_chunk(b"IART", text + b"\0"))
        assert tags_of(riff_file(wav[12:] + info))[0] == "bj\u00f6rk"
    id3 = id3_tag(id3_text_frame(b"TPE1", b"Nina"))
    assert tags_of(riff_file(wav[12:] + riff_chunk(b"id3 ", id3)))[0] == "nina"


@pytest.mark.parametrize("content", [b"", b"x", b"no audio " * 1000, bytes(100_000), b"RIFF\xff\xff\xff\xffWAVE"])
def test_tags_of_what_is_no_audio_are_unreadable_and_not_absent(content, tags_of):
    assert tags_of(content, "x.mp3")[0] == UnreadableTags("not recognized")


def test_a_file_in_a_bucket_takes_few_requests(mp3, wav, tmp_path):
    picture = b"APIC" + synchsafe(2 << 20) + bytes(2 + (2 << 20))
    id3 = id3_text_frame(b"TPE1", b"Nina") + picture
    info = riff_chunk(b"LIST", b"INFO" + riff_chunk(b"IART", b"Nina\0"))
    music = b"fmt " + riff_file(riff_chunk(b"data", bytes(8 << 20)) + info)
    most = {
        "first.mp3": (id3_tag(id3) + mp3, 1),
        "behind a picture.mp3": (id3_tag(picture + id3) + mp3, 2),
        "end.mp3": (mp3 * 40 + id3v1_tag(), 2),
        "ape.mp3": (mp3 * 40 + ape_tag(1, b"Nina"), 2),
        "x.flac": (encode_with_tags(".flac", NAMES), 1),
        "x.m4a": (encode_with_tags(".m4a", NAMES), 1),
        "x.ogg": (encode_with_tags(".ogg", NAMES), 1),
        "x.wav": (riff_file(wav[12:36] + music[16:]), 3),
    }
    for name, (content, _) in most.items():
        (tmp_path / name).write_bytes(content)
    with waiting_bucket(tmp_path, 0) as address:
        for name, (_, gets) in most.items():
            before = requests(address)
            assert isinstance(read_tag(StoragePath.of(uri(address, name)), "artist"), str)
            spent = requests(address) - before
            assert spent["HEAD"] == 1, name
            assert spent["GET"] <= gets, (name, spent)
            assert spent["bytes"] <= gets * (64 << 10) + 200, name  # and the answers about requests


@pytest.mark.parametrize("make", [many_comments, huge_picture])
def test_sizes_that_a_file_only_claims_cost_nothing(make, tmp_path):
    path = tmp_path / "x.flac"
    path.write_bytes(make())
    assert not isinstance(read_tags([StoragePath.of(path)], "artist")[0], str)


def test_no_more_than_a_limit_is_read_of_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("featurize.collection.tags._MOST_BYTES", 1 << 20)
    (tmp_path / "x.mp3").write_bytes(b"ID3\x03\0\x80" + synchsafe(3 << 20) + bytes(3 << 20))
    assert read_tag(StoragePath.of(tmp_path / "x.mp3"), "artist") == UnreadableTags("more than 1 MiB")


def test_a_file_ends_at_the_limit_without_an_error(monkeypatch):
    monkeypatch.setattr("featurize.collection.tags._MOST_BYTES", 1 << 10)
    limited = tags._LimitedFile(io.BytesIO(bytes(1 << 20)))
    assert [len(limited.read(300)) for _ in range(5)] == [300, 300, 300, 0, 0]
    limited.seek(0)
    assert limited.read(300) == b""  # FFmpeg would try an error again and again
    assert limited.exhausted


def test_files_in_a_bucket_are_read_with_the_same_limits(client, uri, music):
    good = next((music / "bells").glob("0-0*"))
    client.upload_file(str(good), "music", "tags/0-0.mp3")
    for name, make in ATTACKS.items():
        client.put_object(Bucket="music", Key=f"tags/{name}", Body=make())
    paths = [StoragePath.of(uri(f"music/tags/{name}")) for name in ("0-0.mp3", *ATTACKS, "absent.mp3")]
    assert read_tags([*paths, None], "artist") == [
        "bells 0",
        UnreadableTags("not recognized"),
        UnreadableTags("Invalid argument"),
        UnreadableTags("missing"),
        None,
    ]


@pytest.mark.slow
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


def test_an_id3v1_tag_has_what_the_id3v2_tag_lacks(tags_of, mp3):
    old = (
        b"TAG"
        + b"Title".ljust(30)
        + "Bj\u00f6rk".encode("latin-1").ljust(30)
        + b"Debut".ljust(30, b"\0")
        + bytes(35)
    )
    assert tags_of(id3_tag(id3_text_frame(b"TIT2", b"Title")) + mp3 + old) == ("bj\u00f6rk", "debut")
    assert tags_of(id3_tag(id3_text_frame(b"TPE1", b"Other")) + mp3 + old) == ("other", "debut")
    assert tags_of(id3_tag(id3_text_frame(b"TIT2", b"Title")) + mp3) == (None, None)
