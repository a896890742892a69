"""Tags that have been read are kept in the output folder until the plan is stored, in case a run is interrupted.

Each task of the tag pass adds a file to the folder `groups.parquet`. A run that finds such files reads only the
tags that are not there, and those of files that have been written since. Unreadable tags are not kept: a disk or a
network may have failed.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from featurize.collection.tags import UnreadableTags
from featurize.dataset.reader import UNREADABLE
from featurize.dataset.tables import read_table, write_table
from featurize.errors import CollectionLostError
from featurize.execution.tag_reading import Tag, read_tags
from featurize.storage import StoragePath

FOLDER = "groups.parquet"
_ATTEMPTS = 3  # to read a file that cannot be reached
_SCHEMA = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("modified", pa.int64(), nullable=False),
        pa.field("tag", pa.string(), nullable=False),  # name of the tag: artist or album
        pa.field("value", pa.string()),
    ]
)


class KeptTag(NamedTuple):
    """Tag of a file.

    Attributes:
        modified: When the file was last written, in nanoseconds since the epoch; -1 if that is unknown, as in a
            bucket.
        tag: As `read_tags` returns it.
    """

    modified: int
    tag: Tag


def read_new_tags(
    files: Sequence[StoragePath | None], sizes: Sequence[int], kept: Sequence[KeptTag | None], tag: str
) -> list[tuple[KeptTag, bool]]:
    """Read one tag of many files as `read_tags` does, except of files that have not changed since they were read.

    Args:
        files: The files; None for one that cannot be opened.
        sizes: Sizes of the files in bytes, -1 for one that was missing when the collection was listed.
        kept: Tag of each file from an interrupted run; None without one.
        tag: Name of the tag.

    Returns:
        The tag of each file, and whether it was read now.

    Raises:
        CollectionLostError: A file that was there can no longer be reached. As a track without the tag it would be
            its own group from now on, because the plan is kept.
    """
    times = [_modified(file) for file in files]
    is_kept = [had is not None and had.modified == time for had, time in zip(kept, times, strict=True)]
    unread = [None if keep else file for keep, file in zip(is_kept, files, strict=True)]
    found = _read_all(unread, sizes, tag) if any(file is not None for file in unread) else [None] * len(files)
    return [
        (had, False) if keep and had is not None else (KeptTag(time, value), True)
        for had, keep, time, value in zip(kept, is_kept, times, found, strict=True)
    ]


def _read_all(files: Sequence[StoragePath | None], sizes: Sequence[int], tag: str) -> list[Tag]:
    found: list[Tag] = [None] * len(files)
    waiting = list(range(len(files)))
    for _ in range(_ATTEMPTS):
        for index, value in zip(waiting, read_tags([files[index] for index in waiting], tag), strict=True):
            found[index] = value
        waiting = [index for index in waiting if _is_lost(found[index]) and sizes[index] >= 0]
        if not waiting:
            return found
    file, value = files[waiting[0]], found[waiting[0]]
    assert isinstance(value, UnreadableTags)
    question = "its bucket still reachable" if file and file.scheme else "its disk still mounted"
    raise CollectionLostError(
        f"{file} was there when the collection was listed, and its tags can no longer be read ({value.reason}). "
        f"Is {question}?"
    )


def _is_lost(tag: Tag) -> bool:
    return isinstance(tag, UnreadableTags) and tag.lost


def keep_tags(
    folder: StoragePath, tracks: Sequence[str], sizes: Sequence[int], tags: Sequence[KeptTag], tag: str
) -> None:
    """Add tags to those in an output folder.

    Args:
        folder: Output folder.
        tracks: Ids.
        sizes: Sizes of the files, in bytes.
        tags: What was read.
        tag: Name of the tag.
    """
    rows = [
        {
            "track": track,
            "size": size,
            "modified": kept.modified,
            "tag": tag,
            "value": kept.tag,
        }
        for track, size, kept in zip(tracks, sizes, tags, strict=True)
        if not isinstance(kept.tag, UnreadableTags)
    ]
    if not rows:
        return
    content = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
    write_table(folder / FOLDER / f"part-{content}.parquet", pa.Table.from_pylist(rows, schema=_SCHEMA))


def read_kept_tags(folder: StoragePath, tag: str) -> dict[tuple[str, int], KeptTag]:
    """Return the tags that an interrupted run has left, by id and size of the file; broken files are ignored."""
    found: dict[tuple[str, int], KeptTag] = {}
    for name in sorted((folder / FOLDER).names()):
        try:
            rows = read_table(folder / FOLDER / name, schema=_SCHEMA).to_pylist()
        except UNREADABLE:
            continue
        for row in rows:
            key, kept = (row["track"], row["size"]), KeptTag(row["modified"], row["value"])
            # Of a file that has changed, the later tag counts.
            if row["tag"] == tag and (key not in found or found[key].modified <= kept.modified):
                found[key] = kept
    return found


def forget_tags(folder: StoragePath) -> None:
    """Remove the kept tags: the plan has the groups now."""
    (folder / FOLDER).remove_folder()


def _modified(file: StoragePath | None) -> int:
    if file is None or file.scheme:
        return -1
    try:
        return os.stat(file.path).st_mtime_ns
    except OSError:
        return -1
