"""A collection of everything that should not be in a collection of music, and what must become of each file.

Accidents of many years and a little malice: other files under audio names, interrupted copies, headers that
lie, levels and names that nobody expects. The same bytes on every machine that has the same libsndfile.
"""

import functools
import gzip
import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

Verdict = tuple[str, str] | None
# A relative path, what to write there, and what must become of it.
Entry = tuple[str, bytes, Verdict]

ROWS: Verdict = None
MISSING = ("open", "missing")
EMPTY = ("open", "empty")
UNDECODABLE = ("decode", "not decodable")
NEEDS_PYAV = ("decode", "needs PyAV")
SHORT = ("check", "too short")
SILENT = ("check", "silent")
NOT_FINITE = ("check", "not finite")
LONG = ("check", "too long")

RATE = 8000
SHORTEST = 110592  # samples at 22,050 Hz: one segment
LONGEST = 14400  # seconds

# Format tags of WAV.
PCM, FLOAT, ALAW, MULAW, AAC, EXTENSIBLE = 1, 3, 6, 7, 0xFF, 0xFFFE
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")


def write_hostile(folder: Path) -> dict[str, Verdict]:
    """Write files that a music collection may hold by accident or malice, in a subfolder for each kind.

    Args:
        folder: where to write them.

    Returns:
        For each relative path, with bytes that are not UTF-8 escaped as a catalog does it, what must become of
        it: None for rows, else the stage and the reason of its rejection.
    """
    verdicts = {}
    entries = itertools.chain(
        _other_files(), _formats(), _damaged(), _lies(), _levels(), _lengths(), _tags(), _names()
    )
    for name, content, verdict in entries:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        verdicts[name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")] = verdict
    for name, target, verdict in [
        ("links/good.wav", "../formats/u8.wav", ROWS),
        ("links/good.mp3", "good.wav", ROWS),  # a link to a link, whose suffix is wrong too
        ("links/broken.mp3", "unplugged disk/track.mp3", MISSING),
        ("links/broken.m4a", "unplugged disk/track.m4a", MISSING),
    ]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)
        verdicts[name] = verdict
    return verdicts


def _other_files() -> Iterator[Entry]:
    """No audio, but the suffix of it."""
    noise = _noise(20_000)
    page = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>No such track</body></html>\n"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 4812345\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("track.wav"), _wav(_pcm16(_tune(RATE, seconds=1))))
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
        "gzip.wav": gzip.compress(_wav(_pcm16(_tune(RATE, seconds=1))), mtime=0),
        "program.aiff": b"\x7fELF\x02\x01\x01" + bytes(9) + noise,
        "library.opus": b"SQLite format 3\0\x10\0\x01\x01\0\x40\x20\x20" + bytes(4076),
        "midi.wav": b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk\0\0\0\x04\0\xff\x2f\0",
        "book.aif": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + noise,
        "film.mp3": b"\0\0\x01\xba\x44\0\x04\0\x04\x01\0\0\x03\xf8" + noise,
        "film.wav": b"RIFF" + struct.pack("<I", 20_004) + b"AVI " + noise,
        "picture.wav": b"RIFF" + struct.pack("<I", 20_004) + b"WEBPVP8 " + noise[:-4],
        "resource fork.mp3": b"\0\x05\x16\x07\0\x02\0\0Mac OS X        \0\x02\0\0\0\x09" + noise[:4000],
        "zeros.mp3": bytes(50_000),
        "ones.mp3": b"\xff" * 50_000,  # each byte could be the beginning of a frame
        "frame beginnings.mp3": b"\xff\xfb" * 25_000,
        "noise.mp3": noise,
        "noise.opus": noise,
        "no header.wav": _pcm16(_tune(RATE)),
        "one byte.mp3": b"\xff",
        "one byte.wav": b"R",
        "four bytes.wav": b"RIFF",
        "four bytes.ogg": b"OggS",
        "four bytes.flac": b"fLaC",
        "only id3.mp3": _id3(_text_frame(b"TPE1", b"Somebody")),
    }.items():
        yield f"other/{name}", content, UNDECODABLE
    for name in ("empty.mp3", "empty.wav", "empty.m4a"):
        yield f"other/{name}", b"", EMPTY
    # Nor would PyAV find anything in these: without it nobody can tell.
    yield "other/sealed.m4a", b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42\0\0\x4e\x28mdat" + noise, NEEDS_PYAV
    yield "other/page.wma", page, NEEDS_PYAV
    yield "other/monkey.ape", b"MAC \x96\x0f\0\0" + noise, NEEDS_PYAV
    yield "other/wavpack.wv", b"wvpk\x20\x4e\0\0\x10\x04\0\0" + noise, NEEDS_PYAV
    yield "other/adts.AAC", b"\xff\xf1\x50\x80\x20\x1f\xfc" + noise, NEEDS_PYAV


def _formats() -> Iterator[Entry]:
    """Audio as it should be, though not as it mostly is."""
    tune = _tune(RATE)
    for name, content in {
        "u8.wav": _wav(_pcm8(tune), bits=8),
        "pcm 24.wav": _wav(_pcm24(tune), bits=24),
        "pcm 32.wav": _wav((tune * 2**31).astype("<i4").tobytes(), bits=32),
        "float.wav": _float_wav(tune),
        "double.wav": _wav(tune.astype("<f8").tobytes(), tag=FLOAT, bits=64),
        "a-law.wav": _coded("WAV", "ALAW"),
        "mu-law.wav": _coded("WAV", "ULAW"),
        "ima adpcm.wav": _coded("WAV", "IMA_ADPCM"),
        "ms adpcm.wav": _coded("WAV", "MS_ADPCM", channels=2),
        "gsm.wav": _coded("WAV", "GSM610", 8000),
        "g721.wav": _coded("AU", "G721_32", 8000),
        "extensible.wav": _extensible(_pcm16(tune), PCM_GUID),
        "eight channels.wav": _wav(_pcm8(_tune(RATE, 8)), channels=8, bits=8),
        "two channels, odd rate.wav": _wav(_pcm8(_tune(11127, 2)), channels=2, rate=11127, bits=8),
        "1 kHz.wav": _wav(_pcm16(_tune(1000)), rate=1000),
        "4 kHz.wav": _wav(_pcm16(_tune(4000)), rate=4000),
        "192 kHz.wav": _wav(_pcm8(_tune(192_000, seconds=5.2)), rate=192_000, bits=8),
        "655,350 Hz.flac": _encode(_steps(6 * 655_350), 655_350, "FLAC", "PCM_16"),
        "rf64.wav": _coded("RF64", "PCM_U8"),
        "wave 64.wav": _coded("W64", "PCM_U8"),
        "au.wav": _coded("AU", "ULAW"),
        "caf.wav": _coded("CAF", "ALAW"),
        "caf alac.wav": _coded("CAF", "ALAC_16"),
        "mp3 in wav.wav": _riff(
            _fmt(0x55, rate=44100, bits=0, more=struct.pack("<HHIHHH", 12, 1, 2, 417, 1, 1393))
            + _chunk(b"data", _mp3())
        ),
        "voc.wav": _coded("VOC", "PCM_U8"),
        "nist.wav": _coded("NIST", "ULAW", 8000),
        "avr.wav": _coded("AVR", "PCM_U8"),
        "amiga.aiff": _coded("SVX", "PCM_S8"),
        "paris.aif": _coded("PAF", "PCM_S8"),
        "ircam.aiff": _coded("IRCAM", "ULAW"),
        "matlab.wav": _coded("MAT4", "PCM_16", 8000),
        "htk.wav": _coded("HTK", "PCM_16", 8000),
        "sample dump.wav": _coded("SDS", "PCM_S8", 8000),
        "aifc.aifc": _coded("AIFF", "ULAW"),
        "u8.aif": _coded("AIFF", "PCM_U8"),
        "stereo.oga": _coded("OGG", "VORBIS", 44100, 2),
        "narrow band.opus": _coded("OGG", "OPUS", 8000),
        "eight channels.flac": _coded("FLAC", "PCM_16", 4000, 8),
        "8 kHz.mp3": _coded("MP3", "MPEG_LAYER_III", 8000),
        "48 kHz, stereo.mp3": _coded("MP3", "MPEG_LAYER_III", 48000, 2),
        "variable bit rate.mp3": _coded("MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE"),
        "flac.mp3": _coded("FLAC", "PCM_16"),
        "ogg.mp3": _coded("OGG", "VORBIS"),
        "wav.ogg": _wav(_pcm8(tune), bits=8),
        "mp3.wav": _mp3(),
        "mp3.flac": _mp3(),
        "opus.flac": _coded("OGG", "OPUS", 48000),
        "aiff.wav": _coded("AIFF", "PCM_S8"),
        "wav.m4a": _wav(_pcm8(tune), bits=8),
        "mp3.wma": _mp3(),
        "UPPER CASE.WAV": _wav(_pcm8(tune), bits=8),
    }.items():
        yield f"formats/{name}", content, ROWS


def _damaged() -> Iterator[Entry]:
    """Interrupted copies, bad sectors, careless joins: what is left decides."""
    mp3 = _mp3()
    eighth = len(mp3) // 8  # a second
    frames = _mp3_frames(mp3)
    other_rate, stereo = _mp3(48000), _mp3(44100, 2)
    yield "damaged/cut in its header.mp3", mp3[:3], UNDECODABLE
    yield "damaged/cut in its first frame.mp3", mp3[:200], UNDECODABLE
    yield "damaged/cut after a second.mp3", mp3[:eighth], SHORT
    yield "damaged/cut in the middle.mp3", mp3[: 4 * eighth], SHORT
    yield "damaged/cut near its end.mp3", mp3[: 7 * eighth + 77], ROWS
    yield "damaged/without its beginning.mp3", mp3[eighth + 77 :], UNDECODABLE
    yield "damaged/zeros in the middle.mp3", _patched(mp3, 3 * eighth, bytes(eighth)), SHORT
    yield "damaged/noise in the middle.mp3", _patched(mp3, 3 * eighth, _noise(eighth)), SHORT
    yield "damaged/flipped bits.mp3", _flipped(mp3, 50, 1000), ROWS
    yield "damaged/many flipped bits.mp3", _flipped(mp3, 2000, 1000), SHORT
    yield "damaged/garbage before.mp3", _noise(1000) + mp3, UNDECODABLE
    yield "damaged/zeros before.mp3", bytes(3000) + mp3, UNDECODABLE
    yield "damaged/text before.mp3", b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n" + mp3, UNDECODABLE
    yield "damaged/garbage after.mp3", mp3 + _noise(20_000), ROWS
    yield "damaged/zeros after.mp3", mp3 + bytes(100_000), ROWS
    yield "damaged/page after.mp3", mp3 + b"<html>" * 999, ROWS
    yield "damaged/frames shuffled.mp3", b"".join(frames[i] for i in _order(len(frames))), ROWS
    yield "damaged/every other frame.mp3", b"".join(frames[::2]), SHORT
    yield "damaged/no xing.mp3", b"".join(frames[1:]), ROWS
    yield "damaged/two rates.mp3", mp3 + other_rate, ROWS
    yield "damaged/two rates, tagged.mp3", _tagged(mp3) + _tagged(other_rate), ROWS
    yield "damaged/mono, then stereo.mp3", mp3 + stereo, ROWS
    yield "damaged/stereo, then mono.mp3", stereo + mp3, ROWS
    yield "damaged/mp3, then wav.mp3", mp3 + _wav(_pcm8(_tune(RATE)), bits=8), ROWS
    yield "damaged/layer 2, empty frames.mp3", (b"\xff\xfd\x80\xc4" + bytes(413)) * 300, SILENT

    flac = _coded("FLAC", "PCM_16", seconds=8)
    middle = len(flac) // 2
    yield "damaged/frame with a broken crc.flac", _patched(flac, middle, b"\x55\xaa"), SHORT
    yield "damaged/noise in the middle.flac", _patched(flac, middle, _noise(3000)), SHORT
    yield "damaged/zeros to its end.flac", _patched(flac, middle, bytes(len(flac) - middle)), SHORT
    yield "damaged/cut in the middle.flac", flac[:middle], SHORT
    yield "damaged/cut near its end.flac", flac[: len(flac) * 7 // 8], ROWS
    yield "damaged/only streaminfo.flac", flac[:42], SHORT
    yield "damaged/cut in streaminfo.flac", flac[:30], UNDECODABLE
    yield "damaged/other first bytes.flac", b"flac" + flac[4:], UNDECODABLE

    pages = _ogg_pages(_coded("OGG", "VORBIS", 44100, seconds=8), 1)
    others = _ogg_pages(_coded("OGG", "VORBIS", 22050, 2), 2)
    whole = b"".join(pages)
    middle = len(pages) // 2
    noisy = [*pages[:middle], _noise(len(pages[middle])), *pages[middle + 1 :]]
    yield "damaged/cut in its header.ogg", whole[:60], UNDECODABLE
    yield "damaged/cut in its codebooks.ogg", whole[:1000], UNDECODABLE
    yield "damaged/cut in the middle.ogg", whole[: len(whole) // 2], SHORT
    yield "damaged/cut near its end.ogg", whole[: len(whole) * 7 // 8], ROWS
    yield "damaged/noise for a page.ogg", b"".join(noisy), ROWS
    yield "damaged/page lost.ogg", b"".join(pages[:middle] + pages[middle + 1 :]), ROWS
    yield "damaged/page twice.ogg", b"".join(pages[: middle + 1] + pages[middle:]), ROWS
    yield "damaged/flipped bits.ogg", _flipped(whole, 3, len(whole) // 2), ROWS
    yield "damaged/headers lost.ogg", b"".join(pages[2:]), UNDECODABLE
    yield "damaged/two in a chain.ogg", b"".join(pages + others), ROWS
    yield "damaged/garbage before.ogg", _noise(1000) + whole, UNDECODABLE
    yield "damaged/garbage after.ogg", whole + _noise(20_000), ROWS
    pages = _ogg_pages(_coded("OGG", "OPUS", 48000, seconds=8), 1)
    whole = b"".join(pages)
    yield "damaged/cut in its header.opus", whole[:40], UNDECODABLE
    yield "damaged/cut in the middle.opus", whole[: len(whole) // 2], SHORT
    yield "damaged/cut near its end.opus", whole[: len(whole) * 7 // 8], ROWS
    yield "damaged/page lost.opus", b"".join(pages[:4] + pages[5:]), ROWS
    yield "damaged/flipped bits.opus", _flipped(whole, 3, len(whole) // 2), ROWS

    wav, aiff = _wav(_pcm8(_tune(RATE)), bits=8), _coded("AIFF", "PCM_S8")
    yield "damaged/cut in its header.wav", wav[:30], UNDECODABLE
    yield "damaged/cut after its header.wav", wav[:44], SHORT
    yield "damaged/cut in the middle.wav", wav[: len(wav) // 2], SHORT
    yield "damaged/cut near its end.wav", wav[: len(wav) * 7 // 8], ROWS
    yield "damaged/cut within a frame.wav", _wav(_pcm24(_tune(RATE, 2)), channels=2, bits=24)[:-5], ROWS
    yield "damaged/id3 before.wav", _tagged(wav), ROWS
    yield "damaged/zeros before.wav", bytes(512) + wav, UNDECODABLE
    yield "damaged/line ends changed.wav", wav[:44] + wav[44:].replace(b"\n", b"\r\n"), ROWS
    yield "damaged/read as text.wav", wav.decode("utf-8", "replace").encode(), UNDECODABLE
    yield "damaged/cut in its header.aiff", aiff[:40], UNDECODABLE
    yield "damaged/cut in the middle.aiff", aiff[: len(aiff) // 2], SHORT
    yield "damaged/cut near its end.aiff", aiff[: len(aiff) * 7 // 8], ROWS
    gsm, adpcm = _coded("WAV", "GSM610", 8000), _coded("WAV", "IMA_ADPCM")
    yield "damaged/noise in the middle, gsm.wav", _patched(gsm, 3000, _noise(1000)), ROWS
    yield "damaged/noise in the middle, adpcm.wav", _patched(adpcm, 9000, _noise(9000)), ROWS


def _lies() -> Iterator[Entry]:
    """Headers that claim what is not so."""
    pcm, pcm8 = _pcm16(_tune(RATE)), _pcm8(_tune(RATE))
    for name, content, verdict in [
        ("data of 4 GB.wav", _wav(pcm8, bits=8, data_size=0xFFFFFFF0), ROWS),
        ("data of 0xFFFFFFFF.wav", _wav(pcm8, bits=8, data_size=0xFFFFFFFF), ROWS),
        ("data of 2 GB.wav", _wav(pcm8, bits=8, data_size=0x80000000), ROWS),
        ("data of nothing.wav", _wav(pcm8, bits=8, data_size=0), SHORT),
        ("data of 1000 bytes.wav", _wav(pcm8, bits=8, data_size=1000), SHORT),
        ("riff of nothing.wav", _wav(pcm8, bits=8, riff_size=0), ROWS),
        ("riff of 0xFFFFFFFF.wav", _wav(pcm8, bits=8, riff_size=0xFFFFFFFF), ROWS),
        ("stream of unknown length.wav", _wav(pcm8, bits=8, riff_size=0xFFFFFFFF, data_size=0xFFFFFFFF), ROWS),
        ("no data.wav", _wav(b"", bits=8)[:36], UNDECODABLE),
        ("no fmt.wav", _riff(_chunk(b"data", pcm8)), UNDECODABLE),
        ("fmt after data.wav", _riff(_chunk(b"data", pcm8) + _fmt(bits=8)), UNDECODABLE),
        ("fmt of 4 bytes.wav", _riff(_chunk(b"fmt ", _fmt()[8:12]) + _chunk(b"data", pcm)), UNDECODABLE),
        ("fmt of 4 GB.wav", _patched(_wav(pcm), 16, b"\xff\xff\xff\xff"), UNDECODABLE),
        ("two fmt.wav", _riff(_fmt(bits=8) + _fmt(channels=2) + _chunk(b"data", pcm8)), UNDECODABLE),
        ("thousands of chunks.wav", _riff(_chunk(b"junk", b"") * 5000 + _wav(pcm8, bits=8)[12:]), ROWS),
        ("chunk of 4 GB before.wav", _riff(b"LIST\xff\xff\xff\xff" + _wav(pcm8, bits=8)[12:]), UNDECODABLE),
        ("no channels.wav", _wav(pcm, channels=0), UNDECODABLE),
        ("1024 channels.wav", _wav(_pcm8(_tune(128, 1024)), channels=1024, rate=128, bits=8), ROWS),
        ("1024 channels, short.wav", _wav(pcm8, channels=1024, bits=8), SHORT),
        ("1025 channels.wav", _wav(pcm8, channels=1025, bits=8), UNDECODABLE),
        ("65535 channels.wav", _wav(pcm8, channels=65535, bits=8), UNDECODABLE),
        ("0 Hz.wav", _wav(pcm, rate=0), UNDECODABLE),
        ("1 Hz.wav", _wav(pcm, rate=1), UNDECODABLE),
        ("99 Hz.wav", _wav(_pcm8(_tune(99)), rate=99, bits=8), UNDECODABLE),
        ("100 Hz.wav", _wav(_pcm8(_tune(100)), rate=100, bits=8), ROWS),
        ("1,000,000 Hz.wav", _wav(pcm8, rate=1_000_000, bits=8), SHORT),
        ("1,000,001 Hz.wav", _wav(pcm8, rate=1_000_001, bits=8), UNDECODABLE),
        ("2^31-1 Hz.wav", _wav(pcm, rate=2**31 - 1), UNDECODABLE),
        ("2^32-1 Hz.wav", _wav(pcm, rate=2**32 - 1), UNDECODABLE),
        ("0 bits.wav", _wav(pcm, bits=0), UNDECODABLE),
        ("13 bits.wav", _wav(pcm, bits=13), ROWS),
        ("65535 bits.wav", _wav(pcm, bits=65535), UNDECODABLE),
        ("float of 16 bits.wav", _wav(pcm, tag=FLOAT), UNDECODABLE),
        ("unknown tag.wav", _wav(pcm, tag=0x4242), UNDECODABLE),
        ("tag 0.wav", _wav(pcm, tag=0), UNDECODABLE),
        ("aac.wav", _wav(pcm, tag=AAC), UNDECODABLE),
        ("mp3 by its tag.wav", _wav(pcm, tag=0x55), UNDECODABLE),
        ("extensible, unknown.wav", _extensible(pcm, _noise(16)), UNDECODABLE),
        ("block of 0 bytes.wav", _patched(_coded("WAV", "IMA_ADPCM"), 32, b"\0\0"), UNDECODABLE),
        ("ten million hours.wav", _rf64(pcm8, 10**7 * 3600 * RATE), ROWS),
        ("2^64-1 bytes.wav", _rf64(pcm8, 2**64 - 1), UNDECODABLE),
    ]:
        yield f"lies/{name}", content, verdict

    aiff = _coded("AIFF", "PCM_S8")
    common, sound = aiff.index(b"COMM") + 8, aiff.index(b"SSND") + 4
    for name, offset, lie, verdict in [
        ("2^32-1 frames", common + 2, b"\xff" * 4, ROWS),
        ("no frames", common + 2, bytes(4), ROWS),
        ("99 frames", common + 2, b"\0\0\0\x63", ROWS),
        ("no channels", common, bytes(2), UNDECODABLE),
        ("32767 channels", common, b"\x7f\xff", UNDECODABLE),
        ("0 bits", common + 6, bytes(2), UNDECODABLE),
        ("0 Hz", common + 8, bytes(10), UNDECODABLE),
        ("1 Hz", common + 8, b"\x3f\xff\x80" + bytes(7), UNDECODABLE),
        ("2^30 Hz", common + 8, b"\x40\x1d\x80" + bytes(7), UNDECODABLE),
        ("-8000 Hz", common + 8, b"\xc0\x0b\xfa" + bytes(7), UNDECODABLE),
        ("no number of Hz", common + 8, b"\x7f\xff\xc0" + bytes(7), UNDECODABLE),
        ("sound of 4 GB", sound, b"\xff" * 4, ROWS),
        ("sound from 4 GB on", sound + 4, b"\xff" * 4, SHORT),
    ]:
        yield f"lies/{name}.aiff", _patched(aiff, offset, lie), verdict

    au, caf = _coded("AU", "ULAW"), _coded("CAF", "ALAW")
    description, data = caf.index(b"desc") + 12, caf.index(b"data") + 4
    for name, content, verdict in [
        ("au from 2 GB on", _patched(au, 4, b"\x7f\xff\xff\xff"), SHORT),
        ("au of unknown length", _patched(au, 8, b"\xff" * 4), ROWS),
        ("au, 0 Hz", _patched(au, 16, bytes(4)), UNDECODABLE),
        ("au, 2^32-1 channels", _patched(au, 20, b"\xff" * 4), UNDECODABLE),
        ("caf of unknown length", _patched(caf, data, b"\xff" * 8), UNDECODABLE),
        ("caf of 2^62 bytes", _patched(caf, data, b"\x40" + bytes(7)), UNDECODABLE),
        ("caf, 1e300 Hz", _patched(caf, description, struct.pack(">d", 1e300)), UNDECODABLE),
        ("caf, no number of Hz", _patched(caf, description, struct.pack(">d", np.nan)), UNDECODABLE),
    ]:
        yield f"lies/{name}.wav", content, verdict

    flac = _coded("FLAC", "PCM_16")
    # STREAMINFO: 20 bits of sample rate, 3 of channels, 5 of depth, 36 of samples.
    facts = int.from_bytes(flac[18:26], "big")
    samples = facts % 2**36
    for name, lie, verdict in [
        ("2^36-1 samples", facts | (2**36 - 1), ROWS),
        ("ten hours", facts - samples + 36_000 * RATE, ROWS),
        ("unknown length", facts - samples, ROWS),
        ("99 samples", facts - samples + 99, SHORT),
        ("0 Hz", facts % 2**44, UNDECODABLE),
        ("1 Hz", facts % 2**44 + 2**44, UNDECODABLE),
        ("eight channels", facts | (7 << 41), UNDECODABLE),
    ]:
        yield f"lies/{name}.flac", _patched(flac, 18, lie.to_bytes(8, "big")), verdict
    yield "lies/metadata of 16 MB.flac", _patched(flac, 43, b"\xff\xff\xff"), UNDECODABLE

    mp3 = _mp3()
    xing = max(mp3.find(b"Xing"), mp3.find(b"Info"))  # then its flags, frames, bytes
    for name, lie, verdict in [
        ("a hundred million frames", struct.pack(">I", 10**8), ROWS),
        ("2^32-1 frames", b"\xff" * 4, ROWS),
        ("no frames", bytes(4), ROWS),
        ("ten frames", struct.pack(">I", 10), SHORT),
        ("no bytes", mp3[xing + 8 : xing + 12] + bytes(4), ROWS),
        ("2^32-1 bytes", mp3[xing + 8 : xing + 12] + b"\xff" * 4, ROWS),
    ]:
        yield f"lies/{name}.mp3", _patched(mp3, xing + 8, lie), verdict
    yield "lies/id3 of 256 MB.mp3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + mp3, UNDECODABLE
    yield "lies/id3 of nothing.mp3", b"ID3\x04\0\0\0\0\0\0" + _text_frame(b"TPE1", b"x" * 99) + mp3, UNDECODABLE
    yield "lies/thousands of id3.mp3", b"ID3\x04\0\0\0\0\0\0" * 3000 + mp3, UNDECODABLE

    pages = _ogg_pages(_coded("OGG", "VORBIS", 44100), 1)
    last = _patched(pages[-1], 6, struct.pack("<q", 2**60))
    yield "lies/a million years.ogg", b"".join([*pages[:-1], _sealed(last)]), ROWS
    last = _patched(pages[-1], 6, struct.pack("<q", 99))
    yield "lies/99 samples.ogg", b"".join([*pages[:-1], _sealed(last)]), SHORT
    for name, offset, lie, verdict in [
        ("no channels", 11, b"\0", UNDECODABLE),
        ("255 channels", 11, b"\xff", SILENT),
        ("0 Hz", 12, bytes(4), UNDECODABLE),
        ("1 Hz", 12, b"\x01\0\0\0", UNDECODABLE),
        ("2^31-1 Hz", 12, b"\xff\xff\xff\x7f", UNDECODABLE),
    ]:
        yield f"lies/{name}.ogg", b"".join([_sealed(_patched(pages[0], 28 + offset, lie)), *pages[1:]]), verdict
    pages = _ogg_pages(_coded("OGG", "OPUS", 48000), 1)
    for name, offset, lie, verdict in [
        ("no channels", 9, b"\0", UNDECODABLE),
        ("skips a second and more", 10, b"\xff\xff", SHORT),
        ("0 Hz", 12, bytes(4), ROWS),
        ("2^32-1 Hz", 12, b"\xff" * 4, ROWS),
        ("128 dB louder", 16, b"\xff\x7f", ROWS),
        ("128 dB softer", 16, b"\0\x80", SILENT),
    ]:
        yield f"lies/{name}.opus", b"".join([_sealed(_patched(pages[0], 28 + offset, lie)), *pages[1:]]), verdict


def _levels() -> Iterator[Entry]:
    """Samples that no studio makes."""
    tune = _tune(RATE, seconds=5.2)
    silence = np.zeros_like(tune)
    stereo = np.stack([tune, -tune], axis=1)
    for name, content, verdict in [
        ("nan.wav", _float_wav(silence * np.nan), NOT_FINITE),
        ("one nan at the end.wav", _float_wav(_with(tune, -1, np.nan)), NOT_FINITE),
        (
            "one nan at the end, 22,050 Hz.wav",
            _float_wav(_with(_tune(22050, seconds=5.2), -1, np.nan), 22050),
            NOT_FINITE,
        ),
        ("nan in one of two channels.wav", _float_wav(_with(stereo, (-1, 1), np.nan)), NOT_FINITE),
        ("inf.wav", _float_wav(_with(tune, 20_000, np.inf)), NOT_FINITE),
        ("-inf.wav", _float_wav(_with(tune, 0, -np.inf)), NOT_FINITE),
        ("inf and -inf.wav", _float_wav(stereo * np.inf), NOT_FINITE),
        ("double of 1e300.wav", _wav((tune.astype("<f8") * 1e300).tobytes(), tag=FLOAT, bits=64), NOT_FINITE),
        ("largest float.wav", _float_wav(np.sign(tune) * np.finfo(np.float32).max), NOT_FINITE),
        ("1e30.wav", _float_wav(tune * np.float32(1e30)), NOT_FINITE),
        ("one sample of 1e30.wav", _float_wav(_with(tune, 25_000, 1e30)), NOT_FINITE),
        ("1e17.wav", _float_wav(tune * np.float32(1e17)), NOT_FINITE),
        ("1e12.wav", _float_wav(tune * np.float32(1e12)), ROWS),
        ("integers as floats.wav", _float_wav(np.round(tune * 30_000)), ROWS),
        ("constant.wav", _float_wav(silence + 0.5), ROWS),
        ("constant -1.wav", _wav(b"\0" * len(tune), bits=8), ROWS),
        ("constant above a tune.wav", _float_wav(tune / 4 + 0.7), ROWS),
        ("clipped square.wav", _wav(_pcm16(np.sign(tune))), ROWS),
        ("white noise.wav", _wav(_noise(2 * len(tune))), ROWS),
        ("one click.wav", _wav(_pcm16(_with(silence, 20_000, 0.9))), ROWS),
        ("one bit of 16.wav", _wav(_pcm16(silence + 2**-15)), ROWS),
        ("one bit of 24.wav", _wav(_pcm24(silence + 2**-23), bits=24), SILENT),
        ("2e-5.wav", _float_wav(tune / np.abs(tune).max() * np.float32(2e-5)), ROWS),
        ("1e-7.wav", _float_wav(tune * np.float32(1e-7)), SILENT),
        ("denormal.wav", _float_wav(tune * np.float32(1e-40)), SILENT),
        ("denormal between sounds.wav", _float_wav(tune * (np.arange(len(tune)) % 20_000 < 3999) + 1e-40), ROWS),
        ("zeros.wav", _wav(bytes(len(tune) * 2)), SILENT),
        ("zeros.flac", _encode(silence, RATE, "FLAC", "PCM_16"), SILENT),
        ("zeros.ogg", _encode(silence, RATE, "OGG", "VORBIS"), SILENT),
        ("zeros.mp3", _encode(silence, RATE, "MP3", "MPEG_LAYER_III"), SILENT),
        ("sides that cancel.wav", _float_wav(stereo), SILENT),
        ("one side of two.wav", _wav(_pcm8(stereo * [1, 0]), channels=2, bits=8), ROWS),
        ("sound only at the end.wav", _wav(_pcm8(tune * (np.arange(len(tune)) > 38_000)), bits=8), ROWS),
    ]:
        yield f"levels/{name}", content, verdict


def _lengths() -> Iterator[Entry]:
    """At the limits and beyond them, in samples at 22,050 Hz and in seconds."""
    for rate, least in [(22050, SHORTEST), (44100, 2 * SHORTEST - 1), (8000, 40_124)]:
        tune = _pcm8(_tune(rate))
        yield f"lengths/{rate} Hz, just enough.wav", _wav(tune[:least], rate=rate, bits=8), ROWS
        yield f"lengths/{rate} Hz, one less.wav", _wav(tune[: least - 1], rate=rate, bits=8), SHORT
    tune = _tune(22050)
    yield "lengths/just enough.flac", _encode(tune[:SHORTEST], 22050, "FLAC", "PCM_16"), ROWS
    yield "lengths/one less.flac", _encode(tune[: SHORTEST - 1], 22050, "FLAC", "PCM_16"), SHORT
    yield "lengths/one sample.wav", _wav(b"\xff", bits=8), SHORT
    yield "lengths/one sample.flac", _encode(tune[:1], 22050, "FLAC", "PCM_16"), SHORT
    yield "lengths/one sample, 192 kHz.wav", _wav(b"\xff", rate=192_000, bits=8), SHORT
    yield "lengths/no samples.wav", _wav(b"", bits=8), SHORT
    yield "lengths/no samples.aiff", _encode(tune[:0], 22050, "AIFF", "PCM_S8"), SHORT
    yield "lengths/a second.mp3", _coded("MP3", "MPEG_LAYER_III", seconds=1), SHORT
    yield "lengths/a second.ogg", _coded("OGG", "VORBIS", seconds=1), SHORT
    # Hours in little space: a low rate, or steps that FLAC codes as one number a block.
    too_long = LONGEST + 1
    yield "lengths/four hours.wav", _wav(_noise(100 * too_long), tag=MULAW, rate=100, bits=8), LONG
    yield "lengths/four hours.flac", _encode(_steps(1000 * too_long), 1000, "FLAC", "PCM_16"), LONG
    steps = np.repeat(_steps(200 * too_long)[:, None], 8, axis=1)
    yield "lengths/four hours, eight channels.flac", _encode(steps, 200, "FLAC", "PCM_16"), LONG


def _tags() -> Iterator[Entry]:
    """Good audio whose tags are not: they are read for the groups of tracks."""
    mp3, flac = _mp3(), _coded("FLAC", "PCM_16")
    # mutagen takes a quarter of a second for these, and minutes for twenty times as many.
    nothings = zlib.compress(bytes(100_000))
    for name, tag in {
        "id3.mp3": _id3(_text_frame(b"TPE1", b"Somebody")),
        "id3, artist of 200 kB.mp3": _id3(_text_frame(b"TPE1", b"x" * 200_000)),
        "id3, artist of nothing.mp3": _id3(_text_frame(b"TPE1", b"")),
        "id3, artist with markup.mp3": _id3(_text_frame(b"TPE1", b"<b>[/red]{0}%s\0\x1b[2J")),
        "id3, not utf-8.mp3": _id3(b"TPE1\0\0\0\x05\0\0\x03\xff\xfe\x80\xc0"),
        "id3, half of utf-16.mp3": _id3(b"TPE1\0\0\0\x06\0\0\x01\xff\xfe\x3d\xd8\x3d"),
        "id3, frame size lies.mp3": _id3(b"TPE1\x7f\x7f\x7f\x7f\0\0\x03Somebody"),
        "id3, unknown encoding.mp3": _id3(b"TPE1\0\0\0\x03\0\0\x99ab"),
        "id3, a hundred thousand artists.mp3": _id3(
            b"TPE1" + _synchsafe(len(nothings) + 4) + b"\0\x09" + _synchsafe(9) + nothings
        ),
    }.items():
        yield f"tags/{name}", tag + mp3, ROWS
    yield "tags/id3, version 9.mp3", b"ID3\x09" + _tagged(mp3)[4:], UNDECODABLE
    yield "tags/id3v1.mp3", mp3 + _id3v1(), ROWS
    yield "tags/id3v1, not utf-8.mp3", mp3 + b"TAG" + b"\xff" * 125, ROWS
    yield "tags/ape.mp3", mp3 + _ape(1, b"Somebody"), ROWS
    yield "tags/ape, items lied.mp3", mp3 + _ape(2**32 - 1, b"Somebody"), ROWS
    yield "tags/id3 before.flac", _id3(_text_frame(b"TPE1", b"Somebody")) + flac, ROWS
    yield "tags/id3v1 after.flac", flac + _id3v1(), ROWS
    # libsndfile writes a Vorbis comment after STREAMINFO: its vendor, then its count.
    vendor = 46 + 4 + int.from_bytes(flac[46:50], "little")
    yield "tags/2^32-1 comments.flac", _patched(flac, vendor, b"\xff" * 4), UNDECODABLE
    yield "tags/vendor of 4 GB.flac", _patched(flac, 46, b"\xff" * 4), UNDECODABLE
    wav = _wav(_pcm8(_tune(RATE)), bits=8)
    yield "tags/id3 of 4 GB.wav", wav + b"id3 \xff\xff\xff\xffID3\x04", ROWS
    yield "tags/list of nonsense.wav", wav + _chunk(b"LIST", b"INFOIART\xff\xff\xff\x7fSome"), ROWS


def _names() -> Iterator[Entry]:
    """Names that break a shell, a report, a table or a terminal; every other file is one to report."""
    good = _coded("OGG", "VORBIS", 8000)
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
            "<script>alert(1)</script>.ogg",  # in a folder of its own
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


def _tune(rate: int, channels: int = 1, seconds: float = 6.0) -> np.ndarray:
    """Four plucked notes a second over a little noise; float32 [samples] or [samples, channels]."""
    time = np.arange(round(rate * seconds)) / rate
    rng = np.random.default_rng(7)
    notes = rng.integers(0, 13, 4 * int(np.ceil(seconds)))[(time * 4).astype(int)]
    pitch = min(220, rate / 5) * 2 ** (notes / 12)
    tune = 0.5 * np.sin(2 * np.pi * pitch * time) * np.exp(-6 * (time % 0.25))
    tune += 0.01 * rng.standard_normal(len(time))
    if channels > 1:
        tune = tune[:, None] * np.linspace(1, 0.3, channels)
    return tune.astype(np.float32)


def _steps(length: int) -> np.ndarray:
    """A square wave so slow that almost every block of FLAC is one number; int16 [samples]."""
    return np.repeat(np.array([8000, -8000], np.int16), 4096 * 5)[np.arange(length) % (4096 * 10)]


def _noise(length: int) -> bytes:
    return np.random.default_rng(length).bytes(length)


def _order(length: int) -> list[int]:
    return [0, *(1 + np.random.default_rng(length).permutation(length - 1))]


def _encode(samples: np.ndarray, rate: int, container: str, subtype: str, **options: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype, **options)
    # libsndfile numbers the streams of Ogg at random.
    return b"".join(_ogg_pages(file.getvalue(), 1)) if container == "OGG" else file.getvalue()


@functools.lru_cache(maxsize=64)
def _coded(
    container: str, subtype: str, rate: int = RATE, channels: int = 1, seconds: float = 6.0, **options: object
) -> bytes:
    return _encode(_tune(rate, channels, seconds), rate, container, subtype, **options)


def _mp3(rate: int = 44100, channels: int = 1) -> bytes:
    """Eight seconds at a constant bit rate, so that a place in the file is a time."""
    return _coded("MP3", "MPEG_LAYER_III", rate, channels, 8.0, bitrate_mode="CONSTANT", compression_level=0.9)


def _mp3_frames(mp3: bytes) -> list[bytes]:
    """Cut at each frame's first bytes, which are the same in all frames of one file but for the padding bit."""
    starts = [i for i in range(len(mp3) - 1) if mp3[i : i + 2] == mp3[:2] and mp3[i + 2] & 0xFC == mp3[2] & 0xFC]
    return [mp3[start:end] for start, end in itertools.pairwise([*starts, len(mp3)])]


def _pcm8(samples: np.ndarray) -> bytes:
    return (np.clip(samples * 127, -128, 127) + 128).astype(np.uint8).tobytes()


def _pcm16(samples: np.ndarray) -> bytes:
    return np.clip(samples * 32768, -32768, 32767).astype("<i2").tobytes()


def _pcm24(samples: np.ndarray) -> bytes:
    return (samples * 2**23).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()


def _float_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    # libsndfile would add the time of day to a file of floats.
    return _wav(samples.astype("<f4").tobytes(), tag=FLOAT, channels=samples[:1].size, rate=rate, bits=32)


def _chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def _riff(chunks: bytes, size: int | None = None) -> bytes:
    return _chunk(b"RIFF", b"WAVE" + chunks, size)


def _fmt(tag: int = PCM, channels: int = 1, rate: int = RATE, bits: int = 16, more: bytes = b"") -> bytes:
    frame = channels * bits // 8
    fields = struct.pack("<HHIIHH", tag, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    return _chunk(b"fmt ", fields + more)


def _wav(
    data: bytes,
    *,
    tag: int = PCM,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    riff_size: int | None = None,
    data_size: int | None = None,
) -> bytes:
    """Wrap samples in a header, each field of which may lie."""
    return _riff(_fmt(tag, channels, rate, bits) + _chunk(b"data", data, data_size), riff_size)


def _extensible(data: bytes, subformat: bytes) -> bytes:
    more = struct.pack("<HHI", 22, 16, 4) + subformat
    return _riff(_fmt(EXTENSIBLE, more=more) + _chunk(b"data", data))


def _rf64(data: bytes, size: int) -> bytes:
    """A WAV with sizes of 64 bits."""
    sizes = _chunk(b"ds64", struct.pack("<QQQI", min(size + 72, 2**64 - 1), size, size, 0))
    return _chunk(b"RF64", b"WAVE" + sizes + _fmt(bits=8) + _chunk(b"data", data, 0xFFFFFFFF), 0xFFFFFFFF)


def _synchsafe(number: int) -> bytes:
    """Seven bits a byte, as ID3 has its sizes."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _text_frame(name: bytes, text: bytes) -> bytes:
    return name + _synchsafe(len(text) + 1) + b"\0\0\x03" + text


def _id3(frames: bytes) -> bytes:
    return b"ID3\x04\0\0" + _synchsafe(len(frames)) + frames


def _tagged(content: bytes) -> bytes:
    """With an ID3 tag of version 2 before and one of version 1 after."""
    return _id3(_text_frame(b"TPE1", b"Somebody")) + content + _id3v1()


def _id3v1() -> bytes:
    return b"TAG" + b"Something".ljust(30, b"\0") + b"Somebody".ljust(30, b"\0") + bytes(64) + b"\xff"


def _ape(items: int, artist: bytes) -> bytes:
    item = struct.pack("<II", len(artist), 0) + b"Artist\0" + artist
    return item + b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, items, 0) + bytes(8)


def _patched(content: bytes, offset: int, replacement: bytes) -> bytes:
    return content[:offset] + replacement + content[offset + len(replacement) :]


def _flipped(content: bytes, count: int, start: int) -> bytes:
    """Flip single bits from a place on."""
    flipped = np.frombuffer(content, np.uint8).copy()
    places = np.random.default_rng(count).choice(np.arange(start, len(content)), count, replace=False)
    flipped[places] ^= np.uint8(1) << (places % 8).astype(np.uint8)
    return flipped.tobytes()


def _with(samples: np.ndarray, place: int | tuple[int, int], value: float) -> np.ndarray:
    changed = samples.copy()
    changed[place] = value
    return changed


def _ogg_pages(ogg: bytes, serial: int) -> list[bytes]:
    """Cut into pages, and give the stream a number."""
    pages = []
    while ogg:
        segments = ogg[26]
        length = 27 + segments + sum(ogg[27 : 27 + segments])
        pages.append(_sealed(_patched(ogg[:length], 14, struct.pack("<I", serial))))
        ogg = ogg[length:]
    return pages


def _sealed(page: bytes) -> bytes:
    """Make the checksum of a page right."""
    crc, table = 0, _ogg_crc_table()
    for byte in _patched(page, 22, bytes(4)):
        crc = (crc << 8 & 0xFFFFFFFF) ^ table[crc >> 24 ^ byte]
    return _patched(page, 22, struct.pack("<I", crc))


@functools.cache
def _ogg_crc_table() -> list[int]:
    table = []
    for crc in range(256):
        crc <<= 24
        for _ in range(8):
            crc = (crc << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if crc >> 31 else 0)
        table.append(crc)
    return table
