"""List the audio files of a folder whose subfolders are the classes, on a disk or in a bucket."""

import dataclasses
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator

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


@dataclasses.dataclass(frozen=True, slots=True)
class AudioFile:
    """One audio file.

    Attributes:
        path: Path below the root, with `/`. In a bucket it may be a name that is unsafe to join.
        size: Size in bytes, -1 for a broken symbolic link.
    """

    path: str
    size: int


def list_class_folders(root: StoragePath) -> Iterator[AudioFile]:
    """List the audio files below each first-level subfolder; log what is skipped.

    Raises:
        FeaturizeError: A folder cannot be listed.
    """
    unclassed = 0
    for found in list_audio(root):
        if "/" in found.path:
            yield found
        else:
            unclassed += 1
    if unclassed:
        _log.warning("%d audio files are in no class folder and were skipped.", unclassed)


def list_audio(root: StoragePath) -> Iterator[AudioFile]:
    """List the audio files of a folder at any depth; log what is skipped: hidden files and other formats.

    Raises:
        FeaturizeError: A folder cannot be listed.
    """
    skipped: Counter[str] = Counter()
    for path, size in _local_files(root.path) if root.local else _remote_files(root):
        name = path.rpartition("/")[2]
        suffix = os.path.splitext(name)[1].lower()
        if name.startswith("."):
            skipped["hidden"] += 1
        elif suffix not in AUDIO_SUFFIXES:
            skipped[suffix or "no suffix"] += 1
        elif size is None:
            skipped["not a regular file"] += 1
        else:
            yield AudioFile(path, size)
    if skipped:
        by_count = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{kind}: {count}" for kind, count in by_count)
        _log.warning("%d other files were skipped (%s).", skipped.total(), kinds)


def size_of(path: StoragePath) -> int:
    """Return the size of a file in bytes, -1 if it does not exist."""
    try:
        return os.stat(path.path).st_size if path.local else int(path.filesystem.get_file_info(path.path).size)
    except (OSError, TypeError):  # a missing object has the size None
        return -1


def _local_files(root: str) -> Iterator[tuple[str, int | None]]:
    """List a local folder: path, and size in bytes; None for what is not a regular file."""
    visited: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse_folder):
        # A symbolic link may lead back up: read each real folder once.
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        below = os.path.relpath(folder, root)
        for name in files:
            path = name if below == "." else f"{below}/{name}"
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:
                yield path, -1
            else:
                yield path, status.st_size if stat.S_ISREG(status.st_mode) else None


def _remote_files(root: StoragePath) -> Iterator[tuple[str, int | None]]:
    """List a remote folder page by page; leave out hidden folders, as in a local one."""
    try:
        for path, size in root.files():
            hidden = any(part.startswith(".") for part in path.split("/")[:-1])
            if not hidden or not is_safe_name(path):
                yield path, size
    except OSError as error:
        raise FeaturizeError(f"cannot list {root}: {describe(error)}.") from error


def _refuse_folder(error: OSError) -> None:
    raise FeaturizeError(f"cannot list {error.filename}: {error.strerror}.") from error
