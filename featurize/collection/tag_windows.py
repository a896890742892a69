"""A file in a bucket that is read in a few large pieces: tags stand at its beginning or at its end."""

from typing import Any

from featurize.positioned_file import PositionedFile

_WINDOW_BYTES = 64 << 10


class WindowedFile(PositionedFile):
    """A file of which what was read once stays in memory, in pieces of 64 KiB.

    The first piece is the beginning of the file. A piece near the end is the end of the file, so that readers that
    step backwards from there need no other one.

    Attributes:
        error: Why the bucket did not answer; FFmpeg takes that for the end of the file.
    """

    def __init__(self, file: Any) -> None:
        """Create the file at position 0.

        Args:
            file: An open file of Arrow; each call of its `read_at` is a request.
        """
        super().__init__(int(file.size()))
        self._file = file
        self.error: OSError | None = None
        self._windows: list[tuple[int, bytes]] = []  # start and content, the latest first

    def readinto(self, buffer: Any) -> int:
        """Read from a piece in memory, or request the next one.

        Raises:
            OSError: The bucket does not answer.
        """
        if self._position >= self._size:
            return 0
        with memoryview(buffer) as view:
            start, content = self._window()
            found = content[self._position - start : self._position - start + len(view)]
            view[: len(found)] = found
        self._position += len(found)
        return len(found)

    def _window(self) -> tuple[int, bytes]:
        """Return the piece that has the current position."""
        for start, content in self._windows:
            if start <= self._position < start + len(content):
                return start, content
        start = self._position
        if start < _WINDOW_BYTES and not self._windows:
            start = 0
        elif start >= self._size - _WINDOW_BYTES:
            start = self._size - _WINDOW_BYTES
        try:
            content = self._file.read_at(_WINDOW_BYTES, max(start, 0))
        except OSError as error:
            self.error = error
            raise
        if self._position >= max(start, 0) + len(content):
            raise OSError("the file has become shorter")
        self._windows.insert(0, (max(start, 0), content))
        return self._windows[0]
