"""Group of each track: from the collection's table, the previous plan, or a tag of the file."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.catalog import Catalog, stored_path
from featurize.collection.group_names import comparable, names_nothing
from featurize.collection.location import locate
from featurize.collection.tags import UnreadableTags
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
    given = catalog.tracks["group"].combine_chunks()
    ids = catalog.tracks["track"].combine_chunks()
    if given.null_count < len(given):
        return Groups("table", pc.coalesce(_each_name(given, lambda name: comparable(name) or None), ids))
    if config.group_by == "none":
        return Groups("none", ids)
    if previous is not None and previous.grouping == config.group_by:
        # A file whose size is unchanged is assumed to have unchanged tags.
        rows = rows_in_previous(ids, previous)
        indices = pa.array(np.maximum(rows, 0), mask=rows < 0)
        sizes = pc.take(previous.tracks["size"].combine_chunks(), indices)
        same = pc.equal(sizes, catalog.tracks["size"].combine_chunks())
        group = pc.take(previous.tracks["group"].combine_chunks(), indices)
        given = pc.if_else(pc.fill_null(same, False), group, pa.scalar(None, pa.string()))
    return Groups(config.group_by, given)


def unread_files(catalog: Catalog, groups: Groups) -> list[StoragePath | None]:
    """Return the files whose tags must be read, in catalog order; None for one that cannot be opened."""
    unread = pc.indices_nonzero(pc.is_null(groups.groups))
    rows = catalog.tracks.select(["track", "path"]).take(unread).to_pylist()
    return [_file(catalog, stored_path(row["track"], row["path"])) for row in rows]


def add_tags(catalog: Catalog, groups: Groups, tags: Sequence[str | UnreadableTags | None]) -> Groups:
    """Return the groups of all tracks, and log what is doubtful about them.

    A track without the tag is its own group, and so is one whose tag or group names no artist: "Various Artists".

    Args:
        catalog: Tracks of the collection.
        groups: Groups from `known_groups`.
        tags: Tag of each file of `unread_files`; None for files without it.
    """
    ids = catalog.tracks["track"].combine_chunks()
    unread = pc.is_null(groups.groups)
    log_missing_tags(ids.filter(unread), tags, groups.grouping)
    texts = [tag if isinstance(tag, str) and tag else None for tag in tags]
    named = pc.coalesce(pa.array(texts, pa.string()), ids.filter(unread))
    complete = pc.replace_with_mask(groups.groups, unread, named)
    if groups.grouping != "none":
        complete = _without_placeholders(complete, ids, groups.grouping)
    if catalog.tracks["fold"].null_count:
        log_large_group(complete, groups.grouping)
        log_parts(ids, catalog.tracks["label"].combine_chunks(), complete)
    return dataclasses.replace(groups, groups=complete)


def _without_placeholders(groups: pa.Array, ids: pa.Array, grouping: str) -> pa.Array:
    """Return the groups in which a track whose group names nothing is its own group; log how many there are."""
    kept = _each_name(groups, lambda name: None if names_nothing(name, grouping) else name)
    placeholder = pc.is_null(kept)
    log_placeholders(groups.filter(placeholder), grouping)
    return pc.if_else(placeholder, ids, kept)


def _each_name(names: pa.Array, function: Callable[[str], str | None]) -> pa.Array:
    """Apply a function to each name, once for all tracks that have it; null stays null."""
    encoded = names.dictionary_encode()
    changed = pa.array([function(name) for name in encoded.dictionary.to_pylist()], pa.string())
    return changed.take(encoded.indices)


def _file(catalog: Catalog, path: str) -> StoragePath | None:
    try:
        return locate(catalog.root, path, catalog.unreachable)
    except (CollectionLostError, Reject):
        return None
