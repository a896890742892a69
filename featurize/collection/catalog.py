"""Which tracks there are: their paths, labels and groups, from class folders or from a table.

Tracks are columns and not objects: a million of them take some hundred megabytes less.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from featurize.collection.listing import list_audio, size_of
from featurize.collection.manifest import TABLE_SUFFIXES, read_table
from featurize.dataset.schema import FOLDS
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, describe

_NOT_PLAIN = r"^/|//|/$|(^|/)\.\.?(/|$)"  # absolute, a URI, or with parts that normpath takes out
CATALOG_SCHEMA = pa.schema(
    [
        pa.field("track", pa.string(), nullable=False),
        pa.field("path", pa.binary()),
        pa.field("label", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("group", pa.string()),
        pa.field("fold", pa.int32()),
        pa.field("size", pa.int64(), nullable=False),
    ]
)


@dataclasses.dataclass(frozen=True)
class Catalog:
    """The tracks of a collection, and remarks for its owner: files passed over, groups not found.

    Attributes:
        root: the folder that paths are relative to.
        tracks: by CATALOG_SCHEMA, in the order of `track`, which is the path below the root with `/`, unique and
            the same wherever the root lies. `path` is where the file really is, in the bytes of the file
            system, null where `track` says it. `group` and `fold` are null where the table does not give them.
            `size` is in bytes, -1 where the file is missing; a file that changes its size is featurized again.
        remarks: whole sentences.
    """

    root: StoragePath
    tracks: pa.Table
    remarks: list[str]


def build_catalog(music: str) -> Catalog:
    """List a collection.

    Args:
        music: a folder whose subfolders are the classes, or a CSV, Parquet or JSON-lines table; a path or a URI.

    Raises:
        FeaturizeError: nothing is there, nothing in it is audio, or it cannot be split into folds.
    """
    place = StoragePath.of(music)
    remarks: list[str] = []
    try:
        if place.is_folder():
            root, tracks = place, _from_folder(place, remarks)
        elif place.is_file() and place.suffix in TABLE_SUFFIXES:
            root, tracks = place.parent, _from_table(place)
        elif place.is_file():
            raise FeaturizeError(
                f"{music} is neither a folder nor a table ({', '.join(sorted(TABLE_SUFFIXES))}). Give the folder "
                "whose subfolders are the classes, or a table with the columns path and label."
            )
        else:
            _explain_absence(place)
    except OSError as error:
        raise FeaturizeError(f"cannot read {place}: {describe(error)}.") from error
    tracks = tracks.sort_by("track")
    _refuse_repeated(tracks)
    labels = pc.value_counts(pc.cast(tracks["label"], pa.string())).to_pylist()
    found = ", ".join(f"{label['values']}: {label['counts']}" for label in labels)
    if len(labels) < 2:
        raise FeaturizeError(
            f"expected at least 2 classes in {music}, found {len(labels)}{': ' + found if found else ''}. "
            "In a folder, each class is a subfolder with its tracks."
        )
    if max(label["counts"] for label in labels) < FOLDS:
        raise FeaturizeError(
            f"expected at least {FOLDS} tracks in a class, one for each fold; found {found}. Add tracks to the "
            "collection."
        )
    return Catalog(root, tracks, remarks)


def location(root: StoragePath, track: str, path: bytes | None) -> StoragePath:
    """Return where a track's file is."""
    return root / (track if path is None else os.fsdecode(path))


def _from_folder(root: StoragePath, remarks: list[str]) -> pa.Table:
    paths, sizes = [], []
    for found in list_audio(root, remarks):
        paths.append(found.path)
        sizes.append(found.size)
    ids = pa.array([printable(path) for path in paths], pa.string())
    elsewhere = (None if printable(path) == path else os.fsencode(path) for path in paths)
    labels = pc.dictionary_encode(pc.replace_substring_regex(ids, "(?s)/.*", ""))
    columns = [ids, pa.array(elsewhere, pa.binary()), labels, *_nothing(ids), pa.array(sizes, pa.int64())]
    return pa.table(columns, schema=CATALOG_SCHEMA)


def _from_table(place: StoragePath) -> pa.Table:
    rows = read_table(place, FOLDS)
    root = place.parent
    paths = rows["path"].combine_chunks()
    # Python looks at those alone that are not plainly a path below the folder.
    odd = pc.match_substring_regex(paths, _NOT_PLAIN)
    named = pa.array([_below(path, root) for path in paths.filter(odd).to_pylist()], pa.string())
    ids = pc.replace_with_mask(paths, odd, named)
    elsewhere = pc.if_else(pc.equal(ids, paths), pa.scalar(None, pa.binary()), pc.cast(paths, pa.binary()))
    given = [
        rows[name].combine_chunks() if name in rows.column_names else empty
        for name, empty in zip(("group", "fold"), _nothing(ids), strict=True)
    ]
    sizes = pa.array(_sizes(root, paths), pa.int64())
    return pa.table([ids, elsewhere, pc.dictionary_encode(rows["label"]), *given, sizes], schema=CATALOG_SCHEMA)


def _nothing(ids: pa.Array) -> list[pa.Array]:
    """Return the columns group and fold of a collection that does not give them."""
    return [pa.nulls(len(ids), pa.string()), pa.nulls(len(ids), pa.int32())]


def _sizes(root: StoragePath, paths: pa.Array) -> Iterator[int]:
    """Return the size of each file; a bucket is listed once, and not asked for one object after another."""
    known = dict(root.files()) if root.scheme else {}
    for path in (scalar.as_py() for scalar in paths):
        size = known.get(path)
        yield size_of(root / path) if size is None else size


def _below(path: str, root: StoragePath) -> str:
    """Name a track of a table by its path below the table's folder, or by its whole path if it lies elsewhere."""
    if "://" in path:
        return path
    whole = os.path.normpath(path)
    if os.path.isabs(whole) and root.local and whole.startswith(f"{root.path}/"):
        return os.path.relpath(whole, root.path)
    return whole


def printable(name: str) -> str:
    """Escape bytes of a file name that are not UTF-8, which Arrow and JSON could not hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name


def _refuse_repeated(tracks: pa.Table) -> None:
    """Refuse two files whose names are one: another path to the same file, or bytes that look like an escape."""
    names = tracks["track"].combine_chunks()
    later = names.slice(1)
    repeated = later.filter(pc.equal(later, names.slice(0, len(later))))
    if len(repeated):
        named = ", ".join(repr(name) for name in repeated.unique().to_pylist()[:5])
        raise FeaturizeError(
            f"{len(repeated)} tracks have the name of another one: {named}. Rename or remove them."
        )


def _explain_absence(place: StoragePath) -> None:
    """Say why there is nothing: on an object store a listing tells a missing bucket from a missing folder."""
    if place.scheme:
        with contextlib.suppress(FileNotFoundError):
            place.filesystem.get_file_info(pafs.FileSelector(place.path))
    raise FeaturizeError(f"{place} does not exist. Give a folder of music or a table of tracks.")
