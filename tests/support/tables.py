"""Tables of twelve empty files in two classes, for the tests of what is read from tables."""

from featurize.collection.catalog import build_catalog
from support.logs import logged

CLASSES = ("jazz", "punk")
FILES = [f"{label}/{n}.wav" for label in CLASSES for n in range(6)]


def with_files(folder):
    """Write the files into a folder; return it."""
    for name in FILES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def catalog_of(path, **options):
    """The tracks of a table as rows by id, and the log."""
    with logged("featurize") as messages:
        tracks = build_catalog(str(path), **options).tracks
    return {row["track"]: row for row in tracks.to_pylist()}, messages


def write(path, header, row, delimiter=",", encoding="utf-8", end="\n"):
    """Write a table with one row for each file, made by a function of its path and its index."""
    lines = [header, *(row(name, index) for index, name in enumerate(FILES))]
    path.write_bytes("".join(delimiter.join(map(str, cells)) + end for cells in lines).encode(encoding))
    return path


def label_of(name):
    """The class of a file, which is its folder."""
    return name.split("/")[0]
