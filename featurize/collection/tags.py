"""Read the artist or album tag of audio files."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import mutagen
import pyarrow as pa

from featurize.storage import StoragePath

# ID3 frames of mutagen's easy names: WAV and AIFF files carry ID3 without the easy interface.
_ID3_FRAME = {"artist": "TPE1", "album": "TALB"}
_READERS = 16
_LONGEST = 300  # characters of an artist name; damaged tags hold megabytes
_BUFFER_BYTES = 1 << 16  # for files read over a network


def read_tags(paths: Sequence[StoragePath], tag: str) -> list[str | None]:
    """Read one tag of many files, in order; None for a file without it.

    Values that differ only in case or surrounding space are the same group.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda path: read_tag(path, tag), paths))


def read_tag(path: StoragePath, tag: str) -> str | None:
    """Read one tag of one file, casefolded; None if it has none, or if mutagen cannot read the file.

    A file that mutagen cannot read is not rejected here: the decoder decides whether it is audio.
    """
    try:
        if path.local:
            file = mutagen.File(path.path, easy=True)
        else:
            with path.filesystem.open_input_file(path.path) as remote:
                file = mutagen.File(io.BufferedReader(remote, _BUFFER_BYTES), easy=True)
    # mutagen.File turns nearly all of these into its own errors, but not for every format.
    except (mutagen.MutagenError, pa.ArrowException, OSError, ValueError, LookupError, EOFError, MemoryError):
        return None
    if file is None or not file.tags:
        return None
    values = file.tags.get(tag) or file.tags.get(_ID3_FRAME[tag]) or []
    text = "; ".join(str(value) for value in values).strip().casefold()
    return text[:_LONGEST] or None
