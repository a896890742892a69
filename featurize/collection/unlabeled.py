"""The tracks of a collection without labels: a folder of audio files at any depth, or a table of paths."""

import dataclasses
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.catalog import (
    Catalog,
    TableReader,
    explain_absence,
    find_tracks,
    ids_and_paths,
    refuse_repeated,
)
from featurize.collection.column_roles import parse_columns
from featurize.collection.layouts.source import Source
from featurize.collection.listed_files import file_columns
from featurize.collection.listing import list_audio
from featurize.collection.location import own_bucket, parse_allowed
from featurize.collection.manifest import TableRequest
from featurize.collection.table_file import TABLE_SUFFIXES, is_table_name
from featurize.column_file import is_ascending, one_array, take
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe

_TEXT = (pa.string(), pa.binary())


@dataclasses.dataclass(frozen=True)
class Unlabeled:
    """Tracks without labels.

    Attributes:
        root: Folder that paths are relative to.
        tracks: The columns `track`, `path` and `size`, as in `Catalog.tracks`, sorted by `track`.
        carried: Columns of the table as text, null for an empty cell, in the order of `tracks`; no columns for a
            folder.
        unreachable: As in `Catalog`.
    """

    root: StoragePath
    tracks: pa.Table
    carried: pa.Table
    unreachable: frozenset[str] = frozenset()


def list_unlabeled(
    music: str, allowed: Collection[str], read: TableReader, columns: str | None = None
) -> Unlabeled:
    """List a collection without labels.

    Args:
        music: A folder or a table; a path or a URI.
        allowed: Names of buckets, besides the table's own, that a table may name files in.
        read: Reads a table, as `read_paths` does.
        columns: `path=NAME` if the column of the paths is not found by its name.

    Raises:
        FeaturizeError: It does not exist, holds no audio, or names files that it must not name.
    """
    place, given = StoragePath.of(music), parse_columns(columns)
    try:
        if place.is_folder():
            if given:
                raise FeaturizeError(f"--columns is about a table, and {place} is a folder. Give the table.")
            found = Unlabeled(place, file_columns(list_audio(place)), pa.table({}))
        elif place.is_file() and is_table_name(place.name):
            request = TableRequest(given, own_bucket(music), parse_allowed(allowed))
            found = _from_table(Source("table", place.parent, (place,)), read, request)
        elif place.is_file():
            raise FeaturizeError(
                f"{place} is neither a folder nor a table ({', '.join(sorted(TABLE_SUFFIXES))}). With --out, give "
                "one folder of audio files or one table of paths; leave --out out to predict single files."
            )
        else:
            explain_absence(place)
    except OSError as error:
        raise FeaturizeError(f"cannot read {place}: {describe(error)}.") from error
    if not len(found.tracks):
        raise FeaturizeError(f"expected audio files in {place}, found none. Give another folder or table.")
    return _sorted(found)


def with_labels_carried(catalog: Catalog) -> Unlabeled:
    """Return the tracks of a labeled collection, with the column `label` as one to carry along."""
    labels = one_array(catalog.tracks["label"])
    tracks = catalog.tracks.select(["track", "path", "size"])
    return Unlabeled(catalog.root, tracks, pa.table({"label": labels.cast(pa.string())}), catalog.unreachable)


def _from_table(source: Source, read: TableReader, request: TableRequest) -> Unlabeled:
    root, table, sizes, unreachable = find_tracks(source, read(source, request))
    ids, paths = ids_and_paths(one_array(table["path"]), root)
    names = [name for name in table.column_names if name != "path"]
    carried = {name.removeprefix("column "): one_array(table[name]) for name in names}
    return Unlabeled(root, pa.table({"track": ids, "path": paths, "size": sizes}), pa.table(carried), unreachable)


def _sorted(found: Unlabeled) -> Unlabeled:
    ids = one_array(found.tracks["track"])
    if is_ascending(ids):
        return found
    order = pc.sort_indices(ids).to_numpy()

    def in_order(table: pa.Table) -> pa.Table:
        columns = {}
        for name in table.column_names:
            column = one_array(table[name])
            columns[name] = take(column, order) if column.type in _TEXT else column.take(pa.array(order))
        return pa.table(columns)

    tracks = in_order(found.tracks)
    refuse_repeated(tracks)
    return dataclasses.replace(found, tracks=tracks, carried=in_order(found.carried))
