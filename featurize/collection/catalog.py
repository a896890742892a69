"""Which tracks a collection has: paths, labels and groups, from class folders or from a table.

Tracks are Arrow columns, not objects: for a million tracks that saves some hundred megabytes.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from featurize.collection.audio_folder import find_audio
from featurize.collection.catalog_advice import FOLDER_HINT, folder_hint, refuse_file, table_hint
from featurize.collection.class_folders import LabeledFiles, list_class_folders
from featurize.collection.class_names import log_doubtful_classes
from featurize.collection.class_sizes import refuse_unusable_classes
from featurize.collection.column_roles import parse_columns
from featurize.collection.inventory import find_inventory
from featurize.collection.layouts.readers import FOLDERS, find_source
from featurize.collection.layouts.source import Source
from featurize.collection.location import own_bucket, parse_allowed, parse_file_uri
from featurize.collection.manifest import TableRequest, TrackRows, read_table
from featurize.collection.table_file import is_table_name
from featurize.column_file import ColumnFile, is_ascending, one_array, parts, take
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe

# Reads a table with the arguments of `read_table`.
TableReader = Callable[[Source, TableRequest], TrackRows]

_log = logging.getLogger(__name__)
_NOT_PLAIN = r"^/|//|/$|(^|/)\.\.?(/|$)"  # absolute, a URI, or with parts that normpath removes
CATALOG_SCHEMA = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),
        pa.field("path", pa.binary()),
        pa.field("label", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("group", pa.string()),
        pa.field("fold", pa.int32()),
        pa.field("split", pa.string()),
        pa.field("size", pa.int64(), nullable=False),
    ]
)


@dataclasses.dataclass(frozen=True)
class Catalog:
    """The tracks of a collection.

    Attributes:
        root: Folder that paths are relative to.
        tracks: By CATALOG_SCHEMA, sorted by `track`: the path below the root with `/`, unique, and independent of
            where the root is. `path` holds the bytes of the real file name if `track` cannot (not UTF-8, or
            outside the root), none if the name cannot be joined to the root, else null. `group`, `fold` and
            `split` (`train`, `validation` or `test`) are null if the collection does not give them. `size` is in
            bytes, -1 for a missing file; a file whose size changes is featurized again.
        unreachable: Buckets, as URIs, that the table names and that do not answer; their tracks become rejects.
    """

    root: StoragePath
    tracks: pa.Table
    unreachable: frozenset[str] = frozenset()


def build_catalog(
    music: str,
    allowed: Collection[str] = (),
    read: TableReader = read_table,
    layout: str | None = None,
    columns: str | None = None,
    to_train: bool = True,
) -> Catalog:
    """List a collection.

    Args:
        music: A folder whose subfolders are the classes, a table, a folder with the files of a published dataset,
            or the manifest.json of an S3 Inventory; a path or a URI.
        allowed: Names of buckets, besides the table's own, that a table or an inventory may name files in.
        read: Reads a table.
        layout: Layout of the collection, one of LAYOUT_NAMES; None to recognize it.
        columns: Columns of the table by role, such as `path=file_name,label=genre`; others are found by their
            names.
        to_train: Whether the classes must be enough to train a model and to evaluate it on a part of the tracks.

    Raises:
        FeaturizeError: It does not exist, holds no audio, names files that it must not name, or cannot be split
            into folds.
    """
    place, request = (
        StoragePath.of(music),
        TableRequest(parse_columns(columns), own_bucket(music), parse_allowed(allowed)),
    )
    unreachable: frozenset[str] = frozenset()
    source: Source | None = None
    try:
        if (inventory := find_inventory(place, request)) is not None:
            _refuse_columns(request, f"{place} is an inventory of objects in folders of classes")
            root, tracks = inventory.root, _labeled(inventory.list_class_folders(layout))
        elif place.is_folder() or (place.is_file() and is_table_name(place.name)):
            source = find_source(place, layout, place.is_folder())
            if source.layout != FOLDERS:
                reader = read_table if source.is_listing else read
                root, tracks, unreachable = _from_table(source, reader(source, request))
            else:
                _refuse_columns(request, f"{place} is a folder of classes")
                root, tracks = place, _labeled(list_class_folders(place, layout))
        elif place.is_file() or (place.local and os.path.exists(place.path)):
            refuse_file(place)
        else:
            explain_absence(place)
    except OSError as error:
        raise FeaturizeError(f"cannot read {place}: {describe(error)}.") from error
    tracks = _sorted(tracks)
    refuse_repeated(tracks)
    if not to_train:
        if not len(tracks):
            hint = table_hint(place) if source and source.layout == FOLDERS else ""
            raise FeaturizeError(f"expected class folders with audio files in {place}, found none.{hint}")
        return Catalog(root, tracks, unreachable)
    labels = {label["values"]: label["counts"] for label in pc.value_counts(tracks["label"]).to_pylist()}
    log_doubtful_classes(labels)
    if source is None:
        hint = FOLDER_HINT
    elif source.layout == FOLDERS:
        hint = f"{FOLDER_HINT}{folder_hint(place, tracks, len(labels))}{table_hint(place)}"
    else:
        hint = "In a table, each row is a track with its class."
    refuse_unusable_classes(tracks, place, f" {hint}")
    return Catalog(root, tracks, unreachable)


def stored_path(track: str, path: bytes | None) -> str:
    """Return the path of a track, for `locate`, from the columns `track` and `path`."""
    return track if path is None else os.fsdecode(path)


def _refuse_columns(request: TableRequest, found: str) -> None:
    if request.columns:
        raise FeaturizeError(f"--columns is about a table, and {found}. Give the table.")


def _labeled(found: LabeledFiles) -> pa.Table:
    ids, paths, sizes = (one_array(found.files[name]) for name in ("track", "path", "size"))
    group, fold, split = _nothing_given(ids)
    columns = [ids, paths, found.labels, group, fold, split if found.splits is None else found.splits, sizes]
    return pa.table(columns, schema=CATALOG_SCHEMA)


def _from_table(source: Source, rows: TrackRows) -> tuple[StoragePath, pa.Table, frozenset[str]]:
    """Return the folder of a table's tracks, the tracks, and the buckets that do not answer."""
    root, table, sizes, unreachable = find_tracks(source, rows)
    paths = one_array(table["path"])
    ids, outside = ids_and_paths(paths, root)
    given = [
        one_array(table[name]) if name in table.column_names else empty
        for name, empty in zip(("group", "fold", "split"), _nothing_given(paths), strict=True)
    ]
    columns = [ids, outside, pc.dictionary_encode(one_array(table["label"])), *given, sizes]
    return root, pa.table(columns, schema=CATALOG_SCHEMA), unreachable


def find_tracks(source: Source, rows: TrackRows) -> tuple[StoragePath, pa.Table, pa.Array, frozenset[str]]:
    """Find the files of a table.

    Returns:
        The folder that paths are relative to; the rows, with corrected paths; the size of each file in bytes, -1
        if it is missing, int64 [rows]; and the buckets that do not answer, as URIs.

    Raises:
        FeaturizeError: No file exists, or none can be reached.
    """
    for note in rows.notes:
        _log.info("%s", note)
    audio = find_audio(source, one_array(rows.table["path"]), rows.audio_beside)
    for note in audio.notes:
        _log.info("%s", note)
    table, paths, sizes, root = rows.table, audio.paths, audio.sizes, audio.root
    if audio.unreachable:
        reasons = "; ".join(f"{store}: {reason}" for store, reason in audio.unreachable.items())
        lost = sum(pc.sum(pc.starts_with(paths, f"{store}/")).as_py() for store in audio.unreachable)
        if lost == len(paths):
            raise FeaturizeError(f"no track of the table can be reached: {reasons}.")
        _log.warning("%d tracks are in buckets that cannot be reached, and are rejected (%s).", lost, reasons)
    if audio.missing:
        if not pc.any(pc.greater_equal(sizes, 0)).as_py():
            raise FeaturizeError(
                f"{audio.missing}. Put the table beside the audio; its paths are relative to its folder. If "
                "another column has the paths, name it: --columns path=NAME"
            )
        if rows.only_existing:
            existing = pc.greater_equal(sizes, 0)
            table, paths, sizes = table.filter(existing), paths.filter(existing), sizes.filter(existing)
            _log.info("%s. These rows are left out.", audio.missing)
        else:
            _log.warning("%s. They become rejects.", audio.missing)
    table = table.set_column(table.column_names.index("path"), "path", paths)
    return root, table, sizes, frozenset(audio.unreachable)


def ids_and_paths(paths: pa.Array, root: StoragePath) -> tuple[pa.Array, pa.Array]:
    """Return the columns `track` and `path` of a catalog for the paths of a table."""
    if not any(pc.any(pc.match_substring_regex(part, _NOT_PLAIN)).as_py() for part in parts(paths)):
        return paths, pa.nulls(len(paths), pa.binary())
    ids, outside = ColumnFile(pa.string()), ColumnFile(pa.binary())
    for part in parts(paths):
        # Only paths that are not plainly below the folder are looked at one by one.
        odd = pc.match_substring_regex(part, _NOT_PLAIN)
        named = pa.array([_below(path, root) for path in part.filter(odd).to_pylist()], pa.string())
        names = pc.replace_with_mask(part, odd, named)
        ids.append(names)
        outside.append(pc.if_else(pc.equal(names, part), pa.scalar(None, pa.binary()), pc.cast(part, pa.binary())))
    return ids.finish(), outside.finish()


def _nothing_given(ids: pa.Array) -> list[pa.Array]:
    """Return empty columns `group`, `fold` and `split`."""
    return [pa.nulls(len(ids), kind) for kind in (pa.string(), pa.int32(), pa.string())]


def _below(path: str, root: StoragePath) -> str:
    """Return a track's path below the table's folder, or its whole path if it is outside."""
    local = (parse_file_uri(path) or path) if root.local else path
    if "://" in local:
        return path
    # One file has one name: `../music/a.wav` and `file:///home/you/music/a.wav` are `a.wav` in the folder music.
    whole = os.path.normpath(os.path.join(root.path, local) if root.local else local)
    if root.local and whole.startswith(f"{root.path}/"):
        return os.path.relpath(whole, root.path)
    return path if "://" in path else os.path.normpath(path)


def _sorted(tracks: pa.Table) -> pa.Table:
    """Return the tracks sorted by their ids."""
    ids = one_array(tracks["track"])
    if is_ascending(ids):
        return tracks
    order = pc.sort_indices(ids).to_numpy()
    columns = []
    for field in CATALOG_SCHEMA:
        column = one_array(tracks[field.name])
        is_text = field.type in (pa.string(), pa.binary())
        columns.append(take(column, order) if is_text else column.take(pa.array(order)))
    return pa.table(columns, schema=CATALOG_SCHEMA)


def refuse_repeated(tracks: pa.Table) -> None:
    """Refuse files with the same name: two paths to one file, or bytes that look like an escape."""
    names = one_array(tracks["track"])
    if is_ascending(names):
        return
    later = names.slice(1)
    repeated = later.filter(pc.equal(later, names.slice(0, len(later))))
    if len(repeated):
        named = ", ".join(repr(name) for name in repeated.unique().to_pylist()[:5])
        raise FeaturizeError(
            f"{len(repeated)} tracks have the same name as another one: {named}. Rename or remove them."
        )


def explain_absence(place: StoragePath) -> None:
    """Raise for a missing collection; listing an object store tells a missing bucket from a missing folder."""
    if place.scheme:
        with contextlib.suppress(FileNotFoundError):
            place.filesystem.get_file_info(pafs.FileSelector(place.path))
    raise FeaturizeError(f"{place} does not exist. Give a folder of music or a table of tracks.")
