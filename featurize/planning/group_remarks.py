"""Log what is doubtful about the groups of a collection: missing tags, large groups, parts of one recording."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.collection.tags import UnreadableTags
from featurize.column_file import ROWS_AT_ONCE
from featurize.dataset.schema import FOLDS

_log = logging.getLogger(__name__)
_NAMES_SHOWN = 20
_FEWER_NAMES_SHOWN = 5  # where names are examples

# All of these take time linear in the length of a name, which a stranger chose.
_NUMBER = re.compile(r"[(\[]?\d{1,6}[)\]]?$")
_SEPARATORS = " ._-([\t"
_PART = re.compile(r"(?:part|pt|seg|segment|chunk|slice|clip|split|excerpt|window)$")
# Last words that say nothing about the recording: words for a track, for a disc, and for works that are counted.
_TRACK_WORDS = frozenset(
    ("track", "tr", "audiotrack", "titel", "title", "spur", "piste", "pista", "traccia", "faixa")
)
_DISC_WORDS = frozenset(("cd", "disc", "disk", "side", "vol", "volume"))
_WORK_WORDS = frozenset(("no", "nr", "op", "opus", "k", "kv", "bwv", "take", "#", "№"))
_DISC_OR_DATE = re.compile(r"\d{1,2}|(19|20)\d\d([ ._-]\d\d?)?")
_LARGEST_SHARE = 0.75  # of one stem among the numbered files of a class: beyond, it is the name of the class
_FEWEST_PARTS = 4  # files that must look like parts


def log_missing_tags(ids: pa.Array, tags: Sequence[str | UnreadableTags | None], grouping: str) -> None:
    """Log how many tracks have no tag, and which have tags that cannot be read.

    Args:
        ids: Tracks whose tags were read, string [tracks].
        tags: What was read.
        grouping: Name of the tag.
    """
    missing = [index for index, tag in enumerate(tags) if tag is None]
    if missing:
        named = ", ".join(repr(ids[index].as_py()) for index in missing[:_FEWER_NAMES_SHOWN])
        _log.warning(
            "%d of %d tracks have no %s tag; each of them is its own group: %s%s.",
            len(missing),
            len(tags),
            grouping,
            named,
            _more(missing, _FEWER_NAMES_SHOWN),
        )
    unreadable = [(index, tag.reason) for index, tag in enumerate(tags) if isinstance(tag, UnreadableTags)]
    if unreadable:
        named = ", ".join(f"{ids[index].as_py()!r} ({reason})" for index, reason in unreadable[:_NAMES_SHOWN])
        _log.warning(
            "The tags of %d tracks are unreadable; each of them is its own group: %s%s.",
            len(unreadable),
            named,
            _more(unreadable, _NAMES_SHOWN),
        )


def log_placeholders(groups: pa.Array, grouping: str) -> None:
    """Log how many tracks have a group that names nothing.

    Args:
        groups: The groups of these tracks, string [tracks].
        grouping: As in Groups.
    """
    counts = Counter(groups.to_pylist()).most_common()
    if counts:
        named = ", ".join(f"{name!r}: {count}" for name, count in counts[:_FEWER_NAMES_SHOWN])
        _log.warning(
            "%d tracks have a name for no %s in particular; each of them is its own group (%s%s).",
            len(groups),
            "group" if grouping == "table" else grouping,
            named,
            _more(counts, _FEWER_NAMES_SHOWN),
        )


def log_large_group(ids: pa.Array, groups: pa.Array, grouping: str) -> None:
    """Log the largest group if it has more tracks than a fold should have.

    Args:
        ids: Tracks, string [tracks]; a track that is its own group is not counted.
        groups: Group of each track, string [tracks].
        grouping: As in Groups.
    """
    together = groups.filter(pc.not_equal(ids, groups))
    counts = pc.value_counts(together)
    sizes = counts.field("counts")
    largest = pc.max(sizes).as_py() or 0
    if largest * FOLDS <= len(groups):
        return
    name = counts.field("values").filter(pc.equal(sizes, largest))[0].as_py()
    cure = {
        "table": "correct the column group of the table",
        "artist": "correct the tags, or add --set featurize.group_by=album",
    }.get(grouping, "correct the tags, or add --set featurize.group_by=artist")
    _log.warning(
        "The group %r has %d of %d tracks, more than the share of a fold (a fifth), so folds differ in size; if "
        "these tracks do not belong together, %s.",
        name,
        largest,
        len(groups),
        cure,
    )


def log_parts(ids: pa.Array, labels: pa.DictionaryArray, groups: pa.Array) -> None:
    """Log how many tracks without a group look like parts of one recording: `song_01.wav`, `song_02.wav`.

    Numbers that count the tracks of a class or of an album are none: in some class, at least two names must have
    several numbers each.

    Args:
        ids: Tracks, string [tracks].
        labels: Class of each track.
        groups: Group of each track, string [tracks].
    """
    alone = np.flatnonzero(pc.equal(ids, groups).to_numpy(zero_copy_only=False))
    label_of = labels.indices.to_numpy()[alone]
    recordings: list[int] = []
    example: list[str] = []
    _, first_of_label = np.unique(label_of, return_index=True)
    for label in label_of[np.sort(first_of_label)]:  # one class at a time: its names are Python objects
        inside = alone[label_of == label]
        found = _recordings(Counter(name for _, name in _named_recordings(ids, inside)))
        recordings += found.values()
        if found and not example:
            recording = next(iter(found))
            example = [track for track, name in _named_recordings(ids, inside) if name == recording]
    count = sum(recordings)
    if count >= _FEWEST_PARTS:
        first, second = sorted(example)[:2]
        _log.warning(
            "%d tracks without a group look like parts of %d recordings (such as %r and %r), and parts of one "
            "recording may be in different folds, which makes scores too high; give a table whose column group "
            "names the recording.",
            count,
            len(recordings),
            first,
            second,
        )


def _recording(name: str) -> str | None:
    """Return what stands before the number at the end of a name, if it can be the name of a recording."""
    number = _NUMBER.search(name)
    if not number:
        return None
    stem = name[: number.start()].rstrip(_SEPARATORS)
    stem = _PART.sub("", stem).rstrip(_SEPARATORS)
    word = re.split(r"[ ._-]", stem)[-1]
    if not stem or _DISC_OR_DATE.fullmatch(stem) or word in _TRACK_WORDS | _WORK_WORDS:
        return None
    return None if word.rstrip("0123456789") in _DISC_WORDS else stem


def _named_recordings(ids: pa.Array, rows: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
    """Yield the tracks of some rows that may be parts of a recording, each with the name of the recording."""
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        for track in ids.take(pa.array(rows[begin : begin + ROWS_AT_ONCE])).to_pylist():
            if recording := _recording(os.path.splitext(track.rpartition("/")[2])[0].casefold()):
                yield track, recording


def _recordings(stems: Mapping[str, int]) -> dict[str, int]:
    """Return the names that have several numbers, with how many; nothing if there are not several such names."""
    several = {stem: tracks for stem, tracks in stems.items() if tracks > 1}
    if len(several) < 2 or max(several.values()) > _LARGEST_SHARE * sum(stems.values()):
        return {}
    return several


def _more(names: Sequence[object], shown: int) -> str:
    return f" and {len(names) - shown} more" if len(names) > shown else ""
