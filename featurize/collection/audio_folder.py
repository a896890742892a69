"""Where the audio of a table is: below the folder of the table, or in a folder beside it."""

import dataclasses
import os
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.collection.bare_names import find_bare_names
from featurize.collection.found_paths import FolderTree, find_missing, first_names
from featurize.collection.layouts.source import Source
from featurize.collection.sizes import sizes_of
from featurize.column_file import ROWS_AT_ONCE, texts
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

Int64 = NDArray[np.int64]

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class AudioFiles:
    """The files that a table names.

    Attributes:
        root: Folder that relative paths are relative to.
        paths: Paths and URIs, string [rows]; those that were found under another name are corrected.
        sizes: int64 [rows], in bytes, -1 for a file that does not exist.
        unreachable: Why each bucket that does not answer does not, by its URI.
        notes: Sentences on where files were found, for the log.
        missing: Sentence on files that were not found; empty if there are none.
    """

    root: StoragePath
    paths: pa.Array
    sizes: pa.Array
    unreachable: dict[str, str]
    notes: tuple[str, ...]
    missing: str


def find_audio(source: Source, paths: pa.Array, beside: bool) -> AudioFiles:
    """Find the files of a table.

    If none is below the folder of the table, they are looked for in its subfolders, in the folder above it, and,
    for published datasets, in the subfolders of that one. If they are not in one of these, and the table has names
    of files only, these are looked for in all subfolders. Then names are compared up to spelling (`find_missing`).

    Args:
        source: Files of the table.
        paths: Paths and URIs from a checked table, string [rows].
        beside: Whether the audio may be in a folder beside that of the table.

    Raises:
        FeaturizeError: The files are in more than one folder.
        OSError: The folder cannot be listed.
    """
    root, notes = source.audio or source.folder, []
    sizes, unreachable = sizes_of(root, paths)
    missing = _missing(paths, sizes, unreachable)
    if len(missing) == len(paths) > 0 and source.audio is None:
        tree = FolderTree(root)
        here = len(find_missing(tree, texts(paths), shorten=False)[0])
        bare = {} if here == len(paths) else find_bare_names(tree, texts(paths))
        # Looking for each row in each folder takes long: not if all rows are in several subfolders.
        scattered = len(bare) == len(paths) and len({path.rpartition("/")[0] for path in bare.values()}) > 1
        others = [] if here or scattered else _other_folders(root, paths, beside)
        near = here + sum(other.files for other in others)
        if len(others) == 1 and near == len(paths):
            bare = {}
        if len(bare) > near or (len(others) > 1 and len(bare) == near):
            paths = _replaced(paths, bare)
            sizes, unreachable = sizes_of(root, paths)
            where = f"subfolders of {root}"
            if not all("/" in path for path in bare.values()):
                where = f"{root} and its subfolders"
            notes.append(f"{len(bare)} files were found by their names alone, in {where}.")
        elif len(others) == 1:
            root = others[0].place
            notes.append(f"The audio is in {root}.")
            sizes, unreachable = sizes_of(root, paths)
        elif others:
            listed = ", ".join(f"{other.place} ({other.files})" for other in others[:_SHOWN])
            raise FeaturizeError(
                f"files of the table are in {len(others)} folders: {listed}. Move the table into the one that is "
                "meant, or write the folder of each file into the table."
            )
        missing = _missing(paths, sizes, unreachable)
    first = paths[int(missing[0])].as_py() if len(missing) else ""
    if len(missing):
        existing = paths

        def taken(names: list[str]) -> list[str]:
            same = pc.is_in(existing, value_set=pa.array(names, pa.string()))
            return list(existing.filter(pc.and_(same, pa.array(sizes >= 0))).to_pylist())

        names, kinds = find_missing(FolderTree(root), _at(paths, missing), taken)
        if names:
            rows = missing[sorted(names)]
            paths = _replaced(paths, {int(missing[index]): name for index, name in names.items()})
            sizes[rows] = sizes_of(root, paths.take(pa.array(rows)), listed=False)[0]
            described = "; ".join(f"{one_line(kind)} ({count})" for kind, count in list(kinds.items())[:_SHOWN])
            notes.append(f"{len(rows)} files were found under other names than in the table: {described}.")
            missing = _missing(paths, sizes, unreachable)
            first = paths[int(missing[0])].as_py() if len(missing) else ""
    sentence = ""
    if len(missing):
        sentence = (
            f"{len(missing)} of {len(paths)} files of the table do not exist; the first, {one_line(first)!r}, was "
            f"looked for in {root}"
        )
    return AudioFiles(root, paths, pa.array(sizes), unreachable, tuple(notes), sentence)


def _replaced(paths: pa.Array, by_row: Mapping[int, str]) -> pa.Array:
    """Return paths with other ones in some rows."""
    mask = np.zeros(len(paths), bool)
    mask[list(by_row)] = True
    others = pa.array([by_row[row] for row in sorted(by_row)], pa.string())
    return pc.replace_with_mask(paths, pa.array(mask), others)


def _at(paths: pa.Array, rows: Int64) -> Iterator[str]:
    """Yield the paths of some rows."""
    for begin in range(0, len(rows), ROWS_AT_ONCE):
        yield from paths.take(pa.array(rows[begin : begin + ROWS_AT_ONCE])).to_pylist()


def _missing(paths: pa.Array, sizes: Int64, unreachable: dict[str, str]) -> Int64:
    """Return the rows whose files do not exist, without those in buckets that do not answer."""
    lost = np.zeros(len(paths), bool)
    for store in unreachable:
        lost |= pc.starts_with(paths, f"{store}/").to_numpy(zero_copy_only=False)
    return np.flatnonzero((sizes < 0) & ~lost)


@dataclasses.dataclass(frozen=True)
class _Other:
    """A folder near the table, and how many files of it are there."""

    place: StoragePath
    files: int


def _other_folders(folder: StoragePath, paths: pa.Array, beside: bool) -> list[_Other]:
    """Return the folders near the table that have files of it."""
    above = folder.parent
    around = [folder / name for name in FolderTree(folder).folders()]
    if above.path.strip("/"):
        around += [above, *(above / name for name in FolderTree(above).folders() if beside)]
    wanted = first_names(texts(paths))
    others: dict[str, _Other] = {}
    for place in around:
        tree = FolderTree(place)
        if tree.has_any(wanted) and (found := len(find_missing(tree, texts(paths), shorten=False)[0])):
            others[os.path.realpath(place.path) if place.local else place.path] = _Other(place, found)
    return list(others.values())
