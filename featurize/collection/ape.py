"""Read the artist and the album of an APEv2 tag at the end of a file.

FFmpeg does not look for one in MP3, and of several artists it reads only the first.

Source: https://wiki.hydrogenaud.io/index.php?title=APEv2_specification
"""

import io
import struct
from typing import BinaryIO

_KEYS = {"artist": (b"artist", b"album artist"), "album": (b"album",)}  # best first
# First bytes of formats that have such tags: MPEG audio, WavPack, Monkey's Audio, Musepack, TTA, OptimFROG.
_FORMATS = (b"\xff", b"wvpk", b"MAC ", b"MPCK", b"MP+", b"TTA", b"OFR ")
_FOOTER = struct.Struct("<8sIIII8x")  # magic, version, size without the header, number of items, flags
_ITEM = struct.Struct("<II")  # size of the value, flags
_ID3V1 = 128  # bytes of a tag that may follow
_MOST_BYTES = 8 << 20  # of a tag; covers included
_MOST_ITEMS = 1000
_NO_TEXT = 0b110  # flags of an item that is binary or names another file


def read_ape(file: BinaryIO, tag: str) -> list[str]:
    """Return the values of `artist` or `album` of the APEv2 tag of a file; nothing if it has none.

    The end of a file is read only if the format is one that has these tags.
    """
    file.seek(0)
    if not file.read(4).startswith(_FORMATS):
        return []
    length = file.seek(0, io.SEEK_END)
    file.seek(max(length - _FOOTER.size - _ID3V1, 0))
    tail = file.read(_FOOTER.size + _ID3V1)
    for behind in (0, _ID3V1):
        end = length - behind  # of the tag
        begin = len(tail) - behind - _FOOTER.size
        if begin < 0:
            break
        magic, _, size, count, _ = _FOOTER.unpack_from(tail, begin)
        if magic == b"APETAGEX" and _FOOTER.size <= size <= min(end, _MOST_BYTES):
            file.seek(end - size)
            items = _items(file.read(size - _FOOTER.size), min(count, _MOST_ITEMS))
            return next((items[key] for key in _KEYS[tag] if items.get(key)), [])
    return []


def _items(content: bytes, count: int) -> dict[bytes, list[str]]:
    """Return the texts of a tag by their keys in lowercase."""
    items: dict[bytes, list[str]] = {}
    position = 0
    for _ in range(count):
        if position + _ITEM.size > len(content):
            break
        size, flags = _ITEM.unpack_from(content, position)
        key, separator, _ = content[position + _ITEM.size : position + _ITEM.size + 256].partition(b"\0")
        if not separator:
            break
        position += _ITEM.size + len(key) + 1
        if not flags & _NO_TEXT:
            texts = content[position : position + size].decode("utf-8", "replace").split("\0")
            items.setdefault(key.lower(), [text.strip() for text in texts if text.strip()])
        position += size
    return items
