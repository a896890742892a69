"""Group of each track: from the collection's table, the previous plan, or a tag of the file."""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.catalog import Catalog, location
from featurize.config import FeaturizeConfig
from featurize.planning.previous_plan import PreviousPlan, rows_in_previous
from featurize.storage import StoragePath

_log = logging.getLogger(__name__)


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


def unread_files(catalog: Catalog, groups: Groups) -> list[StoragePath]:
    """Return the files whose tags must be read, in catalog order."""
    unread = pc.indices_nonzero(pc.is_null(groups.groups))
    rows = catalog.tracks.select(["track", "path"]).take(unread).to_pylist()
    return [location(catalog.root, row["track"], row["path"]) for row in rows]


def add_tags(catalog: Catalog, groups: Groups, tags: Sequence[str | None]) -> Groups:
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
    named = pc.coalesce(pa.array([tag or None for tag in tags], pa.string()), ids)
    return dataclasses.replace(groups, groups=pc.replace_with_mask(groups.groups, unread, named))
