"""The group of each track: from the collection's table, from the previous plan, or from a tag of its file."""

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
    """The groups of a catalog's tracks.

    Attributes:
        grouping: Where the groups come from: a tag, `none`, or `table`.
        groups: Group of each track, string [tracks]; null where the tag of its file is not read yet.
    """

    grouping: str
    groups: pa.Array


def known_groups(catalog: Catalog, config: FeaturizeConfig, previous: PreviousPlan | None) -> Groups:
    """Return the groups that are known without reading any file."""
    given = catalog.tracks["group"].combine_chunks()
    ids = catalog.tracks["track"].combine_chunks()
    if given.null_count < len(given):
        return Groups("table", pc.coalesce(given, ids))
    if config.group_by == "none":
        return Groups("none", ids)
    if previous is not None and previous.grouping == config.group_by:
        # A file of the same size has the same tags: they are not read again.
        before = rows_in_previous(ids, previous)
        there = pa.array(np.maximum(before, 0), mask=before < 0)
        sizes = pc.take(previous.tracks["size"].combine_chunks(), there)
        same = pc.equal(sizes, catalog.tracks["size"].combine_chunks())
        group = pc.take(previous.tracks["group"].combine_chunks(), there)
        given = pc.if_else(pc.fill_null(same, False), group, pa.scalar(None, pa.string()))
    return Groups(config.group_by, given)


def unread_files(catalog: Catalog, groups: Groups) -> list[StoragePath]:
    """Return the files whose tags must be read, in the order of the catalog."""
    unread = pc.indices_nonzero(pc.is_null(groups.groups))
    rows = catalog.tracks.select(["track", "path"]).take(unread).to_pylist()
    return [location(catalog.root, row["track"], row["path"]) for row in rows]


def add_tags(catalog: Catalog, groups: Groups, tags: Sequence[str | None]) -> Groups:
    """Return the groups of all tracks; a track whose file does not carry the tag is a group of its own.

    Args:
        catalog: the collection.
        groups: from `known_groups`.
        tags: tag of each of `unread_files`, None where a file does not carry it.
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
