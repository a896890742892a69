"""Group of each track: from the collection's table, the previous plan, or a tag of the file."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.catalog import Catalog, stored_path
from featurize.collection.group_names import comparable, names_nothing
from featurize.collection.location import locate
from featurize.collection.tags import UnreadableTags
from featurize.column_file import ColumnFile, one_array, parts
from featurize.config import FeaturizeConfig
from featurize.errors import CollectionLostError, Reject
from featurize.planning.group_remarks import log_large_group, log_missing_tags, log_parts, log_placeholders
from featurize.planning.previous_plan import PreviousPlan, rows_in_previous
from featurize.storage import StoragePath


@dataclasses.dataclass(frozen=True)
class Groups:
    """Groups of the tracks of a catalog.

    Attributes:
        grouping: Source of the groups: the name of a tag, `none`, or `table`.
        groups: Group of each track, string [tracks]; null if the tag of the file has not been read yet.
    """

    grouping: str
    groups: pa.Array


def known_groups(catalog: Catalog, config: FeaturizeConfig, previous: PreviousPlan | None) -> Groups:
    """Return the groups that can be determined without reading any audio file."""
    given = one_array(catalog.tracks["group"])
    ids = one_array(catalog.tracks["track"])
    if given.null_count < len(given):
        return Groups("table", _each_name(given, ids, lambda name: comparable(name) or None))
    if config.group_by == "none":
        return Groups("none", ids)
    if previous is not None and previous.grouping == config.group_by:
        # A file whose size is unchanged is assumed to have unchanged tags.
        rows = rows_in_previous(ids, previous)
        indices = pa.array(np.maximum(rows, 0), mask=rows < 0)
        sizes = pc.take(one_array(previous.tracks["size"]), indices)
        same = pc.equal(sizes, one_array(catalog.tracks["size"]))
        group = pc.take(one_array(previous.tracks["group"]), indices)
        given = pc.if_else(pc.fill_null(same, False), group, pa.scalar(None, pa.string()))
    return Groups(config.group_by, given)


@dataclasses.dataclass(frozen=True)
class UnreadFiles:
    """Files whose tags must be read.

    Attributes:
        tracks: Ids of the tracks.
        sizes: Sizes in bytes.
        paths: The files; None for one that cannot be opened.
    """

    tracks: list[str]
    sizes: list[int]
    paths: list[StoragePath | None]


def count_unread(groups: Groups) -> int:
    """Return the number of tracks whose group is not known."""
    return int(groups.groups.null_count)


def unread_files(catalog: Catalog, groups: Groups, at_once: int) -> Iterator[UnreadFiles]:
    """Yield the files whose tags must be read in catalog order, so many at once."""
    unread = pc.indices_nonzero(pc.is_null(groups.groups))
    for begin in range(0, len(unread), at_once):
        some = unread.slice(begin, at_once)
        rows = catalog.tracks.select(["track", "path", "size"]).take(some).to_pylist()
        yield UnreadFiles(
            [row["track"] for row in rows],
            [row["size"] for row in rows],
            [_file(catalog, stored_path(row["track"], row["path"])) for row in rows],
        )


def add_tags(catalog: Catalog, groups: Groups, tags: Sequence[str | UnreadableTags | None]) -> Groups:
    """Return the groups of all tracks, and log what is doubtful about them.

    A track without the tag is its own group, and so is one whose tag or group names no artist: "Various Artists".

    Args:
        catalog: Tracks of the collection.
        groups: Groups from `known_groups`.
        tags: Tag of each file of `unread_files`, in order; None for files without it.
    """
    ids = one_array(catalog.tracks["track"])
    unread = pc.is_null(groups.groups)
    log_missing_tags(ids.filter(unread), tags, groups.grouping)
    texts = [tag if isinstance(tag, str) and tag else None for tag in tags]
    named = pc.coalesce(pa.array(texts, pa.string()), ids.filter(unread))
    complete = pc.replace_with_mask(groups.groups, unread, named) if len(named) else groups.groups
    if groups.grouping != "none":
        complete = _without_placeholders(complete, ids, groups.grouping)
    if catalog.tracks["fold"].null_count:
        log_large_group(ids, complete, groups.grouping)
        log_parts(ids, one_array(catalog.tracks["label"]), complete)
    return dataclasses.replace(groups, groups=complete)


def _without_placeholders(groups: pa.Array, ids: pa.Array, grouping: str) -> pa.Array:
    """Return the groups in which a track whose group names nothing is its own group; log how many there are."""
    placeholders: list[pa.Array] = []
    for part in parts(groups):
        names = part.dictionary_encode()
        nothing = pa.array([names_nothing(name, grouping) for name in names.dictionary.to_pylist()], pa.bool_())
        if pc.any(nothing).as_py():
            placeholders.append(part.filter(nothing.take(names.indices)))
    if not placeholders:
        return groups
    found = pa.concat_arrays(placeholders)
    log_placeholders(found, grouping)
    nothing_named = found.unique()
    kept = ColumnFile(pa.string())
    for part, part_ids in zip(parts(groups), parts(ids), strict=True):
        kept.append(pc.if_else(pc.is_in(part, value_set=nothing_named), part_ids, part))
    return kept.finish()


def _each_name(names: pa.Array, ids: pa.Array, function: Callable[[str], str | None]) -> pa.Array:
    """Apply a function to each name, once for many tracks that have it; the id of the track stands for None."""
    changed = ColumnFile(pa.string())
    for part, part_ids in zip(parts(names), parts(ids), strict=True):
        encoded = part.dictionary_encode()
        values = pa.array([function(name) for name in encoded.dictionary.to_pylist()], pa.string())
        changed.append(pc.coalesce(values.take(encoded.indices), part_ids))
    return changed.finish()


def _file(catalog: Catalog, path: str) -> StoragePath | None:
    try:
        return locate(catalog.root, path, catalog.unreachable)
    except (CollectionLostError, Reject):
        return None
