"""Base of file objects that read remote files in pieces."""

import io


class PositionedFile(io.RawIOBase):
    """A readable file of a known size; a subclass reads from `_position` and moves it."""

    def __init__(self, size: int) -> None:
        """Create the file at position 0.

        Args:
            size: Size in bytes.
        """
        super().__init__()
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the current position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek; raise a ValueError for a position before the start of the file."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("a position before the start of the file")
        self._position = start + offset
        return self._position
