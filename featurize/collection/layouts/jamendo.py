"""MTG-Jamendo: tab-separated tables with the tags of a track in as many columns as it has tags.

Bogdanov et al., "The MTG-Jamendo Dataset for Automatic Music Tagging", ICML 2019. A tag is `genre---rock`; the
audio is in `14/214.mp3`, or `14/214.low.mp3` in the smaller download.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.layouts.rows import RawRows, join, read_roles
from featurize.collection.layouts.source import Source
from featurize.collection.role_values import SPLITS
from featurize.collection.table_csv import SPREAD
from featurize.collection.table_file import open_table
from featurize.collection.table_limits import TableError
from featurize.storage import StoragePath

EXPECTED = (
    "autotagging_genre.tsv or autotagging.tsv, or one of them for each split (autotagging_genre-train.tsv, ...)"
)
_STEMS = ("autotagging_genre", "autotagging", "autotagging_top50tags", "raw_30s_cleantags_50artists", "raw_30s")
_COLUMNS = {"path": "PATH", "group": "ARTIST_ID", "label": SPREAD}
_GENRE = "genre---"
_HEADER_BYTES = 4096


def find(folder: StoragePath) -> Source | None:
    """Return the tables of genres in a folder or its subfolder `data`: one, or one for each split."""
    for place in (folder, folder / "data") if "data" in folder.names() else (folder,):
        names = set(place.names())
        for stem in _STEMS:
            parts = [f"{stem}-{split}.tsv" for split in SPLITS]
            found = [f"{stem}.tsv"] if f"{stem}.tsv" in names else parts if names.issuperset(parts) else []
            if found and _is_table(place / found[0]):
                return Source("jamendo", place, tuple(place / name for name in found))
    return None


def has_header(names: Sequence[str]) -> bool:
    """Return whether the names of columns are those of a table of MTG-Jamendo."""
    return names[0] == "TRACK_ID" and names[-1] == SPREAD and "PATH" in names


def read(source: Source, given: Mapping[str, str]) -> RawRows:
    """Read the tracks that have a genre; the first genre tag is the label."""
    parts = []
    for path in source.tables:
        with open_table(path) as table:
            if not has_header(table.names):
                raise TableError("its columns are not TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION and TAGS")
            rows = read_roles(table, {**_COLUMNS, **given}, what="MTG-Jamendo's table")
        split = next((split for split in SPLITS if path.name.endswith(f"-{split}.tsv")), None)
        if split and len(source.tables) > 1 and "split" not in given:
            rows = rows.with_columns({"split": pa.array([split] * len(rows.lines), pa.string())})
        parts.append(_with_genre(rows) if {**_COLUMNS, **given}["label"] == SPREAD else rows)
    joined = join(parts)
    if len(parts) > 1:
        joined = joined.with_columns({}, "The split is that of the three tables.")
    return dataclasses.replace(joined, only_existing=True, audio_beside=True)


def _with_genre(rows: RawRows) -> RawRows:
    genres = [
        [tag.strip().removeprefix(_GENRE) for tag in tags.split("\t") if tag.strip().startswith(_GENRE)]
        for tags in rows.columns["label"].to_pylist()
    ]
    several = sum(len(tags) > 1 for tags in genres)
    note = f"The label is the first genre tag; {several} of {len(genres)} tracks have more than one."
    labels = pa.array([tags[0] if tags else "" for tags in genres], pa.string())
    labeled = pc.not_equal(labels, "")
    without = sum(not tags for tags in genres)
    left = (f"{without} rows without a genre tag are left out.",) if without else ()
    return rows.with_columns({"label": labels}, note).where(labeled, *left)


def _is_table(path: StoragePath) -> bool:
    try:
        return path.read_at_most(_HEADER_BYTES).startswith(b"TRACK_ID\t")
    except OSError:
        return False
