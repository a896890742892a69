"""Group of each track: from the collection's table, the previous plan, or a tag of the file."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.catalog import Catalog, stored_path
from featurize.collection.location import locate
from featurize.collection.tags import UnreadableTags
from featurize.config import FeaturizeConfig
from featurize.errors import CollectionLostError, Reject
from featurize.planning.previous_plan import PreviousPlan, rows_in_previous
from featurize.storage import StoragePath

_log = logging.getLogger(__name__)
_NAMES_SHOWN = 20


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
        return Groups("table", pc.coalesce(given, ids))
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
    """Return the groups of all tracks; a track without the tag is its own group.

    Args:
        catalog: Tracks of the collection.
        groups: Groups from `known_groups`.
        tags: Tag of each file of `unread_files`; None for files without it.
    """
    missing = sum(tag is None for tag in tags)
    if missing:
        _log.warning(
            "%d of %d tracks have no %s tag; each of them is its own group.", missing, len(tags), groups.grouping
        )
    unread = pc.is_null(groups.groups)
    ids = catalog.tracks["track"].combine_chunks().filter(unread)
    _log_unreadable(ids, tags)
    texts = [tag if isinstance(tag, str) and tag else None for tag in tags]
    named = pc.coalesce(pa.array(texts, pa.string()), ids)
    return dataclasses.replace(groups, groups=pc.replace_with_mask(groups.groups, unread, named))


def _file(catalog: Catalog, path: str) -> StoragePath | None:
    try:
        return locate(catalog.root, path, catalog.unreachable)
    except (CollectionLostError, Reject):
        return None


def _log_unreadable(ids: pa.Array, tags: Sequence[str | UnreadableTags | None]) -> None:
    found = [(index, tag.reason) for index, tag in enumerate(tags) if isinstance(tag, UnreadableTags)]
    if found:
        named = ", ".join(f"{ids[index].as_py()!r} ({reason})" for index, reason in found[:_NAMES_SHOWN])
        more = f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
        _log.warning(
            "The tags of %d tracks are unreadable; each of them is its own group: %s%s.", len(found), named, more
        )
