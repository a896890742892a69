"""Encoders of audio files, headers and tags; each field of a header can be set to any value."""

import functools
import io
import struct

import numpy as np
import soundfile

RATE = 8000
# Format tags of WAV.
PCM, FLOAT, ALAW, MULAW, AAC, EXTENSIBLE = 1, 3, 6, 7, 0xFF, 0xFFFE
PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")


def make_tune(rate: int, channels: int = 1, seconds: float = 6.0) -> np.ndarray:
    """Four plucked notes per second with faint noise; float32 [samples] or [samples, channels]."""
    time = np.arange(round(rate * seconds)) / rate
    rng = np.random.default_rng(7)
    notes = rng.integers(0, 13, 4 * int(np.ceil(seconds)))[(time * 4).astype(int)]
    pitch = min(220, rate / 5) * 2 ** (notes / 12)
    tune = 0.5 * np.sin(2 * np.pi * pitch * time) * np.exp(-6 * (time % 0.25))
    tune += 0.01 * rng.standard_normal(len(time))
    if channels > 1:
        tune = tune[:, None] * np.linspace(1, 0.3, channels)
    return tune.astype(np.float32)


def make_steps(length: int) -> np.ndarray:
    """A very slow square wave: almost every FLAC block is constant; int16 [samples]."""
    return np.repeat(np.array([8000, -8000], np.int16), 4096 * 5)[np.arange(length) % (4096 * 10)]


def make_noise(length: int) -> bytes:
    return np.random.default_rng(length).bytes(length)


def encode_samples(samples: np.ndarray, rate: int, container: str, subtype: str, **options: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype, **options)
    # libsndfile gives Ogg streams random serial numbers.
    return b"".join(ogg_pages(file.getvalue(), 1)) if container == "OGG" else file.getvalue()


@functools.lru_cache(maxsize=64)
def encode_tune(
    container: str, subtype: str, rate: int = RATE, channels: int = 1, seconds: float = 6.0, **options: object
) -> bytes:
    return encode_samples(make_tune(rate, channels, seconds), rate, container, subtype, **options)


def encode_mp3(rate: int = 44100, channels: int = 1) -> bytes:
    """Eight seconds at a constant bit rate, so that file offsets are proportional to time."""
    return encode_tune(
        "MP3", "MPEG_LAYER_III", rate, channels, 8.0, bitrate_mode="CONSTANT", compression_level=0.9
    )


def to_pcm8(samples: np.ndarray) -> bytes:
    return (np.clip(samples * 127, -128, 127) + 128).astype(np.uint8).tobytes()


def to_pcm16(samples: np.ndarray) -> bytes:
    return np.clip(samples * 32768, -32768, 32767).astype("<i2").tobytes()


def to_pcm24(samples: np.ndarray) -> bytes:
    return (samples * 2**23).astype("<i4").reshape(-1, 1).view(np.uint8)[:, :3].tobytes()


def float_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    # libsndfile would add a timestamp to a file of floats.
    return wav_file(samples.astype("<f4").tobytes(), tag=FLOAT, channels=samples[:1].size, rate=rate, bits=32)


def riff_chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def riff_file(chunks: bytes, size: int | None = None) -> bytes:
    return riff_chunk(b"RIFF", b"WAVE" + chunks, size)


def fmt_chunk(tag: int = PCM, channels: int = 1, rate: int = RATE, bits: int = 16, more: bytes = b"") -> bytes:
    frame = channels * bits // 8
    fields = struct.pack("<HHIIHH", tag, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    return riff_chunk(b"fmt ", fields + more)


def wav_file(
    data: bytes,
    *,
    tag: int = PCM,
    channels: int = 1,
    rate: int = RATE,
    bits: int = 16,
    riff_size: int | None = None,
    data_size: int | None = None,
) -> bytes:
    """Samples with a header; each field can be set to a wrong value."""
    return riff_file(fmt_chunk(tag, channels, rate, bits) + riff_chunk(b"data", data, data_size), riff_size)


def extensible_wav(data: bytes, subformat: bytes) -> bytes:
    more = struct.pack("<HHI", 22, 16, 4) + subformat
    return riff_file(fmt_chunk(EXTENSIBLE, more=more) + riff_chunk(b"data", data))


def rf64_wav(data: bytes, size: int) -> bytes:
    """A WAV file with 64-bit sizes."""
    sizes = riff_chunk(b"ds64", struct.pack("<QQQI", min(size + 72, 2**64 - 1), size, size, 0))
    return riff_chunk(
        b"RF64", b"WAVE" + sizes + fmt_chunk(bits=8) + riff_chunk(b"data", data, 0xFFFFFFFF), 0xFFFFFFFF
    )


def synchsafe(number: int) -> bytes:
    """A size as in ID3: 7 bits per byte."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def id3_text_frame(name: bytes, text: bytes) -> bytes:
    return name + synchsafe(len(text) + 1) + b"\0\0\x03" + text


def id3_tag(frames: bytes) -> bytes:
    return b"ID3\x04\0\0" + synchsafe(len(frames)) + frames


def with_tags(content: bytes) -> bytes:
    """Content between an ID3v2 tag and an ID3v1 tag."""
    return id3_tag(id3_text_frame(b"TPE1", b"Somebody")) + content + id3v1_tag()


def id3v1_tag() -> bytes:
    return b"TAG" + b"Something".ljust(30, b"\0") + b"Somebody".ljust(30, b"\0") + bytes(64) + b"\xff"


def ape_tag(items: int, artist: bytes) -> bytes:
    item = struct.pack("<II", len(artist), 0) + b"Artist\0" + artist
    return item + b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, items, 0) + bytes(8)


def patched(content: bytes, offset: int, replacement: bytes) -> bytes:
    return content[:offset] + replacement + content[offset + len(replacement) :]


def ogg_pages(ogg: bytes, serial: int) -> list[bytes]:
    """Split an Ogg file into pages, and set the serial number of the stream."""
    pages = []
    while ogg:
        segments = ogg[26]
        length = 27 + segments + sum(ogg[27 : 27 + segments])
        pages.append(with_checksum(patched(ogg[:length], 14, struct.pack("<I", serial))))
        ogg = ogg[length:]
    return pages


def with_checksum(page: bytes) -> bytes:
    """A page with its correct checksum."""
    crc, table = 0, _ogg_crc_table()
    for byte in patched(page, 22, bytes(4)):
        crc = (crc << 8 & 0xFFFFFFFF) ^ table[crc >> 24 ^ byte]
    return patched(page, 22, struct.pack("<I", crc))


@functools.cache
def _ogg_crc_table() -> list[int]:
    table = []
    for crc in range(256):
        crc <<= 24
        for _ in range(8):
            crc = (crc << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if crc >> 31 else 0)
        table.append(crc)
    return table
