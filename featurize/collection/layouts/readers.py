"""Which layout a collection has, and the rows of its table."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from featurize.collection.layouts import fma, gtzan, huggingface, jamendo, magnatagatune, mirdata_loader
from featurize.collection.layouts.rows import RawRows, read_roles
from featurize.collection.layouts.source import Source
from featurize.collection.table_file import open_table
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

FOLDERS, TABLE = "folders", "table"


class _Layout(Protocol):
    """A module of this folder."""

    EXPECTED: str

    def find(self, folder: StoragePath) -> Source | None: ...

    def read(self, source: Source, given: Mapping[str, str]) -> RawRows: ...


class _ByHeader(_Layout, Protocol):
    """A module whose tables have a header that no other table has."""

    def has_header(self, names: Sequence[str]) -> bool: ...


_LAYOUTS: Mapping[str, _Layout] = {
    "fma": fma,
    "gtzan": gtzan,
    "jamendo": jamendo,
    "magnatagatune": magnatagatune,
    "huggingface": huggingface,
}
_BY_HEADER: Sequence[_ByHeader] = (fma, jamendo, magnatagatune)
LAYOUT_NAMES = (FOLDERS, *_LAYOUTS, f"{mirdata_loader.PREFIX}NAME")


def find_source(place: StoragePath, layout: str | None, is_folder: bool) -> Source:
    """Return the layout of a collection, and the files that describe it.

    Args:
        place: A folder or a table.
        layout: One of LAYOUT_NAMES; None to recognize it from the names of files. The layout of a table is
            recognized by its header, when it is read.
        is_folder: Whether `place` is a folder.

    Raises:
        FeaturizeError: The layout is unknown, or the folder does not have its files.
    """
    if layout and layout not in _LAYOUTS and layout != FOLDERS and not _is_mirdata(layout):
        raise FeaturizeError(f"--layout {layout!r} is unknown. Expected one of {', '.join(LAYOUT_NAMES)}.")
    if layout and _is_mirdata(layout):
        return Source(layout, place if is_folder else place.parent)
    if not is_folder:
        if layout in (FOLDERS, "gtzan"):
            raise FeaturizeError(
                f"--layout {layout} needs a folder; {place} is a file. Give its folder, or leave the option out."
            )
        return Source(layout or TABLE, place.parent, (place,))
    if layout in (None, *_LAYOUTS):
        for name in _LAYOUTS if layout is None else (layout,):
            if found := _LAYOUTS[name].find(place):
                return found
        if layout:
            raise FeaturizeError(f"--layout {layout}: expected {_LAYOUTS[layout].EXPECTED} in {place}.")
    return Source(FOLDERS, place)


def read_rows(source: Source, given: Mapping[str, str]) -> RawRows:
    """Read the rows of a collection's table.

    Args:
        source: Its files.
        given: Names of columns by role, from `--columns`.

    Raises:
        FeaturizeError: The table cannot be used.
    """
    if _is_mirdata(source.layout):
        return mirdata_loader.read(source, given)
    if source.layout in _LAYOUTS:
        return _LAYOUTS[source.layout].read(source, given)
    with open_table(source.tables[0]) as table:
        layout = next((layout for layout in _BY_HEADER if layout.has_header(table.names)), None)
        if layout is None:
            return read_roles(table, given)
    return layout.read(source, given)


def _is_mirdata(layout: str) -> bool:
    return layout.startswith(mirdata_loader.PREFIX) and len(layout) > len(mirdata_loader.PREFIX)
