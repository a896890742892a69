"""MagnaTagATune: `annotations_final.csv`, tab-separated, with a column of 0 and 1 for each tag, and `mp3_path`.

Law et al., "Evaluation of Algorithms Using Games: The Case of Music Tagging", ISMIR 2009. Each row is a clip of 29
seconds, several of one song; `clip_info_final.csv` beside the table has their artists.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.layouts.rows import RawRows, read_roles
from featurize.collection.layouts.source import Source
from featurize.collection.table_file import TableFile, open_table
from featurize.collection.table_limits import TableError
from featurize.storage import StoragePath

EXPECTED = "annotations_final.csv"
_CLIPS = "clip_info_final.csv"
# Tags that are genres, and the genre of each. A clip with several has the first; special before broad.
GENRES = (
    *(("heavy metal", "metal"), ("metal", "metal"), ("hard rock", "hard rock"), ("punk", "punk")),
    *(("hip hop", "hip hop"), ("rap", "hip hop"), ("reggae", "reggae"), ("blues", "blues"), ("jazz", "jazz")),
    *(("jazzy", "jazz"), ("funky", "funk"), ("funk", "funk"), ("disco", "disco"), ("country", "country")),
    *(("celtic", "celtic"), ("irish", "celtic"), ("folk", "folk"), ("trance", "trance"), ("house", "house")),
    *(("jungle", "jungle"), ("techno", "techno"), ("industrial", "industrial"), ("new age", "new age")),
    *(("ambient", "ambient"), ("opera", "opera"), ("operatic", "opera"), ("baroque", "baroque")),
    *(("medieval", "medieval"), ("indian", "indian"), ("india", "indian"), ("middle eastern", "middle eastern")),
    *(("arabic", "middle eastern"), ("oriental", "oriental"), ("world", "world"), ("electronica", "electronic")),
    *(("electronic", "electronic"), ("electro", "electronic"), ("dance", "dance"), ("pop", "pop")),
    *(("rock", "rock"), ("classical", "classical"), ("classic", "classical"), ("clasical", "classical")),
)


def find(folder: StoragePath) -> Source | None:
    """Return the table of annotations of a folder."""
    table = folder / EXPECTED
    return Source("magnatagatune", folder, (table,)) if table.name in folder.names() else None


def has_header(names: Sequence[str]) -> bool:
    """Return whether the names of columns are those of MagnaTagATune's annotations."""
    return names[0] == "clip_id" and "mp3_path" in names and sum(tag in names for tag, _ in GENRES) > 5


def read(source: Source, given: Mapping[str, str]) -> RawRows:
    """Read the clips that have a genre among their tags."""
    with open_table(source.tables[0]) as table:
        if "mp3_path" not in table.names:
            raise TableError("it has no column mp3_path")
        by_tag = "label" not in given
        # Until the label is known, the column of the path stands for it.
        columns = {"path": "mp3_path", "group": "", "split": "", "fold": "", **given}
        if by_tag:
            columns["label"] = ""
        rows = read_roles(table, columns, ("path",), "MagnaTagATune's table")
        if by_tag:
            rows = rows.with_columns({"label": _genres(table)})
            rows = _labeled(rows, table)
    rows = dataclasses.replace(rows, audio_beside=True)
    return rows if "group" in given else _with_artists(rows, source)


def _genres(table: TableFile) -> pa.Array:
    """Return the genres of each clip, joined by tabs; empty for none."""
    tags = [(tag, genre) for tag, genre in GENRES if tag in table.names]
    read = table.read({tag: table.names.index(tag) for tag, _ in tags})
    for tag, column in read.columns.items():
        if wrong := set(column.unique().to_pylist()) - {"0", "1"}:
            raise TableError(f"the column {tag} has {min(wrong)[:80]!r}, expected 0 and 1")
    marks = [pc.equal(read.columns[tag], "1").to_pylist() for tag, _ in tags]
    found = (
        dict.fromkeys(genre for (_, genre), mark in zip(tags, row, strict=True) if mark)
        for row in zip(*marks, strict=True)
    )
    return pa.array(["\t".join(genres) for genres in found], pa.string())


def _labeled(rows: RawRows, table: TableFile) -> RawRows:
    """Return the rows with the first genre of each as its label, without those that have none."""
    genres = rows.columns["label"]
    several = pc.sum(pc.match_substring(genres, "\t")).as_py() or 0
    none = pc.equal(genres, "")
    labels = pa.array([text.split("\t")[0] for text in genres.to_pylist()], pa.string())
    lost = pc.sum(none).as_py() or 0
    return rows.with_columns({"label": labels}).where(
        pc.invert(none),
        f"The label is the first of {len({genre for _, genre in GENRES})} genres among the tags, special ones "
        f"before broad ones; {several} clips have more than one. "
        f"{lost} of {len(none)} clips have none and are left out. For another label, add --columns label=NAME.",
    )


def _with_artists(rows: RawRows, source: Source) -> RawRows:
    """Return the rows with the artist of `clip_info_final.csv` as group, else the one in the name of the file."""
    paths = rows.columns["path"]
    if _CLIPS in source.tables[0].parent.names():
        with open_table(source.tables[0].parent / _CLIPS) as table:
            if not {"mp3_path", "artist"} <= set(table.names):
                raise TableError("it has no columns mp3_path and artist")
            clips = table.read({name: table.names.index(name) for name in ("mp3_path", "artist")})
        artists = clips.columns["artist"].take(pc.index_in(paths, value_set=clips.columns["mp3_path"]))
        return rows.with_columns({"group": pc.fill_null(artists, "")}, f"The group is the artist in {_CLIPS}.")
    artists = pa.array([re.sub(r"^.*/|-.*$", "", path) for path in paths.to_pylist()], pa.string())
    note = f"There is no {_CLIPS}: the group is the artist in the name of the file, up to the first hyphen."
    return rows.with_columns({"group": artists}, note)
