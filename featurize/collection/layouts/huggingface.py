"""Hugging Face's folders of audio: `metadata.csv`, `.jsonl` or `.parquet` with `file_name`, beside the audio.

There is one such file, or one in the folder of each split (`train`, `data/test`, ...), or none: then the classes
are folders in those of the splits. See https://huggingface.co/docs/datasets/audio_dataset.
"""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from featurize.collection.found_paths import FolderTree
from featurize.collection.layouts.rows import RawRows, join, read_roles
from featurize.collection.layouts.source import Source
from featurize.collection.listing import list_audio
from featurize.collection.role_values import read_splits
from featurize.collection.table_file import open_table
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

EXPECTED = "metadata.csv, metadata.jsonl or metadata.parquet, in it or in the folder of each split"
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_HEADER_BYTES = 1 << 16
_SHOWN = 5


def find(folder: StoragePath) -> Source | None:
    """Return the metadata of a folder, or of its splits."""
    if found := _metadata(folder):
        return Source("huggingface", folder, (found,))
    for place in (folder, folder / "data") if "data" in folder.names() else (folder,):
        splits = sorted(name for name in place.names() if is_split(name))
        tables = [table for name in splits if (table := _metadata(place / name))]
        if tables:
            return Source("huggingface", folder, tuple(tables))
        # Splits at the top are recognized in any folder of classes, see `class_folders`.
        if place != folder and len(splits) > 1 and set(splits) == set(FolderTree(place).folders()):
            return Source("huggingface", folder)
    return None


def read(source: Source, given: Mapping[str, str]) -> RawRows:
    """Read the metadata; without a column `split`, the split is that of the folders, if all of them have one."""
    if not source.tables:
        return _read_folders(source, given)
    parts = []
    for path in source.tables:
        with open_table(path) as table:
            usual = {"path": "file_name"} if "file_name" in table.names else {}
            rows = read_roles(
                table,
                {**usual, **given},
                what="Hugging Face's metadata",
                otherwise="; or, if the folders are the classes, add --layout folders",
            )
        below = path.parent.path[len(source.folder.path) :].strip("/")
        if below:
            paths = pc.binary_join_element_wise(below, rows.columns["path"], "/")
            rows = rows.with_columns({"path": paths})
        parts.append(rows)
    joined = join(parts).with_columns({}, *_notes_on_others(source))
    if "split" in joined.columns or "split" in given:
        return joined
    folders = pc.replace_substring_regex(
        pc.replace_substring_regex(joined.columns["path"], r"^data/", ""), "/.*", ""
    )
    splits, wrong = read_splits(folders)
    if splits.null_count or pc.any(wrong).as_py() or len(splits.unique()) < 2:
        return joined
    return joined.with_columns({"split": splits}, "The split is the folder of each file.")


def _notes_on_others(source: Source) -> list[str]:
    """Return a note on the folders of splits that have no metadata, if others have."""
    read = {table.parent.path for table in source.tables}
    above = source.tables[0].parent.parent
    if source.folder.path in read:
        return []
    others = [name for name in FolderTree(above).folders() if is_split(name) and (above / name).path not in read]
    named = ", ".join(repr(one_line(name)) for name in others)
    return [f"Folders of splits without metadata are not used: {named}."] if others else []


def _read_folders(source: Source, given: Mapping[str, str]) -> RawRows:
    """Return the files of `train/rock/1.wav`, `data/test/rock/2.wav` and so on."""
    if given:
        raise FeaturizeError("--columns is about a table, and there is none in the folders of the splits.")
    paths = sorted(found.path for found in list_audio(source.folder))
    try:
        columns = {"path": pa.array(paths, pa.string())}
    except UnicodeEncodeError as error:
        raise FeaturizeError(
            f"a file in {source.folder} has a name that is not UTF-8: {one_line(error.object)!r}. Rename it."
        ) from error
    below = [path.removeprefix("data/").split("/") for path in paths]
    if loose := [
        path for path, parts in zip(paths, below, strict=True) if len(parts) < 3 or not is_split(parts[0])
    ]:
        raise FeaturizeError(
            f"{source.folder} has folders of splits, and {len(loose)} files are in no class in them: "
            f"{', '.join(one_line(path) for path in loose[:_SHOWN])}. Expected SPLIT/CLASS/FILE; or, if the "
            "folders are classes, add --layout folders"
        )
    columns["label"] = pa.array([parts[1] for parts in below], pa.string())
    columns["split"] = pa.array([parts[0] for parts in below], pa.string())
    note = "The folders are splits, and the classes are the folders in them; if not, add --layout folders."
    return RawRows(columns, pa.array(range(1, len(paths) + 1), pa.int64()), "file", (note,))


def is_split(name: str) -> bool:
    """Return whether the name of a folder is that of a split."""
    splits, _ = read_splits(pa.array([name.encode("utf-8", "replace").decode()], pa.string()))
    return bool(splits.null_count == 0)


def _metadata(folder: StoragePath) -> StoragePath | None:
    names = folder.names()
    return next((folder / name for name in _METADATA if name in names and _names_files(folder / name)), None)


def _names_files(table: StoragePath) -> bool:
    """Return whether a table has, by its beginning, the column that Hugging Face requires."""
    try:
        return table.suffix == ".parquet" or b"file_name" in table.read_at_most(_HEADER_BYTES)
    except OSError:
        return False
