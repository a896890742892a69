"""What follows the sound in a file and is no sound: tags, chunks of metadata, padding."""

import re

from featurize.audio.source import BytesSource, Source

_AT_ONCE = 1 << 16
_MOST_CHUNKS = 10_000
_CHUNK_NAME = re.compile(rb"[ -~]{4}")


def unread_bytes(source: Source | BytesSource) -> int:
    """Return the number of bytes between the current position and the end that may be sound.

    Without ID3, APE and Lyrics3 tags and zeros at the end, and without the chunks of a WAV or AIFF file.
    """
    begin = source.tell()
    end = source.seek(0, 2)
    if begin < end and _ends_in_chunks(source, begin, end):
        return 0
    while begin < end and (length := _last_tag(source, end) or _zeros(source, begin, end)):
        end -= length
    return max(end - begin, 0)


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


def _ends_in_chunks(source: Source | BytesSource, begin: int, end: int) -> bool:
    """Return whether everything from a position on is chunks with names and lengths that lead to the end."""
    kind = _read(source, 0, 4)
    order = {b"RIFF": "little", b"RF64": "little", b"RIFX": "big", b"FORM": "big"}.get(kind)
    position = begin + begin % 2
    for _ in range(_MOST_CHUNKS if order else 0):
        if position >= end:
            return True
        header = _read(source, position, 8)
        if not _CHUNK_NAME.match(header):
            return False
        length = int.from_bytes(header[4:], "big" if order == "big" else "little")
        position += 8 + length + length % 2
        if position > end + 1:
            return False
    return False


def _read(source: Source | BytesSource, position: int, size: int) -> bytes:
    if position < 0:
        return b""
    source.seek(position)
    return source.read(size)
