"""Read the artist and the album of an ID3v2 tag at the start of a file, or else of an ID3v1 tag at its end.

FFmpeg reads these tags as well, but of several artists only the first, and it loses what follows a UTF-16 text in
a tag with unsynchronization. It also reads the pictures, which are skipped here: most files in a bucket take one
request.

Source: https://id3.org/id3v2-00, id3v2.3.0, id3v2.4.0-structure and id3v2.4.0-frames.
"""

import io
import re
from typing import BinaryIO

# Frames of a tag, best first: ID3v2.2 has names of three letters.
_FRAMES = {"artist": ((b"TPE1", b"TP1"), (b"TPE2", b"TP2")), "album": ((b"TALB", b"TAL"),)}
_FRAME_NAME = re.compile(rb"[A-Z][A-Z0-9]{2,3}")
_MOST_FRAMES = 10_000
_MOST_TEXT = 1 << 16  # bytes of a frame that are read
_ENCODINGS = ("", "utf-16", "utf-16-be", "utf-8")
_ID3V1_BYTES, _ID3V1_FIELDS = 128, {"artist": 33, "album": 63}
_UNSYNCHRONIZED, _EXTENDED = 0x80, 0x40  # flags of the header


def read_id3(file: BinaryIO, tag: str) -> list[str]:
    """Return the values of `artist` or `album` of the ID3v2 tag at the current position.

    The artist of the album stands in for a missing artist. Nothing is returned if there is no such tag, or if it
    is compressed, encrypted or damaged.
    """
    header = file.read(10)
    if len(header) < 10 or header[:3] != b"ID3" or header[3] not in (2, 3, 4):
        return []
    version, flags, size = header[3], header[5], _synchsafe(header[6:10])
    if version == 2 and flags & _EXTENDED:  # compressed, by a scheme that was never defined
        return []
    if version < 4 and flags & _UNSYNCHRONIZED:
        file = io.BytesIO(_synchronized(file.read(size)))
        size = len(file.getvalue())
        end = size
    else:
        end = file.tell() + size
    if version > 2 and flags & _EXTENDED:
        length = file.read(4)
        file.seek(int.from_bytes(length, "big") if version == 3 else _synchsafe(length) - 4, io.SEEK_CUR)
    wanted = _FRAMES[tag]
    found: dict[int, list[str]] = {}
    for _ in range(_MOST_FRAMES):
        frame = _next_frame(file, version, end)
        if frame is None:
            break
        name, length_of_frame, frame_flags = frame
        rank = next((rank for rank, names in enumerate(wanted) if name in names), None)
        position = file.tell()
        if rank is not None and rank not in found:
            values = _text(file.read(min(length_of_frame, _MOST_TEXT)), version, frame_flags, flags)
            if values and rank == 0:
                return values
            if values:
                found[rank] = values
        file.seek(position + length_of_frame)
    return found[min(found)] if found else []


def read_id3v1(file: BinaryIO, tag: str) -> list[str]:
    """Return `artist` or `album` of the ID3v1 tag at the end of a file with an ID3v2 tag that lacks it.

    FFmpeg reads an ID3v1 tag only of files without an ID3v2 tag.
    """
    file.seek(0)
    if file.read(3) != b"ID3" or file.seek(0, io.SEEK_END) < _ID3V1_BYTES:
        return []
    file.seek(-_ID3V1_BYTES, io.SEEK_END)
    content = file.read(_ID3V1_BYTES)
    begin = _ID3V1_FIELDS[tag]
    value = decode_unlabeled(content[begin : begin + 30].partition(b"\0")[0]).strip()
    return [value] if content.startswith(b"TAG") and value else []


def decode_unlabeled(content: bytes) -> str:
    """Decode text without a reliable encoding: UTF-8 if it is valid, else that of Western European Windows."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            pass
    return content.decode("latin-1")


def _next_frame(file: BinaryIO, version: int, end: int) -> tuple[bytes, int, int] | None:
    """Read the header of a frame: name, length in bytes and flags; None at the end of the frames."""
    width = 3 if version == 2 else 4
    header = file.read(6 if version == 2 else 10)
    name = header[:width]
    if len(header) < 6 or not _FRAME_NAME.fullmatch(name) or len(name) < width:
        return None
    length = int.from_bytes(header[width : 2 * width], "big")
    if version == 4 and length > 0x7F:
        synchsafe = _synchsafe(header[4:8])
        # iTunes wrote sizes as in ID3v2.3; which of the two it is shows in what follows.
        if not length & 0x80808080 and _evidence(file, length, end) <= _evidence(file, synchsafe, end):
            length = synchsafe
    if length > end - file.tell():
        return None
    return name, length, int.from_bytes(header[8:10], "big")


def _evidence(file: BinaryIO, length: int, end: int) -> int:
    """Return how well a frame length fits: 2 if a frame or the end of the tag follows, 1 for padding, else 0."""
    position = file.tell()
    if position + length >= end:
        return 2 * (position + length == end)
    file.seek(position + length)
    name = file.read(4)
    file.seek(position)
    return 2 if _FRAME_NAME.fullmatch(name) else int(not name.strip(b"\0"))


def _text(content: bytes, version: int, flags: int, tag_flags: int) -> list[str]:
    """Return the texts of a text frame; nothing if it is compressed or encrypted."""
    if version == 3:
        if flags & 0xC0:  # compression, encryption
            return []
        content = content[1:] if flags & 0x20 else content  # grouping
    elif version == 4:
        if flags & 0x0C:
            return []
        content = content[bool(flags & 0x40) + 4 * bool(flags & 0x01) :]  # grouping, data length
        if flags & 0x02 or tag_flags & _UNSYNCHRONIZED:
            content = _synchronized(content)
    if not content or content[0] >= len(_ENCODINGS):
        return []
    encoding = _ENCODINGS[content[0]]
    text = content[1:].decode(encoding, "replace") if encoding else decode_unlabeled(content[1:])
    return [value for part in text.split("\0") if (value := part.strip("\ufeff \t\r\n"))]


def _synchsafe(content: bytes) -> int:
    """Return a number of seven bits a byte."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(content)))


def _synchronized(content: bytes) -> bytes:
    """Return bytes without the zeros that keep decoders from finding frames of MPEG audio in them."""
    return content.replace(b"\xff\x00", b"\xff")
