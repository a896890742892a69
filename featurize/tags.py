"""The artist or album that a file's tags name."""

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import mutagen

Tag = Literal["artist", "album"]

# The ID3 frames behind mutagen's easy names: WAV and AIFF files carry ID3 without the easy interface.
_ID3_FRAME = {"artist": "TPE1", "album": "TALB"}
_READERS = 16


def read_groups(paths: list[str], tag: Tag) -> list[str | None]:
    """Read one tag of many files, in order; None where a file does not carry it.

    Values that differ in case or in surrounding space alone are the same group.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda path: read_tag(path, tag), paths))


def read_tag(path: str, tag: Tag) -> str | None:
    """Read one tag of one file, casefolded; None where there is none, or where mutagen cannot read the file.

    A file that mutagen cannot read is not refused here: whether it is audio is for the decoder to say.
    """
    try:
        file = mutagen.File(path, easy=True)
    except (mutagen.MutagenError, OSError, ValueError):
        return None
    if file is None or not file.tags:
        return None
    values = file.tags.get(tag) or file.tags.get(_ID3_FRAME[tag]) or []
    text = "; ".join(str(value) for value in values).strip().casefold()
    return text or None
