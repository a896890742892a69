"""Log what is doubtful about the groups of a collection: missing tags, large groups, parts of one recording."""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.tags import UnreadableTags
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


def log_large_group(groups: pa.Array, grouping: str) -> None:
    """Log the largest group if it has more tracks than a fold should have.

    Args:
        groups: Group of each track, string [tracks].
        grouping: As in Groups.
    """
    counts = pc.value_counts(groups)
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
    alone = pc.equal(ids, groups)
    parts_of: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for track, label in zip(ids.filter(alone).to_pylist(), labels.indices.filter(alone).to_pylist(), strict=True):
        if recording := _recording(os.path.splitext(track.rpartition("/")[2])[0].casefold()):
            parts_of[label][recording].append(track)
    recordings = [parts for stems in parts_of.values() for parts in _recordings(list(stems.values()))]
    count = sum(map(len, recordings))
    if count >= _FEWEST_PARTS:
        first, second = sorted(recordings[0])[:2]
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


def _recordings(stems: list[list[str]]) -> list[list[str]]:
    """Return the tracks of each name that has several numbers; nothing if there are not several such names."""
    several = [tracks for tracks in stems if len(tracks) > 1]
    if len(several) < 2 or max(map(len, several)) > _LARGEST_SHARE * sum(map(len, stems)):
        return []
    return several


def _more(names: Sequence[object], shown: int) -> str:
    return f" and {len(names) - shown} more" if len(names) > shown else ""
