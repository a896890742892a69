"""Generated collection of hostile files, with the expected verdict for each file.

Other files with audio suffixes, interrupted copies, wrong headers, extreme levels and unusual names. The bytes are
the same on every machine with the same version of libsndfile.
"""

import functools
from pathlib import Path

from hostile.cases import good_files, lengths, levels, names, other_files, tags
from hostile.damage import damaged_files, wrong_headers
from hostile.verdicts import MISSING, ROWS, Entry, Verdict

# Relative path of a symbolic link, its target, and the expected verdict.
LINKS: list[tuple[str, str, Verdict]] = [
    ("links/good.wav", "../formats/u8.wav", ROWS),
    ("links/good.mp3", "good.wav", ROWS),  # a link to a link, with a wrong suffix
    ("links/broken.mp3", "unplugged disk/track.mp3", MISSING),
    ("links/broken.m4a", "unplugged disk/track.m4a", MISSING),
]


@functools.cache
def hostile_files() -> list[Entry]:
    """Return all files except the links; generated once (3 s, 25 MB)."""
    groups = (other_files, good_files, damaged_files, wrong_headers, levels, lengths, tags, names)
    return [entry for group in groups for entry in group()]


def hostile_verdicts() -> dict[str, Verdict]:
    """Return the expected verdict for each file.

    Returns:
        Verdict by relative path: None for rows, else the stage and the reason of the reject. Bytes of the path
        that are not UTF-8 are escaped as in the catalog.
    """
    verdicts = {
        name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"): verdict
        for name, _, verdict in hostile_files()
    }
    return verdicts | {name: verdict for name, _, verdict in LINKS}


def write_hostile(folder: Path) -> None:
    """Write the collection, with a subfolder for each kind of file."""
    for name, content, _ in hostile_files():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name, target, _ in LINKS:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)
