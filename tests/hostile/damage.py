"""Damaged audio files, and files with wrong headers."""

import itertools
import struct
from collections.abc import Iterator

import numpy as np

from hostile.encoders import (
    AAC,
    FLOAT,
    RATE,
    encode_mp3,
    encode_tune,
    extensible_wav,
    fmt_chunk,
    id3_text_frame,
    make_noise,
    make_tune,
    ogg_pages,
    patched,
    rf64_wav,
    riff_chunk,
    riff_file,
    to_pcm8,
    to_pcm16,
    to_pcm24,
    wav_file,
    with_checksum,
    with_tags,
)
from hostile.verdicts import ROWS, SHORT, SILENT, UNDECODABLE, Entry


def damaged_files() -> Iterator[Entry]:
    """Interrupted copies, bad sectors, careless joins; the verdict depends on how much can be decoded."""
    mp3 = encode_mp3()
    eighth = len(mp3) // 8  # a second
    frames = mp3_frames(mp3)
    other_rate, stereo = encode_mp3(48000), encode_mp3(44100, 2)
    yield "damaged/cut in its header.mp3", mp3[:3], UNDECODABLE
    yield "damaged/cut in its first frame.mp3", mp3[:200], UNDECODABLE
    yield "damaged/cut after a second.mp3", mp3[:eighth], SHORT
    yield "damaged/cut in the middle.mp3", mp3[: 4 * eighth], SHORT
    yield "damaged/cut near its end.mp3", mp3[: 7 * eighth + 77], ROWS
    yield "damaged/without its beginning.mp3", mp3[eighth + 77 :], ROWS
    yield "damaged/zeros in the middle.mp3", patched(mp3, 3 * eighth, bytes(eighth)), ROWS
    yield "damaged/noise in the middle.mp3", patched(mp3, 3 * eighth, make_noise(eighth)), ROWS
    yield "damaged/flipped bits.mp3", flip_bits(mp3, 50, 1000), ROWS
    yield "damaged/many flipped bits.mp3", flip_bits(mp3, 2000, 1000), ROWS
    yield "damaged/garbage before.mp3", make_noise(1000) + mp3, ROWS
    yield "damaged/zeros before.mp3", bytes(3000) + mp3, ROWS
    yield "damaged/text before.mp3", b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n" + mp3, ROWS
    yield "damaged/garbage after.mp3", mp3 + make_noise(20_000), ROWS
    yield "damaged/zeros after.mp3", mp3 + bytes(100_000), ROWS
    yield "damaged/page after.mp3", mp3 + b"<html>" * 999, ROWS
    yield "damaged/frames shuffled.mp3", b"".join(frames[i] for i in random_order(len(frames))), ROWS
    yield "damaged/every other frame.mp3", b"".join(frames[::2]), SHORT
    yield "damaged/no xing.mp3", b"".join(frames[1:]), ROWS
    yield "damaged/two rates.mp3", mp3 + other_rate, ROWS
    yield "damaged/two rates, tagged.mp3", with_tags(mp3) + with_tags(other_rate), ROWS
    yield "damaged/mono, then stereo.mp3", mp3 + stereo, ROWS
    yield "damaged/stereo, then mono.mp3", stereo + mp3, ROWS
    yield "damaged/mp3, then wav.mp3", mp3 + wav_file(to_pcm8(make_tune(RATE)), bits=8), ROWS
    yield "damaged/layer 2, empty frames.mp3", (b"\xff\xfd\x80\xc4" + bytes(413)) * 300, SILENT

    flac = encode_tune("FLAC", "PCM_16", seconds=8)
    middle = len(flac) // 2
    yield "damaged/frame with a broken crc.flac", patched(flac, middle, b"\x55\xaa"), ROWS
    yield "damaged/noise in the middle.flac", patched(flac, middle, make_noise(3000)), ROWS
    yield "damaged/zeros to its end.flac", patched(flac, middle, bytes(len(flac) - middle)), SHORT
    yield "damaged/cut in the middle.flac", flac[:middle], SHORT
    yield "damaged/cut near its end.flac", flac[: len(flac) * 7 // 8], ROWS
    yield "damaged/only streaminfo.flac", flac[:42], SHORT
    yield "damaged/cut in streaminfo.flac", flac[:30], UNDECODABLE
    yield "damaged/other first bytes.flac", b"flac" + flac[4:], UNDECODABLE

    pages = ogg_pages(encode_tune("OGG", "VORBIS", 44100, seconds=8), 1)
    others = ogg_pages(encode_tune("OGG", "VORBIS", 22050, 2), 2)
    whole = b"".join(pages)
    middle = len(pages) // 2
    noisy = [*pages[:middle], make_noise(len(pages[middle])), *pages[middle + 1 :]]
    yield "damaged/cut in its header.ogg", whole[:60], UNDECODABLE
    yield "damaged/cut in its codebooks.ogg", whole[:1000], UNDECODABLE
    yield "damaged/cut in the middle.ogg", whole[: len(whole) // 2], SHORT
    yield "damaged/cut near its end.ogg", whole[: len(whole) * 7 // 8], ROWS
    yield "damaged/noise for a page.ogg", b"".join(noisy), ROWS
    yield "damaged/page lost.ogg", b"".join(pages[:middle] + pages[middle + 1 :]), ROWS
    yield "damaged/page twice.ogg", b"".join(pages[: middle + 1] + pages[middle:]), ROWS
    yield "damaged/flipped bits.ogg", flip_bits(whole, 3, len(whole) // 2), ROWS
    yield "damaged/headers lost.ogg", b"".join(pages[2:]), UNDECODABLE
    yield "damaged/two in a chain.ogg", b"".join(pages + others), ROWS
    yield "damaged/garbage before.ogg", make_noise(1000) + whole, UNDECODABLE
    yield "damaged/garbage after.ogg", whole + make_noise(20_000), ROWS
    pages = ogg_pages(encode_tune("OGG", "OPUS", 48000, seconds=8), 1)
    whole = b"".join(pages)
    yield "damaged/cut in its header.opus", whole[:40], UNDECODABLE
    yield "damaged/cut in the middle.opus", whole[: len(whole) // 2], SHORT
    yield "damaged/cut near its end.opus", whole[: len(whole) * 7 // 8], ROWS
    yield "damaged/page lost.opus", b"".join(pages[:4] + pages[5:]), ROWS
    yield "damaged/flipped bits.opus", flip_bits(whole, 3, len(whole) // 2), ROWS

    wav, aiff = wav_file(to_pcm8(make_tune(RATE)), bits=8), encode_tune("AIFF", "PCM_S8")
    yield "damaged/cut in its header.wav", wav[:30], UNDECODABLE
    yield "damaged/cut after its header.wav", wav[:44], SHORT
    yield "damaged/cut in the middle.wav", wav[: len(wav) // 2], SHORT
    yield "damaged/cut near its end.wav", wav[: len(wav) * 7 // 8], ROWS
    yield "damaged/cut within a frame.wav", wav_file(to_pcm24(make_tune(RATE, 2)), channels=2, bits=24)[:-5], ROWS
    yield "damaged/id3 before.wav", with_tags(wav), ROWS
    yield "damaged/zeros before.wav", bytes(512) + wav, UNDECODABLE
    yield "damaged/line ends changed.wav", wav[:44] + wav[44:].replace(b"\n", b"\r\n"), ROWS
    yield "damaged/read as text.wav", wav.decode("utf-8", "replace").encode(), UNDECODABLE
    yield "damaged/cut in its header.aiff", aiff[:40], UNDECODABLE
    yield "damaged/cut in the middle.aiff", aiff[: len(aiff) // 2], SHORT
    yield "damaged/cut near its end.aiff", aiff[: len(aiff) * 7 // 8], ROWS
    gsm, adpcm = encode_tune("WAV", "GSM610", 8000), encode_tune("WAV", "IMA_ADPCM")
    yield "damaged/noise in the middle, gsm.wav", patched(gsm, 3000, make_noise(1000)), ROWS
    yield "damaged/noise in the middle, adpcm.wav", patched(adpcm, 9000, make_noise(9000)), ROWS


def wrong_headers() -> Iterator[Entry]:
    """Headers with wrong or impossible values."""
    pcm, pcm8 = to_pcm16(make_tune(RATE)), to_pcm8(make_tune(RATE))
    for name, content, verdict in [
        ("data of 4 GB.wav", wav_file(pcm8, bits=8, data_size=0xFFFFFFF0), ROWS),
        ("data of 0xFFFFFFFF.wav", wav_file(pcm8, bits=8, data_size=0xFFFFFFFF), ROWS),
        ("data of 2 GB.wav", wav_file(pcm8, bits=8, data_size=0x80000000), ROWS),
        ("data of nothing.wav", wav_file(pcm8, bits=8, data_size=0), ROWS),
        ("data of 1000 bytes.wav", wav_file(pcm8, bits=8, data_size=1000), SHORT),
        ("riff of nothing.wav", wav_file(pcm8, bits=8, riff_size=0), ROWS),
        ("riff of 0xFFFFFFFF.wav", wav_file(pcm8, bits=8, riff_size=0xFFFFFFFF), ROWS),
        ("stream of unknown length.wav", wav_file(pcm8, bits=8, riff_size=0xFFFFFFFF, data_size=0xFFFFFFFF), ROWS),
        ("no data.wav", wav_file(b"", bits=8)[:36], UNDECODABLE),
        ("no fmt.wav", riff_file(riff_chunk(b"data", pcm8)), UNDECODABLE),
        ("fmt after data.wav", riff_file(riff_chunk(b"data", pcm8) + fmt_chunk(bits=8)), ROWS),
        (
            "fmt of 4 bytes.wav",
            riff_file(riff_chunk(b"fmt ", fmt_chunk()[8:12]) + riff_chunk(b"data", pcm)),
            UNDECODABLE,
        ),
        ("fmt of 4 GB.wav", patched(wav_file(pcm), 16, b"\xff\xff\xff\xff"), UNDECODABLE),
        (
            "two fmt.wav",
            riff_file(fmt_chunk(bits=8) + fmt_chunk(channels=2) + riff_chunk(b"data", pcm8)),
            ROWS,
        ),
        (
            "thousands of chunks.wav",
            riff_file(riff_chunk(b"junk", b"") * 5000 + wav_file(pcm8, bits=8)[12:]),
            ROWS,
        ),
        (
            "chunk of 4 GB before.wav",
            riff_file(b"LIST\xff\xff\xff\xff" + wav_file(pcm8, bits=8)[12:]),
            UNDECODABLE,
        ),
        ("no channels.wav", wav_file(pcm, channels=0), UNDECODABLE),
        ("1024 channels.wav", wav_file(to_pcm8(make_tune(128, 1024)), channels=1024, rate=128, bits=8), ROWS),
        ("1024 channels, short.wav", wav_file(pcm8, channels=1024, bits=8), SHORT),
        ("1025 channels.wav", wav_file(pcm8, channels=1025, bits=8), UNDECODABLE),
        ("65535 channels.wav", wav_file(pcm8, channels=65535, bits=8), UNDECODABLE),
        ("0 Hz.wav", wav_file(pcm, rate=0), UNDECODABLE),
        ("1 Hz.wav", wav_file(pcm, rate=1), UNDECODABLE),
        ("99 Hz.wav", wav_file(to_pcm8(make_tune(99)), rate=99, bits=8), UNDECODABLE),
        ("100 Hz.wav", wav_file(to_pcm8(make_tune(100)), rate=100, bits=8), ROWS),
        ("1,000,000 Hz.wav", wav_file(pcm8, rate=1_000_000, bits=8), SHORT),
        ("1,000,001 Hz.wav", wav_file(pcm8, rate=1_000_001, bits=8), UNDECODABLE),
        ("2^31-1 Hz.wav", wav_file(pcm, rate=2**31 - 1), UNDECODABLE),
        ("2^32-1 Hz.wav", wav_file(pcm, rate=2**32 - 1), UNDECODABLE),
        ("0 bits.wav", wav_file(pcm, bits=0), UNDECODABLE),
        ("13 bits.wav", wav_file(pcm, bits=13), ROWS),
        ("65535 bits.wav", wav_file(pcm, bits=65535), UNDECODABLE),
        ("float of 16 bits.wav", wav_file(pcm, tag=FLOAT), UNDECODABLE),
        ("unknown tag.wav", wav_file(pcm, tag=0x4242), UNDECODABLE),
        ("tag 0.wav", wav_file(pcm, tag=0), UNDECODABLE),
        ("aac.wav", wav_file(pcm, tag=AAC), UNDECODABLE),
        ("mp3 by its tag.wav", wav_file(pcm, tag=0x55), UNDECODABLE),
        ("extensible, unknown.wav", extensible_wav(pcm, make_noise(16)), UNDECODABLE),
        ("block of 0 bytes.wav", patched(encode_tune("WAV", "IMA_ADPCM"), 32, b"\0\0"), UNDECODABLE),
        ("ten million hours.wav", rf64_wav(pcm8, 10**7 * 3600 * RATE), ROWS),
        ("2^64-1 bytes.wav", rf64_wav(pcm8, 2**64 - 1), UNDECODABLE),
    ]:
        yield f"headers/{name}", content, verdict

    aiff = encode_tune("AIFF", "PCM_S8")
    common, sound = aiff.index(b"COMM") + 8, aiff.index(b"SSND") + 4
    for name, offset, value, verdict in [
        ("2^32-1 frames", common + 2, b"\xff" * 4, ROWS),
        ("no frames", common + 2, bytes(4), ROWS),
        ("99 frames", common + 2, b"\0\0\0\x63", ROWS),
        ("no channels", common, bytes(2), UNDECODABLE),
        ("32767 channels", common, b"\x7f\xff", UNDECODABLE),
        ("0 bits", common + 6, bytes(2), ROWS),
        ("0 Hz", common + 8, bytes(10), UNDECODABLE),
        ("1 Hz", common + 8, b"\x3f\xff\x80" + bytes(7), UNDECODABLE),
        ("2^30 Hz", common + 8, b"\x40\x1d\x80" + bytes(7), UNDECODABLE),
        ("-8000 Hz", common + 8, b"\xc0\x0b\xfa" + bytes(7), UNDECODABLE),
        ("NaN Hz", common + 8, b"\x7f\xff\xc0" + bytes(7), UNDECODABLE),
        ("sound of 4 GB", sound, b"\xff" * 4, ROWS),
        ("sound from 4 GB on", sound + 4, b"\xff" * 4, SHORT),
    ]:
        yield f"headers/{name}.aiff", patched(aiff, offset, value), verdict

    au, caf = encode_tune("AU", "ULAW"), encode_tune("CAF", "ALAW")
    description, data = caf.index(b"desc") + 12, caf.index(b"data") + 4
    for name, content, verdict in [
        ("au from 2 GB on", patched(au, 4, b"\x7f\xff\xff\xff"), SHORT),
        ("au of unknown length", patched(au, 8, b"\xff" * 4), ROWS),
        ("au, 0 Hz", patched(au, 16, bytes(4)), UNDECODABLE),
        ("au, 2^32-1 channels", patched(au, 20, b"\xff" * 4), UNDECODABLE),
        ("caf of unknown length", patched(caf, data, b"\xff" * 8), ROWS),
        ("caf of 2^62 bytes", patched(caf, data, b"\x40" + bytes(7)), ROWS),
        ("caf, 1e300 Hz", patched(caf, description, struct.pack(">d", 1e300)), UNDECODABLE),
        ("caf, NaN Hz", patched(caf, description, struct.pack(">d", np.nan)), UNDECODABLE),
    ]:
        yield f"headers/{name}.wav", content, verdict

    flac = encode_tune("FLAC", "PCM_16")
    # STREAMINFO: 20 bits of sample rate, 3 of channels, 5 of depth, 36 of samples.
    facts = int.from_bytes(flac[18:26], "big")
    samples = facts % 2**36
    for name, value, verdict in [
        ("2^36-1 samples", facts | (2**36 - 1), ROWS),
        ("ten hours", facts - samples + 36_000 * RATE, ROWS),
        ("unknown length", facts - samples, ROWS),
        ("99 samples", facts - samples + 99, SHORT),
        ("0 Hz", facts % 2**44, ROWS),
        ("1 Hz", facts % 2**44 + 2**44, ROWS),
        ("eight channels", facts | (7 << 41), ROWS),
    ]:
        yield f"headers/{name}.flac", patched(flac, 18, value.to_bytes(8, "big")), verdict
    yield "headers/metadata of 16 MB.flac", patched(flac, 43, b"\xff\xff\xff"), UNDECODABLE

    mp3 = encode_mp3()
    xing = max(mp3.find(b"Xing"), mp3.find(b"Info"))  # followed by flags, frames, bytes
    for name, value, verdict in [
        ("a hundred million frames", struct.pack(">I", 10**8), ROWS),
        ("2^32-1 frames", b"\xff" * 4, ROWS),
        ("no frames", bytes(4), ROWS),
        ("ten frames", struct.pack(">I", 10), ROWS),
        ("no bytes", mp3[xing + 8 : xing + 12] + bytes(4), ROWS),
        ("2^32-1 bytes", mp3[xing + 8 : xing + 12] + b"\xff" * 4, ROWS),
    ]:
        yield f"headers/{name}.mp3", patched(mp3, xing + 8, value), verdict
    yield "headers/id3 of 256 MB.mp3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + mp3, UNDECODABLE
    yield (
        "headers/id3 of nothing.mp3",
        b"ID3\x04\0\0\0\0\0\0" + id3_text_frame(b"TPE1", b"x" * 99) + mp3,
        ROWS,
    )
    yield "headers/thousands of id3.mp3", b"ID3\x04\0\0\0\0\0\0" * 3000 + mp3, ROWS

    pages = ogg_pages(encode_tune("OGG", "VORBIS", 44100), 1)
    last = patched(pages[-1], 6, struct.pack("<q", 2**60))
    yield "headers/a million years.ogg", b"".join([*pages[:-1], with_checksum(last)]), ROWS
    last = patched(pages[-1], 6, struct.pack("<q", 99))
    yield "headers/99 samples.ogg", b"".join([*pages[:-1], with_checksum(last)]), SHORT
    for name, offset, value, verdict in [
        ("no channels", 11, b"\0", UNDECODABLE),
        ("255 channels", 11, b"\xff", SILENT),
        ("0 Hz", 12, bytes(4), UNDECODABLE),
        ("1 Hz", 12, b"\x01\0\0\0", UNDECODABLE),
        ("2^31-1 Hz", 12, b"\xff\xff\xff\x7f", UNDECODABLE),
    ]:
        yield (
            f"headers/{name}.ogg",
            b"".join([with_checksum(patched(pages[0], 28 + offset, value)), *pages[1:]]),
            verdict,
        )
    pages = ogg_pages(encode_tune("OGG", "OPUS", 48000), 1)
    for name, offset, value, verdict in [
        ("no channels", 9, b"\0", UNDECODABLE),
        ("skips a second and more", 10, b"\xff\xff", SHORT),
        ("0 Hz", 12, bytes(4), ROWS),
        ("2^32-1 Hz", 12, b"\xff" * 4, ROWS),
        ("128 dB louder", 16, b"\xff\x7f", ROWS),
        ("128 dB softer", 16, b"\0\x80", SILENT),
    ]:
        yield (
            f"headers/{name}.opus",
            b"".join([with_checksum(patched(pages[0], 28 + offset, value)), *pages[1:]]),
            verdict,
        )


def flip_bits(content: bytes, count: int, start: int) -> bytes:
    """Flip random bits after an offset."""
    flipped = np.frombuffer(content, np.uint8).copy()
    offsets = np.random.default_rng(count).choice(np.arange(start, len(content)), count, replace=False)
    flipped[offsets] ^= np.uint8(1) << (offsets % 8).astype(np.uint8)
    return flipped.tobytes()


def mp3_frames(mp3: bytes) -> list[bytes]:
    """Split at frame headers, which are equal in all frames of a file except for the padding bit."""
    starts = [i for i in range(len(mp3) - 1) if mp3[i : i + 2] == mp3[:2] and mp3[i + 2] & 0xFC == mp3[2] & 0xFC]
    return [mp3[start:end] for start, end in itertools.pairwise([*starts, len(mp3)])]


def random_order(length: int) -> list[int]:
    return [0, *(1 + np.random.default_rng(length).permutation(length - 1))]
