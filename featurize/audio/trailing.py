"""What follows the sound in a file and is no sound: tags, chunks of metadata, padding."""

import io
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from featurize.audio.source import BytesSource, Source

_AT_ONCE = 1 << 16
_BYTE_ORDERS: Mapping[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"RIFX": "big", b"FORM": "big"}
_FIRST_CHUNK = 12
_MOST_CHUNKS = 10_000
_FORMS = (b"WAVE", b"AIFF", b"AIFC")
_FILES = (b"RIFF", b"RIFX", b"FORM")
_SAMPLES = (b"data", b"SSND")
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")  # with which MP4 and QuickTime files begin
_CHUNK_NAME = re.compile(rb"[ -~]{4}")


def unread_bytes(source: Source | BytesSource) -> int:
    """Return the number of bytes between the current position and the end that may be sound.

    Without ID3, APE and Lyrics3 tags and zeros at the end. In WAV and AIFF the bytes after the last chunk count,
    because libsndfile reads beyond the chunk with the samples.
    """
    begin = source.tell()
    end = source.seek(0, io.SEEK_END)
    begin = min(_end_of_chunks(source, end, begin), end)
    while begin < end and (length := _last_tag(source, end) or _zeros(source, begin, end)):
        end -= length
    return max(end - begin, 0)


def later_sound_bytes(source: Source | BytesSource) -> int:
    """Return the size of a second file, or of further samples, behind the samples of a WAV, AIFF or MP4 file.

    FFmpeg reads neither, and libsndfile refuses such files.
    """
    begin = source.tell()
    end = source.seek(0, io.SEEK_END)
    if _read(source, 4, 4) in _BOXES:
        return end - _second_movie(source, end)
    names = list(_chunks(source, end)) if _read(source, 8, 4) in _FORMS else []
    first = next((position for position, name in names if name in _SAMPLES), end)
    later = (position for position, name in names if position > first and name in (*_SAMPLES, *_FILES))
    found = end - next(later, end)
    source.seek(begin)
    return found


def _last_tag(source: Source | BytesSource, end: int) -> int:
    """Return the length of the tag that ends at a position, 0 if there is none."""
    if _read(source, end - 128, 3) == b"TAG":  # ID3v1
        return 128
    footer = _read(source, end - 32, 32)
    if footer.startswith(b"APETAGEX"):
        has_header = footer[23] >> 7
        return int.from_bytes(footer[12:16], "little") + 32 * has_header
    if footer.endswith(b"LYRICS200") and footer[-15:-9].isdigit():
        return int(footer[-15:-9]) + 15
    if footer[-10:].startswith(b"3DI"):  # ID3v2 at the end, with 7 bits to a byte of its size
        return sum(byte << 7 * (3 - i) for i, byte in enumerate(footer[-4:])) + 20
    return 0


def _zeros(source: Source | BytesSource, begin: int, end: int) -> int:
    """Return the number of zeros before a position, counted in large blocks at most."""
    last = _read(source, max(begin, end - _AT_ONCE), min(_AT_ONCE, end - begin))
    return len(last) - len(last.rstrip(b"\0"))


def _end_of_chunks(source: Source | BytesSource, end: int, position: int) -> int:
    """Return where the chunks of a WAV or AIFF file end, a position of other files, or if a chunk is cut off."""
    return next((chunk for chunk, name in _chunks(source, end) if not name), position)


def _chunks(source: Source | BytesSource, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield the position and the name of each chunk of a RIFF or IFF file; nothing for other files.

    Last, without a name, comes the position of their end, unless a chunk is cut off.
    """
    order: Literal["little", "big"] | None = _BYTE_ORDERS.get(_read(source, 0, 4))
    chunk = _FIRST_CHUNK
    for _ in range(_MOST_CHUNKS if order else 0):
        header = _read(source, chunk, 8)
        if chunk >= end or not _CHUNK_NAME.match(header):
            yield chunk, b""
            return
        yield chunk, header[:4]
        length = int.from_bytes(header[4:], order or "little")
        chunk += 8 + length + length % 2
        if chunk > end + 1:
            return


def _second_movie(source: Source | BytesSource, end: int) -> int:
    """Return where a second MP4 file begins behind the first one; the end if there is none."""
    position, begin, movies = 0, 0, 0
    for _ in range(_MOST_CHUNKS):
        header = _read(source, position, 16)
        name, length = header[4:8], int.from_bytes(header[:4], "big")
        if name == b"ftyp":
            begin = position
        movies += name == b"moov"
        if movies > 1:
            return begin or position
        length = int.from_bytes(header[8:], "big") if length == 1 else length
        if not _CHUNK_NAME.match(name) or length < 8:  # 0: up to the end of the file
            break
        position += length
    return end


def _read(source: Source | BytesSource, position: int, size: int) -> bytes:
    if position < 0:
        return b""
    source.seek(position)
    return source.read(size)
