"""The audio files of a folder whose subfolders are the classes, here or in a bucket."""

import dataclasses
import os
import stat
from collections import Counter
from collections.abc import Iterator

from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe

# What libsndfile decodes, and what PyAV adds to it.
SNDFILE_SUFFIXES = frozenset({".aif", ".aifc", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
AV_SUFFIXES = frozenset(
    {".aac", ".ac3", ".amr", ".ape", ".m4a", ".m4b", ".mka", ".mp4", ".mpc", ".wma", ".wv"}
)  # fmt: skip
AUDIO_SUFFIXES = SNDFILE_SUFFIXES | AV_SUFFIXES


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """One audio file: its path below the root, with `/`, and its size in bytes, -1 for a link into nothing."""

    path: str
    size: int


def list_audio(root: StoragePath, remarks: list[str]) -> Iterator[Found]:
    """Find the audio files below each first-level subfolder.

    Args:
        root: the folder.
        remarks: is told of what was passed over: hidden and other files, audio outside of any class.

    Raises:
        FeaturizeError: a folder cannot be listed.
    """
    unclassed = 0
    for found in list_all_audio(root, remarks):
        if "/" in found.path:
            yield found
        else:
            unclassed += 1
    if unclassed:
        remarks.append(f"{unclassed} audio files lie outside any class folder and were passed over.")


def list_all_audio(root: StoragePath, remarks: list[str]) -> Iterator[Found]:
    """Find the audio files of a folder at any depth; otherwise as `list_audio`."""
    passed_over: Counter[str] = Counter()
    for path, size in _local_files(root.path) if root.local else _remote_files(root):
        name = path.rpartition("/")[2]
        suffix = os.path.splitext(name)[1].lower()
        if name.startswith("."):
            passed_over["hidden"] += 1
        elif suffix not in AUDIO_SUFFIXES:
            passed_over[suffix or "no suffix"] += 1
        elif size is None:
            passed_over["no regular file"] += 1
        else:
            yield Found(path, size)
    if passed_over:
        by_count = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{kind}: {count}" for kind, count in by_count)
        remarks.append(f"{passed_over.total()} other files were passed over ({kinds}).")


def size_of(place: StoragePath) -> int:
    """Return the size of a file in bytes, -1 where it is not there."""
    try:
        return os.stat(place.path).st_size if place.local else int(place.filesystem.get_file_info(place.path).size)
    except (OSError, TypeError):  # a missing object has the size None
        return -1


def _local_files(root: str) -> Iterator[tuple[str, int | None]]:
    """List a folder of this machine: path and size, None for what is no regular file."""
    visited: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse_folder):
        # A symbolic link may lead back up: each real folder is read once.
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
    """List a folder elsewhere, page by page; what lies below a hidden folder is left out, as on this machine."""
    try:
        for path, size in root.files():
            if not any(part.startswith(".") for part in path.split("/")[:-1]):
                yield path, size
    except OSError as error:
        raise FeaturizeError(f"cannot list {root}: {describe(error)}.") from error


def _refuse_folder(error: OSError) -> None:
    raise FeaturizeError(f"cannot list {error.filename}: {error.strerror}.") from error
