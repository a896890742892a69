"""Read the artist or album tag of one audio file. Files come from strangers: call it in a process with limits."""

import dataclasses
import io
from typing import Any, BinaryIO

import mutagen

from featurize.storage import StoragePath

# ID3 frames of mutagen's easy names: WAV and AIFF files carry ID3 without the easy interface.
_ID3_FRAME = {"artist": "TPE1", "album": "TALB"}
_LONGEST = 300  # characters of an artist name; damaged tags hold megabytes
_MOST_BYTES = 64 << 20  # read from one file; covers are up to 16 MB
_LOCAL_BUFFER, _REMOTE_BUFFER = 1 << 13, 1 << 16  # bytes


@dataclasses.dataclass(frozen=True)
class UnreadableTags:
    """Why the tags of a file cannot be read, in a few words."""

    reason: str


def read_tag(path: StoragePath, tag: str) -> str | UnreadableTags | None:
    """Read one tag of one file, casefolded; None if it has none, or if mutagen finds no tags in it.

    A file without tags is not rejected here: the decoder decides whether it is audio. Whatever else goes wrong
    concerns this file only. Values that differ only in case or surrounding space are the same group.
    """
    try:
        with path.open() as raw:
            limited = _LimitedFile(raw, path.path)
            buffered = io.BufferedReader(limited, _LOCAL_BUFFER if path.local else _REMOTE_BUFFER)
            try:
                file = mutagen.File(buffered, easy=True)
            except (mutagen.MutagenError, EOFError):
                file = None
        if limited.exhausted:
            return UnreadableTags(f"more than {_MOST_BYTES >> 20} MiB")
        return _text(file.tags, tag) if file is not None and file.tags else None
    except FileNotFoundError:
        return None
    except OSError as error:
        return UnreadableTags(error.strerror or type(error).__name__)
    except Exception as error:
        return UnreadableTags(type(error).__name__)


def _text(tags: Any, tag: str) -> str | None:
    values = tags.get(tag) or tags.get(_ID3_FRAME[tag]) or []
    return "; ".join(str(value)[:_LONGEST] for value in values).strip().casefold()[:_LONGEST] or None


class _LimitedFile(io.RawIOBase):
    """A file of which only so many bytes can be read, also by jumping to and fro."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__()
        self._file = file
        self._left = _MOST_BYTES
        self._name = name
        self.exhausted = False

    @property
    def name(self) -> str:
        """Path of the file; mutagen considers its suffix."""
        return self._name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left -= len(buffer)
        if self._left < 0:
            self.exhausted = True
            raise OSError("too many bytes are read")
        with memoryview(buffer) as view:
            content = self._file.read(len(view))
            view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
