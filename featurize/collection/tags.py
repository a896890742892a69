"""The artist or album that a file's tags name."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import mutagen
import pyarrow as pa

from featurize.storage import StoragePath

# The ID3 frames behind mutagen's easy names: WAV and AIFF files carry ID3 without the easy interface.
_ID3_FRAME = {"artist": "TPE1", "album": "TALB"}
_READERS = 16
_LONGEST = 300  # characters of an artist; damaged tags hold megabytes
_BUFFER_BYTES = 1 << 16  # of a file that is read over a network


def read_tags(places: Sequence[StoragePath], tag: str) -> list[str | None]:
    """Read one tag of many files, in order; None where a file does not carry it.

    Values that differ in case or in surrounding space alone are the same group.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda place: read_tag(place, tag), places))


def read_tag(place: StoragePath, tag: str) -> str | None:
    """Read one tag of one file, casefolded; None where there is none, or where mutagen cannot read the file.

    A file that mutagen cannot read is not refused here: whether it is audio is for the decoder to say.
    """
    try:
        if place.local:
            file = mutagen.File(place.path, easy=True)
        else:
            with place.filesystem.open_input_file(place.path) as remote:
                file = mutagen.File(io.BufferedReader(remote, _BUFFER_BYTES), easy=True)
    # mutagen.File takes nearly all of these for its own errors, but not those of every format.
    except (mutagen.MutagenError, pa.ArrowException, OSError, ValueError, LookupError, EOFError, MemoryError):
        return None
    if file is None or not file.tags:
        return None
    values = file.tags.get(tag) or file.tags.get(_ID3_FRAME[tag]) or []
    text = "; ".join(str(value) for value in values).strip().casefold()
    return text[:_LONGEST] or None
