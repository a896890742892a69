"""Read the next files of a bucket while one is decoded: an answer takes as long as decoding several tracks."""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from featurize.audio.remote_file import Beginning, read_beginning
from featurize.audio.source import WHOLE_BYTES
from featurize.dataset.feature_settings import FeatureSettings
from featurize.storage import StoragePath

_FILES_AHEAD = 16
_BYTES_AHEAD = 64 << 20  # of files that are on the way or wait for the decoder
# Of an excerpt from the start: tags with a cover, and the sound, up to 16-bit stereo at 44.1 kHz.
_TAG_BYTES, _BYTES_PER_SECOND = 256 << 10, 44_100 * 2 * 2


class _Wanted(NamedTuple):
    path: StoragePath
    length: int  # bytes to read, from the start


class FetchAhead:
    """Reads files of buckets in threads, a few ahead of the one that is taken."""

    def __init__(self, files: Iterable[tuple[StoragePath, int]], settings: FeatureSettings) -> None:
        """Start to read the first files.

        Args:
            files: Paths and sizes in bytes, in the order in which they will be taken. Local, missing, empty and
                very large files are ignored: the decoder reads them itself.
            settings: Feature settings, which say whether the beginning of a file is enough.
        """
        most = _most_bytes(settings)
        self._waiting = deque(
            _Wanted(path, min(size, most)) for path, size in files if path.scheme and 0 < size <= WHOLE_BYTES
        )
        self._fetched: dict[str, tuple[Future[Beginning], int]] = {}
        self._bytes = 0
        self._threads = ThreadPoolExecutor(_FILES_AHEAD, thread_name_prefix="fetch-ahead")
        self._fill()

    def __enter__(self) -> "FetchAhead":
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def take(self, path: StoragePath) -> Future[Beginning] | None:
        """Return the beginning of a file, or all of it; None if it is not fetched ahead.

        The result of the future raises OSError if the file cannot be read.
        """
        content, length = self._fetched.pop(str(path), (None, 0))
        self._bytes -= length
        self._fill()
        return content

    def _fill(self) -> None:
        while self._waiting and len(self._fetched) < _FILES_AHEAD:
            path, length = self._waiting[0]
            if self._fetched and self._bytes + length > _BYTES_AHEAD:
                return
            self._waiting.popleft()
            self._bytes += length
            self._fetched[str(path)] = (self._threads.submit(read_beginning, path, length), length)


def _most_bytes(settings: FeatureSettings) -> int:
    """Return how many bytes from the start of a file are likely enough."""
    if settings.excerpt_seconds is None or settings.excerpt_position != "start":
        return WHOLE_BYTES
    return _TAG_BYTES + int(settings.excerpt_seconds * _BYTES_PER_SECOND)
