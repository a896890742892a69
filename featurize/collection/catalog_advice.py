"""What to give instead of a file that is no table, or of a folder with too few classes."""

from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.table_content import SAMPLE_BYTES, other_kind
from featurize.collection.table_file import TABLE_SUFFIXES, is_table_name
from featurize.column_file import one_array
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

FOLDER_HINT = "In a folder, each class is a subfolder with its tracks."
_TWO_FOLDERS = r"(?s)^([^/]+/[^/]+)/.*$"


def refuse_file(place: StoragePath) -> NoReturn:
    """Raise a FeaturizeError about a file that is no table, with what it is and how to make it one."""
    kind = other_kind(place.read_at_most(SAMPLE_BYTES)) if place.is_file() else ""
    advice = (
        f"{kind[0].upper()}{kind[1:]}."
        if kind
        else "Give the folder whose subfolders are the classes, or a table of paths and labels."
    )
    raise FeaturizeError(
        f"{place} is neither a folder nor a table ({', '.join(sorted(TABLE_SUFFIXES))}; text may be compressed as "
        f".gz). {advice}"
    )


def table_hint(place: StoragePath) -> str:
    """Return the advice to give a table that is in a folder, or in its folder `data`, if there is one."""
    for folder, inside in ((place, ""), (place / "data", "data/")):  # Hugging Face has tables in `data`
        names = sorted(name for name in folder.names() if is_table_name(name))
        if names := [f"{inside}{name}" for name in names if not name.lower().endswith(".txt")]:
            return f" The folder holds {one_line(names[0])}; to read it, give {place}/{one_line(names[0])}."
    return ""


def folder_hint(place: StoragePath, tracks: pa.Table, classes: int) -> str:
    """Return the advice to give the only folder of a folder, if that has folders with tracks."""
    if classes != 1:
        return ""
    ids = one_array(tracks["track"])
    deep = ids.filter(pc.match_substring_regex(ids, _TWO_FOLDERS))
    folders = pc.replace_substring_regex(deep, _TWO_FOLDERS, r"\1").unique().to_pylist()
    outer = {folder.partition("/")[0] for folder in folders}
    if len(outer) != 1 or len(folders) < 2:
        return ""
    return f" If the classes are the folders in it, give {place}/{one_line(outer.pop())}."
