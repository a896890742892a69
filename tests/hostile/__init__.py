"""A collection of everything that should not be in a collection of music, and what must become of each file.

Accidents of many years and a little malice: other files under audio names, interrupted copies, headers that
lie, levels and names that nobody expects. The same bytes on every machine that has the same libsndfile.
"""

import functools
from pathlib import Path

from hostile.cases import good_files, lengths, levels, names, other_files, tags
from hostile.damage import damaged_files, lying_headers
from hostile.verdicts import MISSING, ROWS, Entry, Verdict

# A relative path, where the link there leads, and what must become of it.
LINKS: list[tuple[str, str, Verdict]] = [
    ("links/good.wav", "../formats/u8.wav", ROWS),
    ("links/good.mp3", "good.wav", ROWS),  # a link to a link, whose suffix is wrong too
    ("links/broken.mp3", "unplugged disk/track.mp3", MISSING),
    ("links/broken.m4a", "unplugged disk/track.m4a", MISSING),
]


@functools.cache
def hostile_files() -> list[Entry]:
    """Return every file but the links; made once (three seconds, 25 MB)."""
    groups = (other_files, good_files, damaged_files, lying_headers, levels, lengths, tags, names)
    return [entry for group in groups for entry in group()]


def hostile_verdicts() -> dict[str, Verdict]:
    """Return what must become of each file.

    Returns:
        For each relative path, with bytes that are not UTF-8 escaped as a catalog does it: None for rows, else the
        stage and the reason of its rejection.
    """
    verdicts = {
        name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"): verdict
        for name, _, verdict in hostile_files()
    }
    return verdicts | {name: verdict for name, _, verdict in LINKS}


def write_hostile(folder: Path) -> None:
    """Write files that a music collection may hold by accident or malice, in a subfolder for each kind."""
    for name, content, _ in hostile_files():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name, target, _ in LINKS:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)
