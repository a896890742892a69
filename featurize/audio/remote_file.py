"""A file in a bucket of which the beginning is in memory."""

from typing import Any, NamedTuple

from featurize.positioned_file import PositionedFile
from featurize.storage import StoragePath


class FileChangedError(OSError):
    """The rest of a file belongs to another version than its beginning."""


class Beginning(NamedTuple):
    """The first bytes of a file, maybe all of them, and the size of the whole file when they were read."""

    content: bytes
    size: int


def read_beginning(path: StoragePath, length: int) -> Beginning:
    """Read the first bytes of a remote file with one request for them, besides the one for its size.

    A file that has grown since it was listed is read to its end if `length` was its size.

    Raises:
        OSError: The file cannot be read.
    """
    with path.filesystem.open_input_file(path.path) as file:
        size = file.size()
        return Beginning(file.read_at(length, 0), size)


class PartlyReadFile(PositionedFile):
    """A remote file of which the beginning is in memory; the rest is opened when it is needed."""

    def __init__(self, path: StoragePath, beginning: Beginning) -> None:
        """Create the file at position 0."""
        super().__init__(beginning.size)
        self._path, self._beginning = path, beginning
        self._rest: Any = None

    def readinto(self, buffer: Any) -> int:
        """Read from memory, or from the bucket behind the beginning.

        Raises:
            FileChangedError: The size of the file is no longer what it was.
            OSError: The bucket does not answer.
        """
        with memoryview(buffer) as view:
            wanted = min(len(view), max(self._beginning.size - self._position, 0))
            content = self._beginning.content[self._position : self._position + wanted]
            if not content and wanted:
                content = self._open_rest().read_at(wanted, self._position)
            view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        """Close the file."""
        if self._rest is not None:
            self._rest.close()
        super().close()

    def _open_rest(self) -> Any:
        if self._rest is None:
            self._rest = self._path.filesystem.open_input_file(self._path.path)
            if self._rest.size() != self._beginning.size:
                found, size = self._beginning.size, self._rest.size()
                raise FileChangedError(f"{found:,} bytes when its beginning was read, and {size:,} later")
        return self._rest
