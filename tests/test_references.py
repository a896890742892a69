"""Audio files open nothing that their content names, neither files nor hosts; limits on channels and streams."""

import contextlib
import ctypes
import os
import select
import socket
import struct

import pytest
from hostile.encoders import encode_mp3, wav_file
from hostile.references import encode_av, referring_files

from featurize.audio.av_decoder import MOST_STREAMS
from featurize.audio.decoders import MOST_CHANNELS
from featurize.audio.load import decode, load
from featurize.audio.sndfile_decoder import SndfileDecoder
from featurize.audio.source import BytesSource
from featurize.config import FeaturizeConfig
from featurize.errors import Reject
from featurize.planning.shard_plan import feature_settings
from featurize.storage import StoragePath

SETTINGS = feature_settings(FeaturizeConfig())
IN_OPEN = 0x20


@pytest.fixture
def listener():
    """Port of loopback with TCP and UDP, on which nothing may arrive."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        port = tcp.getsockname()[1]
        udp.bind(("127.0.0.1", port))
        yield port
        assert select.select([tcp, udp], [], [], 0)[0] == []


@contextlib.contextmanager
def nothing_opened(folder):
    """Fail if any file of a folder is opened meanwhile, by whatever process."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert watch >= 0
    assert libc.inotify_add_watch(watch, os.fsencode(folder), IN_OPEN) >= 0
    try:
        yield
        with contextlib.suppress(BlockingIOError):
            event = os.read(watch, 4096)
            length = struct.unpack_from("iIII", event)[3]
            pytest.fail(f"opened: {event[16 : 16 + length].rstrip(bytes(1))!r}")
    finally:
        os.close(watch)


def test_opening_a_file_is_noticed(tmp_path):
    (tmp_path / "target").write_text("x")
    with pytest.raises(pytest.fail.Exception, match="target"), nothing_opened(tmp_path):
        (tmp_path / "target").read_text()


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".mka"])
def test_what_a_file_names_is_not_opened(suffix, tmp_path, listener, monkeypatch):
    targets = tmp_path / "targets"
    targets.mkdir()
    target = targets / "private.mp3"
    target.write_bytes(encode_mp3())
    (targets / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n"
    )
    monkeypatch.chdir(targets)
    (targets / "1.png").write_bytes(b"\x89PNG")
    (tmp_path / "music").mkdir()
    files = list(referring_files(target, listener))
    assert len(files) >= 30
    for kind, content in files:
        path = tmp_path / "music" / f"file{suffix}"
        path.write_bytes(content)
        with nothing_opened(targets), pytest.raises(Reject) as caught:
            load(StoragePath.of(path), SETTINGS)
        # The samples of the QuickTime file are read from the file itself, in which they are something else.
        assert caught.value.stage in ("decode", "check"), kind


def test_more_channels_than_the_limit_are_refused():
    loud = wav_file(bytes(range(100)) * 4000, channels=MOST_CHANNELS + 1, bits=8)
    with pytest.raises(Reject, match="not decodable"):
        decode(BytesSource(loud), SETTINGS)
    SndfileDecoder(BytesSource(wav_file(bytes(MOST_CHANNELS * 100), channels=MOST_CHANNELS, bits=8))).close()


def test_more_channels_than_the_limit_are_refused_by_ffmpeg(tmp_path):
    caf = bytearray(encode_av(tmp_path / "x.caf", "caf", "pcm_s16be"))
    # Description chunk: rate, format, flags, bytes per packet, frames per packet, channels, bits.
    at = caf.index(b"lpcm") + 8
    caf[at : at + 16] = struct.pack(">IIII", 2 * 2000, 1, 2000, 16)
    with pytest.raises(Reject, match="not decodable"):
        decode(BytesSource(bytes(caf)), SETTINGS)


def test_more_streams_than_the_limit_are_refused(tmp_path):
    content = encode_av(tmp_path / "x.mka", "matroska", "pcm_s16le", MOST_STREAMS + 1)
    with pytest.raises(Reject, match="65 streams, expected at most 64"):
        decode(BytesSource(content), SETTINGS)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("ipod", "aac"),
        ("mp4", "alac"),
        ("adts", "aac"),
        ("matroska", "aac"),
        ("asf", "wmav2"),
        ("ac3", "ac3"),
        ("wv", "wavpack"),
        ("tta", "tta"),
        ("mpegts", "mp2"),
        ("avi", "mp2"),
    ],
)
def test_music_in_the_formats_of_ffmpeg_is_still_read(container, codec, tmp_path):
    path = tmp_path / "music"
    encode_av(path, container, codec, rate=32000)
    assert len(load(StoragePath.of(path), SETTINGS)) > 5 * SETTINGS.sample_rate
