"""Chained Ogg files: several streams one after the other, of which libsndfile reads the first one only."""

import io
import re
from typing import Any

from featurize.audio.source import BytesSource, Source

_AT_ONCE = 1 << 20
_HEADER_BYTES = 27
_FIRST_PAGE = 2  # flag of a page that begins a stream
_BEGIN = re.compile(rb"OggS\0[\2\3\6\7]")


def next_link(source: Source | BytesSource, link: int) -> int | None:
    """Return where the link after the one at a position begins, None if there is none."""
    position = link
    # The first pages of all streams of a link come first.
    while (header := _read(source, position, _HEADER_BYTES)).startswith(b"OggS") and len(header) == _HEADER_BYTES:
        if position > link and not header[5] & _FIRST_PAGE:
            break
        lengths = _read(source, position + _HEADER_BYTES, header[26])
        position += _HEADER_BYTES + len(lengths) + sum(lengths)
    if position == link:
        return None
    while chunk := _read(source, position, _AT_ONCE):
        if found := _BEGIN.search(chunk):
            return position + found.start()
        position += max(len(chunk) - _HEADER_BYTES, 1)
    return None


class Link:
    """A source from a position of another one on."""

    def __init__(self, source: Source | BytesSource, begin: int) -> None:
        """Wrap a source."""
        self._source = source
        self._begin = begin

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer and return the number of bytes read."""
        return self._source.readinto(buffer)

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes."""
        return self._source.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek, or stay at the current position if the target does not exist."""
        if whence == io.SEEK_SET:
            if offset < 0:
                return self.tell()
            offset += self._begin
        return self._source.seek(offset, whence) - self._begin

    def tell(self) -> int:
        """Return the current position."""
        return self._source.tell() - self._begin


def _read(source: Source | BytesSource, position: int, size: int) -> bytes:
    source.seek(position)
    return source.read(size)
