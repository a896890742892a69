"""Which tracks there are: their paths, labels and groups, from class folders or from a table.

Tracks are columns and not objects: a million of them take some hundred megabytes less.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from featurize.dataset import FOLDS
from featurize.errors import FeaturizeError
from featurize.listing import list_audio, size_of
from featurize.storage import Place, describe
from featurize.table import TABLE_SUFFIXES, read_table

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

    root: Place
    tracks: pa.Table
    remarks: list[str]


def build_catalog(music: str) -> Catalog:
    """List a collection.

    Args:
        music: a folder whose subfolders are the classes, or a CSV, Parquet or JSON-lines table; a path or a URI.

    Raises:
        FeaturizeError: nothing is there, nothing in it is audio, or it cannot be split into folds.
    """
    place = Place.of(music)
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


def location(root: Place, track: str, path: bytes | None) -> Place:
    """Return where a track's file is."""
    return root / (track if path is None else os.fsdecode(path))


def _from_folder(root: Place, remarks: list[str]) -> pa.Table:
    paths, sizes = [], []
    for found in list_audio(root, remarks):
        paths.append(found.path)
        sizes.append(found.size)
    ids = [_printable(path) for path in paths]
    return _table(ids, paths, [track.partition("/")[0] for track in ids], sizes, None, None)


def _from_table(place: Place) -> pa.Table:
    rows = read_table(place, FOLDS)
    root = place.parent
    paths = rows["path"].to_pylist()
    ids = [_printable(_below(path, root)) for path in paths]
    group, fold = (rows[name] if name in rows.column_names else None for name in ("group", "fold"))
    return _table(ids, paths, rows["label"], _sizes(root, paths), group, fold)


def _table(
    ids: list[str],
    paths: list[str],
    labels: object,
    sizes: Iterable[int],
    group: pa.ChunkedArray | None,
    fold: pa.ChunkedArray | None,
) -> pa.Table:
    """Lay out a catalog by CATALOG_SCHEMA."""
    elsewhere = (None if path == track else os.fsencode(path) for path, track in zip(paths, ids, strict=True))
    return pa.table(
        [
            pa.array(ids, pa.string()),
            pa.array(elsewhere, pa.binary()),
            pc.dictionary_encode(pa.chunked_array([labels], pa.string()) if isinstance(labels, list) else labels),
            pa.nulls(len(ids), pa.string()) if group is None else group,
            pa.nulls(len(ids), pa.int32()) if fold is None else fold,
            pa.array(sizes, pa.int64()),
        ],
        schema=CATALOG_SCHEMA,
    )


def _sizes(root: Place, paths: list[str]) -> Iterator[int]:
    """Return the size of each file; a bucket is listed once, and not asked for one object after another."""
    known = dict(root.files()) if root.scheme else {}
    for path in paths:
        size = known.get(path)
        yield size_of(root / path) if size is None else size


def _below(path: str, root: Place) -> str:
    """Name a track of a table by its path below the table's folder, or by its whole path if it lies elsewhere."""
    if "://" in path:
        return path
    whole = os.path.normpath(path)
    if os.path.isabs(whole) and root.local and whole.startswith(f"{root.path}/"):
        return os.path.relpath(whole, root.path)
    return whole


def _printable(name: str) -> str:
    """Escape bytes of a file name that are not UTF-8, which Arrow and JSON could not hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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


def _explain_absence(place: Place) -> None:
    """Say why there is nothing: on an object store a listing tells a missing bucket from a missing folder."""
    if place.scheme:
        with contextlib.suppress(FileNotFoundError):
            place.filesystem.get_file_info(pafs.FileSelector(place.path))
    raise FeaturizeError(f"{place} does not exist. Give a folder of music or a table of tracks.")
