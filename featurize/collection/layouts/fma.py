"""FMA, a dataset for music analysis: `fma_metadata/tracks.csv` beside the audio in `fma_small/000/000002.mp3`.

Defferrard et al., "FMA: A Dataset for Music Analysis", ISMIR 2017.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.column_roles import find_roles
from featurize.collection.layouts.rows import RawRows, read_roles
from featurize.collection.layouts.source import Source
from featurize.collection.table_file import open_table
from featurize.collection.table_limits import TableError
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

EXPECTED = "fma_metadata/tracks.csv beside the audio, or in the folder of MUSIC"
_HEADER_BYTES = 1 << 16
_COLUMNS = {"label": "track_genre_top", "group": "artist_id", "split": "set_split"}  # by `_plain` names
# Subsets that each of the four downloads contains.
_SUBSETS = {
    "fma_small": ("small",),
    "fma_medium": ("small", "medium"),
    "fma_large": ("small", "medium", "large"),
}


def find(folder: StoragePath) -> Source | None:
    """Return the metadata that is in a folder, or beside it if it is a folder of audio files."""
    names = folder.names()
    for place in (folder, folder / "fma_metadata") if "fma_metadata" in names else (folder,):
        if _is_metadata(place / "tracks.csv"):
            return Source("fma", place, (place / "tracks.csv",))
    numbered = [name for name in names if re.fullmatch(r"\d{3}", name)]
    if not numbered or not any(re.fullmatch(r"\d{6}\.\w+", name) for name in (folder / numbered[0]).names()):
        return None
    beside = folder.parent / "fma_metadata" / "tracks.csv"
    if folder.parent.path.strip("/") and _is_metadata(beside):
        return Source("fma", folder, (beside,), audio=folder)
    raise FeaturizeError(
        f"the folders of {folder} are numbers, as in the audio of FMA, and no genres; the genres are in "
        "fma_metadata/tracks.csv. Put the folder fma_metadata beside it, or, if the numbers are the classes, add "
        "--layout folders"
    )


def has_header(names: Sequence[str]) -> bool:
    """Return whether the names of columns are those of FMA's table of tracks.

    The levels of the header may have been joined: `track_genre_top`, `('track', 'genre_top')`. A table with a
    column of paths is an ordinary one.
    """
    plain = [_plain(name) for name in names]
    is_joined = "track_genre_top" in plain and "path" not in find_roles(names, {}).candidates
    return "track_id" in plain and (is_joined or any(name.endswith(".genre_top") for name in names))


def read(source: Source, given: Mapping[str, str]) -> RawRows:
    """Read the tracks that have a top genre; paths are made from the ids."""
    with open_table(source.tables[0]) as table:
        if not has_header(table.names):
            raise TableError("it does not have the three header rows of FMA's tracks.csv")
        by_name = {_plain(name): name for name in reversed(table.names)}
        usual = {role: by_name[name] for role, name in _COLUMNS.items() if name in by_name}
        label = next(name for plain, name in by_name.items() if plain.endswith("_genre_top"))
        columns = {"label": label, **usual, "path": by_name["track_id"], "fold": "", **given}
        rows = read_roles(table, columns, what="FMA's table")
        if columns["path"] == by_name["track_id"]:
            rows = rows.with_columns({"path": _paths(rows.columns["path"])})
        if source.audio and source.audio.name in _SUBSETS and "set_subset" in by_name:
            subset = table.read({"subset": table.names.index(by_name["set_subset"])}).columns["subset"]
            wanted = _SUBSETS[source.audio.name]
            rows = rows.where(
                pc.is_in(subset, value_set=pa.array(wanted)), _subset_note(source.audio.name, wanted)
            )
            return _labeled(rows)
    return _labeled(dataclasses.replace(rows, only_existing=True, audio_beside=True))


def _plain(name: str) -> str:
    """Return the name of a column with `_` between its levels, however they were joined."""
    return re.sub(r"\W+", "_", name).strip("_")


def _labeled(rows: RawRows) -> RawRows:
    labeled = pc.not_equal(rows.columns["label"], "")
    lost = len(labeled) - pc.sum(labeled).as_py() if len(labeled) else 0
    return rows.where(labeled, f"{lost} rows without a top genre are left out.") if lost else rows


def _subset_note(name: str, subsets: Sequence[str]) -> str:
    return f"Of the table, the rows of the subset {' and '.join(subsets)} are used, because the folder is {name}."


def _paths(ids: pa.Array) -> pa.Array:
    """Return the paths of tracks, such as `000/000002.mp3` for 2."""
    if wrong := [text for text in ids.unique().to_pylist() if not re.fullmatch(r"\d{1,9}", text)]:
        raise TableError(f"the column track_id has {wrong[0][:80]!r}, expected a number")
    padded = pc.utf8_lpad(ids, 6, "0")
    folders = pc.utf8_slice_codeunits(padded, 0, 3)
    return pc.binary_join_element_wise(folders, pc.binary_join_element_wise(padded, "mp3", "."), "/")


def _is_metadata(path: StoragePath) -> bool:
    try:
        lines = path.read_at_most(_HEADER_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return False
    return len(lines) > 2 and lines[2].startswith("track_id,") and "genre_top" in lines[1]
