"""List the audio files of a folder, on a disk or in a bucket."""

import dataclasses
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from featurize.collection.bucket_listing import list_by_prefix
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe, is_safe_name

# Suffixes by which files are listed. The reader and the format are found from the content alone.
_MUSIC = (
    ".8svx .aa3 .aac .ac3 .aif .aifc .aiff .amr .ape .au .avr .awb .bwf .caf .dff .dsf .dts .dtshd .eac3 .ec3 "
    ".flac .ircam .latm .loas .m2a .m4a .m4b .m4r .mac .mka .mp1 .mp2 .mp3 .mpa .mpc .mpga .mpp .nist .oga .ogg "
    ".oma .omg .opus .paf .pvf .qcp .rf64 .shn .snd .sph .spx .svx .tak .thd .tta .voc .w64 .wav .wave .wma .wv "
    ".xwma"
)
# Films, of which the sound is read.
_FILMS = (
    ".3g2 .3gp .asf .avi .f4a .f4v .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .nut .ogm .ogv .ogx .qt .ts "
    ".vob .webm .wmv"
)
AUDIO_SUFFIXES = frozenset(f"{_MUSIC} {_FILMS}".split())

_log = logging.getLogger(__name__)
NAMES_SHOWN = 5
_MOST_NAMES = 100  # of one folder: symbolic links could otherwise make exponentially many of a few folders
# What file systems, network storage and tools leave among music, casefolded. Any other name is music, also one
# that begins with a dot: "...And Justice for All", ".38 Special".
_SYSTEM_NAMES = frozenset(
    {
        *(".appledb", ".appledesktop", ".appledouble", ".documentrevisions-v100", ".ds_store", ".fseventsd"),
        *(".spotlight-v100", ".temporaryitems", ".volumeicon.icns", "__macosx", "network trash folder"),
        *("temporary items", "$recycle.bin", "system volume information", "lost+found"),
        *(
            ".snapshot",
            ".snapshots",
            ".zfs",
            "#recycle",
            "#snapshot",
            "@eadir",
            "@recycle",
            "@recently-snapshot",
            "@tmp",
        ),
        *(".@__thumb", ".cache", ".thumbnails", ".git", ".hg", ".svn", ".dvc", ".ipynb_checkpoints", ".venv"),
        *("__pycache__", ".dropbox.cache", ".stfolder", ".stversions", ".sync", ".localized", ".nomedia"),
    }
)
# AppleDouble files, trash of desktops and phones, unfinished downloads, files open while removed, our own.
_SYSTEM_PATTERN = re.compile(
    r"\._.*|\.trash(es|-\d+|ed-.*)?|\.pending-\d+-.*|\.nfs[0-9a-f]{12,}|\.fuse_hidden.*|[.~]syncthing[.~].*"
    r"|\.earmark-.*\.tmp",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True, slots=True)
class AudioFile:
    """One audio file.

    Attributes:
        path: Path below the root, with `/`. In a bucket it may be a name that is unsafe to join.
        size: Size in bytes, -1 for a broken symbolic link.
    """

    path: str
    size: int


def list_audio(root: StoragePath, folders: set[str] | None = None) -> Iterator[AudioFile]:
    """List the audio files of a folder at any depth; log what is skipped: other formats, and files of systems.

    Args:
        root: The folder.
        folders: Receives the folders that are searched, at the first and the second level below the root.

    Raises:
        FeaturizeError: A folder cannot be listed.
    """
    system: set[str] = set()
    searched: set[str] = set() if folders is None else folders
    if root.local:
        yield from _audio_among(_local_files(root.path, searched, system), system)
        return
    try:
        yield from audio_of_bucket(list_by_prefix(root), searched)
    except OSError as error:
        raise FeaturizeError(f"cannot list {root}: {describe(error)}.") from error


def audio_of_bucket(found: Iterable[tuple[str, int]], folders: set[str]) -> Iterator[AudioFile]:
    """Return the audio files among the objects below a folder of a bucket; log what is skipped.

    Args:
        found: Path below the folder, and size in bytes, of each object.
        folders: As in `list_audio`.
    """
    system: set[str] = set()
    yield from _audio_among(_outside_system_folders(found, folders, system), system)


def _audio_among(found: Iterable[tuple[str, int | None]], system: set[str]) -> Iterator[AudioFile]:
    """Yield the audio files among files with their sizes; log how many others there are, and system folders."""
    skipped: Counter[str] = Counter()
    for path, size in found:
        name = path.rpartition("/")[2]
        stem, dot, suffix = name.rpartition(".")
        if is_system_name(name):
            skipped["system files"] += 1
        elif f".{suffix.lower()}" not in AUDIO_SUFFIXES or not dot:
            skipped[f".{suffix.lower()}" if dot and stem else "no suffix"] += 1
        elif size is None:
            skipped["not a regular file"] += 1
        else:
            yield AudioFile(path, size)
    if skipped:
        by_count = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{one_line(kind)}: {count}" for kind, count in by_count)
        _log.warning("%d other files were skipped (%s).", skipped.total(), kinds)
    if system:
        _log.warning("%d folders of systems and tools were skipped: %s.", len(system), shown(sorted(system)))


def is_system_name(name: str) -> bool:
    """Return whether a file or folder has a name that file systems and tools use, not music."""
    folded = name.casefold()
    return folded in _SYSTEM_NAMES or _SYSTEM_PATTERN.fullmatch(folded) is not None


def shown(names: Sequence[str], count: int | None = None) -> str:
    """Return the first names in quotation marks and the number of the others, of `count` in all."""
    more = (len(names) if count is None else count) - NAMES_SHOWN
    return ", ".join(repr(name) for name in names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def size_of(path: StoragePath) -> int:
    """Return the size of a file in bytes, -1 if it does not exist."""
    if not path.scheme:
        return size_of_local(path.path)
    try:
        return int(path.filesystem.get_file_info(path.path).size)
    except (OSError, TypeError):  # a missing object has the size None
        return -1


def size_of_local(path: str) -> int:
    """Return the size of a file of this machine in bytes, -1 if it does not exist."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _local_files(root: str, searched: set[str], system: set[str]) -> Iterator[tuple[str, int | None]]:
    """List a local folder: path, and size in bytes; None for what is not a regular file.

    Symbolic links are followed, so that a folder with two names is listed twice; a folder inside itself is not.
    """
    visits: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while waiting:
        below, above = waiting.pop()
        folder = os.path.join(root, below) if below else root
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            visits[identity] += 1
            if visits[identity] > _MOST_NAMES:
                raise FeaturizeError(
                    f"{one_line(folder)} has more than {_MOST_NAMES} names through symbolic links. Remove some of "
                    "the links."
                )
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise FeaturizeError(f"cannot list {one_line(folder)}: {error.strerror}.") from error
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if not _is_folder(entry):
                yield path, _size_of_entry(entry)
            elif is_system_name(entry.name):
                system.add(path)
            else:
                if path.count("/") < 2:
                    searched.add(path)
                waiting.append((path, above | {identity}))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link to itself
        return False


def _size_of_entry(entry: "os.DirEntry[str]") -> int | None:
    try:
        status = entry.stat()
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _outside_system_folders(
    found: Iterable[tuple[str, int]], searched: set[str], system: set[str]
) -> Iterator[tuple[str, int]]:
    """Yield the objects that are in no folder of a system; collect the folders, as `_local_files` does."""
    for path, size in found:
        parts = path.split("/")[:-1]
        if not is_safe_name(path):
            yield path, size
            continue
        first = next((i for i, part in enumerate(parts) if is_system_name(part)), None)
        if first is not None:
            system.add("/".join(parts[: first + 1]))
            continue
        searched.update("/".join(parts[:depth]) for depth in (1, 2) if depth <= len(parts))
        yield path, size
