"""Other files with audio suffixes, rare formats, extreme levels and lengths, invalid tags, unusual names."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np

from hostile.encoders import (
    FLOAT,
    MULAW,
    PCM_GUID,
    RATE,
    ape_tag,
    encode_mp3,
    encode_samples,
    encode_tune,
    extensible_wav,
    float_wav,
    fmt_chunk,
    id3_tag,
    id3_text_frame,
    id3v1_tag,
    make_noise,
    make_steps,
    make_tune,
    patched,
    riff_chunk,
    riff_file,
    synchsafe,
    to_pcm8,
    to_pcm16,
    to_pcm24,
    wav_file,
    with_tags,
)
from hostile.verdicts import (
    CANCELED,
    EMPTY,
    LONG,
    NOT_FINITE,
    ROWS,
    SHORT,
    SILENT,
    UNDECODABLE,
    Entry,
)

SHORTEST = 110592  # samples at 22,050 Hz: one segment
LONGEST = 14400  # seconds


def other_files() -> Iterator[Entry]:
    """Files that are not audio, with audio suffixes."""
    noise = make_noise(20_000)
    page = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>No such track</body></html>\n"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 4812345\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("track.wav"), wav_file(to_pcm16(make_tune(RATE, seconds=1))))
    picture = [b"IHDR" + struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)]
    picture += [b"IDAT" + zlib.compress(bytes(64 * 193)), b"IEND"]
    for name, content in {
        "text.mp3": b"# Liner notes\n\nRecorded in one night.\n" * 50,
        "text utf-16.wav": ("\ufeff" + "Liner notes, recorded in one night.\n" * 50).encode("utf-16-le"),
        "page.mp3": page * 20,
        "json.flac": b'{"error": {"code": 403, "message": "The token has expired."}}',
        "playlist.mp3": b"#EXTM3U\n#EXTINF:215,Somebody - Something\nhttp://example.org/stream.mp3\n",
        "git lfs pointer.flac": pointer,
        "script.wav": b"#!/bin/sh\nexit 1\n",
        "photo.mp3": b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0" + noise + b"\xff\xd9",
        "cover.ogg": b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in picture
        ),
        "archive.flac": archive.getvalue(),
        "gzip.wav": gzip.compress(wav_file(to_pcm16(make_tune(RATE, seconds=1))), mtime=0),
        "program.aiff": b"\x7fELF\x02\x01\x01" + bytes(9) + noise,
        "library.opus": b"SQLite format 3\0\x10\0\x01\x01\0\x40\x20\x20" + bytes(4076),
        "midi.wav": b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk\0\0\0\x04\0\xff\x2f\0",
        "book.aif": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + noise,
        "film.mp3": b"\0\0\x01\xba\x44\0\x04\0\x04\x01\0\0\x03\xf8" + noise,
        "film.wav": b"RIFF" + struct.pack("<I", 20_004) + b"AVI " + noise,
        "picture.wav": b"RIFF" + struct.pack("<I", 20_004) + b"WEBPVP8 " + noise[:-4],
        "resource fork.mp3": b"\0\x05\x16\x07\0\x02\0\0Mac OS X        \0\x02\0\0\0\x09" + noise[:4000],
        "zeros.mp3": bytes(50_000),
        "ones.mp3": b"\xff" * 50_000,  # each byte could start a frame
        "frame beginnings.mp3": b"\xff\xfb" * 25_000,
        "noise.mp3": noise,
        "noise.opus": noise,
        "no header.wav": to_pcm16(make_tune(RATE)),
        "one byte.mp3": b"\xff",
        "one byte.wav": b"R",
        "four bytes.wav": b"RIFF",
        "four bytes.ogg": b"OggS",
        "four bytes.flac": b"fLaC",
        "only id3.mp3": id3_tag(id3_text_frame(b"TPE1", b"Somebody")),
    }.items():
        yield f"other/{name}", content, UNDECODABLE
    for name in ("empty.mp3", "empty.wav", "empty.m4a"):
        yield f"other/{name}", b"", EMPTY
    yield "other/sealed.m4a", b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42\0\0\x4e\x28mdat" + noise, UNDECODABLE
    yield "other/page.wma", page, UNDECODABLE
    yield "other/monkey.ape", b"MAC \x96\x0f\0\0" + noise, UNDECODABLE
    yield "other/wavpack.wv", b"wvpk\x20\x4e\0\0\x10\x04\0\0" + noise, UNDECODABLE
    yield "other/adts.AAC", b"\xff\xf1\x50\x80\x20\x1f\xfc" + noise, UNDECODABLE


def good_files() -> Iterator[Entry]:
    """Valid audio in rare formats."""
    tune = make_tune(RATE)
    for name, content in {
        "u8.wav": wav_file(to_pcm8(tune), bits=8),
        "pcm 24.wav": wav_file(to_pcm24(tune), bits=24),
        "pcm 32.wav": wav_file((tune * 2**31).astype("<i4").tobytes(), bits=32),
        "float.wav": float_wav(tune),
        "double.wav": wav_file(tune.astype("<f8").tobytes(), tag=FLOAT, bits=64),
        "a-law.wav": encode_tune("WAV", "ALAW"),
        "mu-law.wav": encode_tune("WAV", "ULAW"),
        "ima adpcm.wav": encode_tune("WAV", "IMA_ADPCM"),
        "ms adpcm.wav": encode_tune("WAV", "MS_ADPCM", channels=2),
        "gsm.wav": encode_tune("WAV", "GSM610", 8000),
        "g721.wav": encode_tune("AU", "G721_32", 8000),
        "extensible.wav": extensible_wav(to_pcm16(tune), PCM_GUID),
        "eight channels.wav": wav_file(to_pcm8(make_tune(RATE, 8)), channels=8, bits=8),
        "two channels, odd rate.wav": wav_file(to_pcm8(make_tune(11127, 2)), channels=2, rate=11127, bits=8),
        "1 kHz.wav": wav_file(to_pcm16(make_tune(1000)), rate=1000),
        "4 kHz.wav": wav_file(to_pcm16(make_tune(4000)), rate=4000),
        "192 kHz.wav": wav_file(to_pcm8(make_tune(192_000, seconds=5.2)), rate=192_000, bits=8),
        "655,350 Hz.flac": encode_samples(make_steps(6 * 655_350), 655_350, "FLAC", "PCM_16"),
        "rf64.wav": encode_tune("RF64", "PCM_U8"),
        "wave 64.wav": encode_tune("W64", "PCM_U8"),
        "au.wav": encode_tune("AU", "ULAW"),
        "caf.wav": encode_tune("CAF", "ALAW"),
        "caf alac.wav": encode_tune("CAF", "ALAC_16"),
        "mp3 in wav.wav": riff_file(
            fmt_chunk(0x55, rate=44100, bits=0, more=struct.pack("<HHIHHH", 12, 1, 2, 417, 1, 1393))
            + riff_chunk(b"data", encode_mp3())
        ),
        "voc.wav": encode_tune("VOC", "PCM_U8"),
        "nist.wav": encode_tune("NIST", "ULAW", 8000),
        "avr.wav": encode_tune("AVR", "PCM_U8"),
        "amiga.aiff": encode_tune("SVX", "PCM_S8"),
        "paris.aif": encode_tune("PAF", "PCM_S8"),
        "ircam.aiff": encode_tune("IRCAM", "ULAW"),
        "matlab.wav": encode_tune("MAT4", "PCM_16", 8000),
        "htk.wav": encode_tune("HTK", "PCM_16", 8000),
        "sample dump.wav": encode_tune("SDS", "PCM_S8", 8000),
        "aifc.aifc": encode_tune("AIFF", "ULAW"),
        "u8.aif": encode_tune("AIFF", "PCM_U8"),
        "stereo.oga": encode_tune("OGG", "VORBIS", 44100, 2),
        "narrow band.opus": encode_tune("OGG", "OPUS", 8000),
        "eight channels.flac": encode_tune("FLAC", "PCM_16", 4000, 8),
        "8 kHz.mp3": encode_tune("MP3", "MPEG_LAYER_III", 8000),
        "48 kHz, stereo.mp3": encode_tune("MP3", "MPEG_LAYER_III", 48000, 2),
        "variable bit rate.mp3": encode_tune("MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE"),
        "flac.mp3": encode_tune("FLAC", "PCM_16"),
        "ogg.mp3": encode_tune("OGG", "VORBIS"),
        "wav.ogg": wav_file(to_pcm8(tune), bits=8),
        "mp3.wav": encode_mp3(),
        "mp3.flac": encode_mp3(),
        "opus.flac": encode_tune("OGG", "OPUS", 48000),
        "aiff.wav": encode_tune("AIFF", "PCM_S8"),
        "wav.m4a": wav_file(to_pcm8(tune), bits=8),
        "mp3.wma": encode_mp3(),
        "UPPER CASE.WAV": wav_file(to_pcm8(tune), bits=8),
    }.items():
        yield f"formats/{name}", content, ROWS


def levels() -> Iterator[Entry]:
    """Extreme levels: not finite, very loud, very quiet, silent, constant."""
    tune = make_tune(RATE, seconds=5.2)
    silence = np.zeros_like(tune)
    stereo = np.stack([tune, -tune], axis=1)
    for name, content, verdict in [
        ("nan.wav", float_wav(silence * np.nan), NOT_FINITE),
        ("one nan at the end.wav", float_wav(with_value(tune, -1, np.nan)), NOT_FINITE),
        (
            "one nan at the end, 22,050 Hz.wav",
            float_wav(with_value(make_tune(22050, seconds=5.2), -1, np.nan), 22050),
            NOT_FINITE,
        ),
        ("nan in one of two channels.wav", float_wav(with_value(stereo, (-1, 1), np.nan)), NOT_FINITE),
        ("inf.wav", float_wav(with_value(tune, 20_000, np.inf)), NOT_FINITE),
        ("-inf.wav", float_wav(with_value(tune, 0, -np.inf)), NOT_FINITE),
        ("inf and -inf.wav", float_wav(stereo * np.inf), NOT_FINITE),
        ("double of 1e300.wav", wav_file((tune.astype("<f8") * 1e300).tobytes(), tag=FLOAT, bits=64), NOT_FINITE),
        ("largest float.wav", float_wav(np.sign(tune) * np.finfo(np.float32).max), NOT_FINITE),
        ("1e30.wav", float_wav(tune * np.float32(1e30)), NOT_FINITE),
        ("one sample of 1e30.wav", float_wav(with_value(tune, 25_000, 1e30)), NOT_FINITE),
        ("1e17.wav", float_wav(tune * np.float32(1e17)), NOT_FINITE),
        ("1e12.wav", float_wav(tune * np.float32(1e12)), ROWS),
        ("integers as floats.wav", float_wav(np.round(tune * 30_000)), ROWS),
        ("constant.wav", float_wav(silence + 0.5), ROWS),
        ("constant -1.wav", wav_file(b"\0" * len(tune), bits=8), ROWS),
        ("constant above a tune.wav", float_wav(tune / 4 + 0.7), ROWS),
        ("clipped square.wav", wav_file(to_pcm16(np.sign(tune))), ROWS),
        ("white noise.wav", wav_file(make_noise(2 * len(tune))), ROWS),
        ("one click.wav", wav_file(to_pcm16(with_value(silence, 20_000, 0.9))), ROWS),
        ("one bit of 16.wav", wav_file(to_pcm16(silence + 2**-15)), ROWS),
        ("one bit of 24.wav", wav_file(to_pcm24(silence + 2**-23), bits=24), SILENT),
        ("2e-5.wav", float_wav(tune / np.abs(tune).max() * np.float32(2e-5)), ROWS),
        ("1e-7.wav", float_wav(tune * np.float32(1e-7)), SILENT),
        ("denormal.wav", float_wav(tune * np.float32(1e-40)), SILENT),
        ("denormal between sounds.wav", float_wav(tune * (np.arange(len(tune)) % 20_000 < 3999) + 1e-40), ROWS),
        ("zeros.wav", wav_file(bytes(len(tune) * 2)), SILENT),
        ("zeros.flac", encode_samples(silence, RATE, "FLAC", "PCM_16"), SILENT),
        ("zeros.ogg", encode_samples(silence, RATE, "OGG", "VORBIS"), SILENT),
        ("zeros.mp3", encode_samples(silence, RATE, "MP3", "MPEG_LAYER_III"), SILENT),
        ("sides that cancel.wav", float_wav(stereo), CANCELED),
        ("one side of two.wav", wav_file(to_pcm8(stereo * [1, 0]), channels=2, bits=8), ROWS),
        ("sound only at the end.wav", wav_file(to_pcm8(tune * (np.arange(len(tune)) > 38_000)), bits=8), ROWS),
    ]:
        yield f"levels/{name}", content, verdict


def lengths() -> Iterator[Entry]:
    """Lengths at and beyond the limits, in samples at 22,050 Hz and in seconds."""
    for rate, least in [(22050, SHORTEST), (44100, 2 * SHORTEST - 1), (8000, 40_124)]:
        tune = to_pcm8(make_tune(rate))
        yield f"lengths/{rate} Hz, just enough.wav", wav_file(tune[:least], rate=rate, bits=8), ROWS
        yield f"lengths/{rate} Hz, one less.wav", wav_file(tune[: least - 1], rate=rate, bits=8), SHORT
    tune = make_tune(22050)
    yield "lengths/just enough.flac", encode_samples(tune[:SHORTEST], 22050, "FLAC", "PCM_16"), ROWS
    yield "lengths/one less.flac", encode_samples(tune[: SHORTEST - 1], 22050, "FLAC", "PCM_16"), SHORT
    yield "lengths/one sample.wav", wav_file(b"\xff", bits=8), SHORT
    yield "lengths/one sample.flac", encode_samples(tune[:1], 22050, "FLAC", "PCM_16"), SHORT
    yield "lengths/one sample, 192 kHz.wav", wav_file(b"\xff", rate=192_000, bits=8), SHORT
    yield "lengths/no samples.wav", wav_file(b"", bits=8), SHORT
    yield "lengths/no samples.aiff", encode_samples(tune[:0], 22050, "AIFF", "PCM_S8"), SHORT
    yield "lengths/a second.mp3", encode_tune("MP3", "MPEG_LAYER_III", seconds=1), SHORT
    yield "lengths/a second.ogg", encode_tune("OGG", "VORBIS", seconds=1), SHORT
    # Hours in small files: a low rate, or steps that FLAC encodes as constant blocks.
    too_long = LONGEST + 1
    yield "lengths/four hours.wav", wav_file(make_noise(100 * too_long), tag=MULAW, rate=100, bits=8), LONG
    yield "lengths/four hours.flac", encode_samples(make_steps(1000 * too_long), 1000, "FLAC", "PCM_16"), LONG
    steps = np.repeat(make_steps(200 * too_long)[:, None], 8, axis=1)
    yield "lengths/four hours, eight channels.flac", encode_samples(steps, 200, "FLAC", "PCM_16"), LONG


def tags() -> Iterator[Entry]:
    """Valid audio with invalid or extreme tags, which are read to group tracks."""
    mp3, flac = encode_mp3(), encode_tune("FLAC", "PCM_16")
    # Some readers take minutes for twenty times as many.
    nothings = zlib.compress(bytes(100_000))
    for name, tag in {
        "id3.mp3": id3_tag(id3_text_frame(b"TPE1", b"Somebody")),
        "id3, artist of 200 kB.mp3": id3_tag(id3_text_frame(b"TPE1", b"x" * 200_000)),
        "id3, artist of nothing.mp3": id3_tag(id3_text_frame(b"TPE1", b"")),
        "id3, artist with markup.mp3": id3_tag(id3_text_frame(b"TPE1", b"<b>[/red]{0}%s\0\x1b[2J")),
        "id3, not utf-8.mp3": id3_tag(b"TPE1\0\0\0\x05\0\0\x03\xff\xfe\x80\xc0"),
        "id3, half of utf-16.mp3": id3_tag(b"TPE1\0\0\0\x06\0\0\x01\xff\xfe\x3d\xd8\x3d"),
        "id3, wrong frame size.mp3": id3_tag(b"TPE1\x7f\x7f\x7f\x7f\0\0\x03Somebody"),
        "id3, unknown encoding.mp3": id3_tag(b"TPE1\0\0\0\x03\0\0\x99ab"),
        "id3, a hundred thousand artists.mp3": id3_tag(
            b"TPE1" + synchsafe(len(nothings) + 4) + b"\0\x09" + synchsafe(9) + nothings
        ),
    }.items():
        yield f"tags/{name}", tag + mp3, ROWS
    yield "tags/id3, version 9.mp3", b"ID3\x09" + with_tags(mp3)[4:], ROWS
    yield "tags/id3v1.mp3", mp3 + id3v1_tag(), ROWS
    yield "tags/id3v1, not utf-8.mp3", mp3 + b"TAG" + b"\xff" * 125, ROWS
    yield "tags/ape.mp3", mp3 + ape_tag(1, b"Somebody"), ROWS
    yield "tags/ape, wrong number of items.mp3", mp3 + ape_tag(2**32 - 1, b"Somebody"), ROWS
    yield "tags/id3 before.flac", id3_tag(id3_text_frame(b"TPE1", b"Somebody")) + flac, ROWS
    yield "tags/id3v1 after.flac", flac + id3v1_tag(), ROWS
    # libsndfile writes a Vorbis comment after STREAMINFO: vendor string, then number of comments.
    vendor = 46 + 4 + int.from_bytes(flac[46:50], "little")
    yield "tags/2^32-1 comments.flac", patched(flac, vendor, b"\xff" * 4), ROWS
    yield "tags/vendor of 4 GB.flac", patched(flac, 46, b"\xff" * 4), ROWS
    wav = wav_file(to_pcm8(make_tune(RATE)), bits=8)
    yield "tags/id3 of 4 GB.wav", wav + b"id3 \xff\xff\xff\xffID3\x04", ROWS
    yield "tags/list of nonsense.wav", wav + riff_chunk(b"LIST", b"INFOIART\xff\xff\xff\x7fSome"), ROWS


def names() -> Iterator[Entry]:
    """Names that break a shell, a report, a table or a terminal; every other file becomes a reject."""
    good = encode_tune("OGG", "VORBIS", 8000)
    for i, name in enumerate(
        [
            "with  spaces .ogg",
            "'single' \"double\" `back`.ogg",
            "new\nline.ogg",
            "carriage\rreturn\ttab.ogg",
            "\x1b[31mred\x1b[0m\x07.ogg",
            "😀 🎸.ogg",
            "é" * 110 + ".ogg",
            "x" * 251 + ".ogg",
            "-rf.ogg",
            "--help.ogg",
            "100%s %d %n %00.ogg",
            "<script>alert(1)</script>.ogg",  # a path with a subfolder
            "<img src=x onerror=alert(1)>&amp;.ogg",
            "[red]rich[/].ogg",
            "[bold]markup[_].ogg",
            "{braces} {0}.ogg",
            "$(reboot); $HOME & | >.ogg",
            "* ? [a-z] !.ogg",
            "back\\slash \\n \\x41.ogg",
            "C:\\music\\track.ogg",
            "=1+1,@SUM(1),;comma.ogg",
            "caf\u00e9.ogg",
            "cafe\u0301.ogg",
            "right to left \u202e3pm.ogg",
            "line\u2028separator \u0085.ogg",
            "zero\u200bwidth \ufeff.ogg",
            "not utf-8 \udcff\udcfe.ogg",
            "half \udce2\udc82.ogg",
            "CON.ogg",
            "none null nan.ogg",
            "~.ogg",
            "dots.......ogg",
        ]
    ):
        yield f"names/{name}", *((good[:40], UNDECODABLE) if i % 2 else (good, ROWS))
    yield "names/a folder like a track.mp3/track.ogg", good, ROWS
    yield "names/" + "deep/" * 40 + "track.ogg", good, ROWS
    yield "class \udce9 <b>[/]\n/track.ogg", good, ROWS
    yield "class \udce9 <b>[/]\n/no track.ogg", good[:40], UNDECODABLE


def with_value(samples: np.ndarray, index: int | tuple[int, int], value: float) -> np.ndarray:
    changed = samples.copy()
    changed[index] = value
    return changed
