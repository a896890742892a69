"""Read the artist or album tag of one audio file. Files come from strangers: call it in a process with limits."""

import dataclasses
import io
from typing import Any, BinaryIO

from featurize.collection.ape import read_ape
from featurize.collection.group_names import comparable
from featurize.collection.id3 import decode_unlabeled, read_id3, read_id3v1
from featurize.collection.tag_windows import WindowedFile
from featurize.ffmpeg import open_container
from featurize.io_errors import describe
from featurize.storage import StoragePath

# Keys of FFmpeg, best first. AIFF has an author; Matroska prefixes the target of a tag.
_KEYS = {
    "artist": ("artist", "track/artist", "author", "album_artist", "album/artist"),
    "album": ("album", "album/title"),
}
_LONGEST = 300  # characters of an artist name; damaged tags hold megabytes
_MOST_BYTES = 64 << 20  # read from one file; covers are up to 16 MB
_BUFFER = 1 << 13  # bytes
_SECONDS = 20.0  # for FFmpeg to open a file
# Tags stand before the samples or, where FFmpeg finds them, behind: it need not decode any.
_NO_PROBING = {"probesize": str(1 << 15), "analyzeduration": "0", "fpsprobesize": "0"}
# Exceptions of PyAV, by name: it is imported only in processes that need it.
_REASONS = {
    "InvalidDataError": "not recognized",
    "EOFError": "not recognized",
    "ExitError": f"still reading after {_SECONDS:g} s",
}


@dataclasses.dataclass(frozen=True)
class UnreadableTags:
    """Why the tags of a file cannot be read.

    Attributes:
        reason: In a few words.
        lost: Whether the bucket does not answer, or the folder of the file is gone: the disk may be unmounted.
    """

    reason: str
    lost: bool = False


def read_tag(path: StoragePath, tag: str) -> str | UnreadableTags | None:
    """Read one tag of one file, as `comparable` returns it, with several values joined by `; `.

    Args:
        path: The file.
        tag: `artist`, for which the artist of the album stands in if there is none, or `album`.

    Returns:
        None if it has no such tag. A file without tags is not rejected here: the decoder decides whether it is
        audio. Whatever goes wrong is returned.
    """
    try:
        with path.open() as raw:
            if not path.scheme:
                return _read_open(raw, tag)
            windowed = WindowedFile(raw)
            found = _read_open(windowed, tag)
            return UnreadableTags(describe(windowed.error), lost=True) if windowed.error else found
    except FileNotFoundError:
        return UnreadableTags("missing", lost=not path.scheme and not path.parent.is_folder())
    except OSError as error:
        return UnreadableTags(
            describe(error) if path.scheme else error.strerror or type(error).__name__,
            lost=bool(path.scheme) or not path.parent.is_folder(),
        )


def _read_open(raw: Any, tag: str) -> str | UnreadableTags | None:
    """Read one tag of an open file; arguments and result as in `read_tag`."""
    limited = _LimitedFile(raw)
    buffered = io.BufferedReader(limited, _BUFFER)
    values: list[str] = []
    try:
        try:
            values = (
                read_id3(buffered, tag)
                or read_ape(buffered, tag)
                or _read_with_ffmpeg(buffered, tag)
                or read_id3v1(buffered, tag)
            )
        except Exception:
            if not limited.exhausted:
                raise
        if limited.exhausted:
            return UnreadableTags(f"more than {_MOST_BYTES >> 20} MiB")
        return comparable("; ".join(value[:_LONGEST] for value in values))[:_LONGEST].strip() or None
    except MemoryError:
        return UnreadableTags(MemoryError.__name__)
    except OSError as error:
        return UnreadableTags(error.strerror or type(error).__name__)
    except Exception as error:
        name = type(error).__name__
        return UnreadableTags(_REASONS.get(name) or getattr(error, "strerror", None) or name)


def _read_with_ffmpeg(file: BinaryIO, tag: str) -> list[str]:
    """Return the values of a tag of any format that FFmpeg reads; nothing without the tag."""
    file.seek(0)
    with open_container(file, _SECONDS, _NO_PROBING, metadata_errors="surrogateescape") as container:
        # Ogg has them in its streams; the first of several counts.
        found = [*(stream.metadata for stream in reversed(container.streams.audio)), container.metadata]
        tags = {_repaired(key).casefold(): text for metadata in found for key, text in metadata.items()}
    for key in _KEYS[tag]:
        # FFmpeg joins several Vorbis comments by semicolons.
        if values := [part.strip() for part in _repaired(tags.get(key, "")).split(";") if part.strip()]:
            return values
    return []


def _repaired(text: str) -> str:
    """Return text in which bytes that are not UTF-8 are decoded; RIFF and ID3v1 do not record their encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return decode_unlabeled(text.encode("utf-8", "surrogateescape"))
    return text


class _LimitedFile(io.RawIOBase):
    """A file that ends after so many bytes have been read, also by jumping to and fro.

    It ends without an error: FFmpeg reads on after one, 60,000 times in some files, and PyAV writes a traceback
    for each, which takes half a minute.
    """

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self._left = _MOST_BYTES
        self.exhausted = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left -= len(buffer)
        if self._left < 0:
            self.exhausted = True
            return 0
        with memoryview(buffer) as view:
            content: bytes = self._file.read(len(view))
            view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())
