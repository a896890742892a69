"""An S3 Inventory in place of listing a bucket.

AWS writes the list of a bucket's objects once a day or a week: a `manifest.json`, and CSV or Parquet files that it
names. Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

import dataclasses
import itertools
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featurize.collection.class_folders import LabeledFiles, class_folders
from featurize.collection.listing import AUDIO_SUFFIXES, audio_of_bucket
from featurize.collection.manifest import TableRequest
from featurize.column_file import ColumnFile, texts
from featurize.dataset.json_text import parse_json
from featurize.display import one_line
from featurize.errors import FeaturizeError
from featurize.io_errors import first_line
from featurize.place_uri import encode
from featurize.storage import StoragePath, describe, is_safe_name

NAME = "manifest.json"
_LARGEST_MANIFEST = 32 << 20  # bytes
_ROWS, _BLOCK = 1 << 14, 4 << 20  # of a part at a time; bytes
_LONGEST_KEY = 1024  # bytes, in S3

Text = Annotated[str, Field(min_length=1, max_length=4096)]


class _Part(BaseModel):
    key: Text


class _Manifest(BaseModel):
    """What is used of the manifest."""

    model_config = ConfigDict(strict=True)

    source: Annotated[str, Field(alias="sourceBucket", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$")]
    format: Annotated[Literal["CSV", "Parquet", "ORC"], Field(alias="fileFormat")]
    columns: Annotated[Text, Field(alias="fileSchema")]
    files: Annotated[list[_Part], Field(min_length=1, max_length=100_000)]


@dataclasses.dataclass(frozen=True)
class Inventory:
    """The objects of a bucket.

    Attributes:
        root: The longest folder that holds all audio files.
        keys: Key of each object, string [objects].
        sizes: Size of each object in bytes.
        prefix: Key of the root, with a slash at its end; empty for the whole bucket.
    """

    root: StoragePath
    keys: pa.Array
    sizes: Sequence[int]
    prefix: str

    def list_class_folders(self, layout: str | None) -> LabeledFiles:
        """Return the audio files with their classes, as `class_folders.list_class_folders` does for a folder."""
        folders: set[str] = set()
        length = len(self.prefix)
        below = (
            (key[length:], size)
            for key, size in zip(texts(self.keys), self.sizes, strict=True)
            if key.startswith(self.prefix)
        )
        return class_folders(audio_of_bucket(below, folders), folders, layout)


def find_inventory(place: StoragePath, request: TableRequest) -> Inventory | None:
    """Read an inventory.

    Args:
        place: MUSIC.
        request: Bucket of MUSIC, and others that it may name.

    Returns:
        None if `place` is no manifest of an inventory.

    Raises:
        FeaturizeError: The inventory is broken, in a format that cannot be read, or of a bucket that it must not
            name.
        OSError: A file cannot be read.
    """
    if place.name != NAME or not place.is_file():
        return None
    try:
        content = parse_json(place.read_at_most(_LARGEST_MANIFEST + 1), _LARGEST_MANIFEST)
    except ValueError:
        return None  # a table of the same name, in JSON Lines
    if not (isinstance(content, dict) and {"sourceBucket", "fileFormat", "files"} <= content.keys()):
        return None
    try:
        manifest = _Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise FeaturizeError(
            f"{place} is not the manifest of an S3 Inventory: {one_line(where)}: {one_line(first['msg'])}."
        ) from error
    _refuse_other_bucket(place, manifest, request)
    if manifest.format == "ORC":
        raise FeaturizeError(
            f"{place} lists files in the format ORC. Expected CSV or Parquet: choose one of them in the settings "
            "of the inventory."
        )
    keys, sizes = ColumnFile(pa.string()), array("q")
    for part in manifest.files:
        rows = _read_part(place, manifest, part)
        while some := list(itertools.islice(rows, _ROWS)):
            keys.append(pa.array([key for key, _ in some], pa.string()))
            sizes.extend(size for _, size in some)
    objects = keys.finish()
    prefix = _common_folder(objects)
    if prefix is None:
        raise FeaturizeError(f"{place} lists {len(objects):,} objects of {manifest.source}, but no audio files.")
    root = StoragePath.of(
        f"s3://{manifest.source}/{encode(prefix)}".rstrip("/") + (f"?{place.query}" if place.query else "")
    )
    return Inventory(root, objects, sizes, prefix)


def _refuse_other_bucket(place: StoragePath, manifest: _Manifest, request: TableRequest) -> None:
    store = f"s3://{manifest.source}"
    if store != request.own and not {store, manifest.source} & request.allowed:
        raise FeaturizeError(
            f"{place} is an inventory of {store}, another bucket than its own. If you trust it, add "
            f"--allow-bucket {manifest.source}"
        )


def _read_part(place: StoragePath, manifest: _Manifest, part: _Part) -> Iterator[tuple[str, int]]:
    """Yield key and size of the current version of each object in a file of the inventory."""
    path = _locate(place, part)
    try:
        batches = _read_csv(path, manifest) if manifest.format == "CSV" else _read_parquet(path)
        for batch in batches:
            columns = [batch[name].to_pylist() if name in batch.schema.names else None for name in _COLUMNS]
            keys, sizes, *flags = columns
            latest, deleted = ([str(flag).lower() for flag in each or ()] for each in flags)
            for index, (key, size) in enumerate(zip(keys or (), sizes or (), strict=True)):
                if (latest and latest[index] == "false") or (deleted and deleted[index] == "true"):
                    continue
                if not key or len(key) > 3 * _LONGEST_KEY:
                    raise ValueError("it has a key that is empty or too long")
                name = unquote_plus(key) if manifest.format == "CSV" else key
                yield name, int(size) if size not in (None, "") else -1
    except (pa.ArrowException, OSError, ValueError, KeyError, EOFError) as error:
        reason = describe(error) if isinstance(error, OSError) else one_line(first_line(error))
        raise FeaturizeError(
            f"{path}, a part of the inventory {place}, cannot be read: {reason.rstrip('.')}."
        ) from error


_COLUMNS = ("key", "size", "is_latest", "is_delete_marker")


def _locate(place: StoragePath, part: _Part) -> StoragePath:
    """Return a file of the inventory: a key of the manifest's bucket, or beside a manifest that was downloaded."""
    if not is_safe_name(part.key):
        raise FeaturizeError(f"{place} names the file {one_line(part.key)!r}, which leads out of its folder.")
    if place.scheme:
        return dataclasses.replace(place, path=f"{place.path.split('/')[0]}/{part.key}")
    name = os.path.basename(part.key)
    folders = [place.parent, place.parent / "data", place.parent.parent / "data"]
    found = [folder / name for folder in folders if (folder / name).is_file()]
    if not found:
        raise FeaturizeError(
            f"{name}, a part of the inventory {place}, is missing. Expected it beside the manifest, or in a "
            "folder named data there."
        )
    return found[0]


def _read_csv(path: StoragePath, manifest: _Manifest) -> Iterator[pa.RecordBatch]:
    """Read a part that is compressed CSV without a header."""
    names = [
        "".join(f"_{c.lower()}" if c.isupper() else c for c in name.strip()).lstrip("_")
        for name in manifest.columns.split(",")
    ]
    missing = [name for name in _COLUMNS[:2] if name not in names]
    if missing:
        raise ValueError(
            f"the inventory has no {' and no '.join(missing)}; add it in the settings of the inventory"
        )
    with (
        path.open() as raw,
        pa.input_stream(raw, compression="gzip" if path.name.endswith(".gz") else None) as text,
    ):
        yield from pyarrow.csv.open_csv(
            text,
            pyarrow.csv.ReadOptions(block_size=_BLOCK, column_names=names),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=[name for name in _COLUMNS if name in names],
                strings_can_be_null=False,
            ),
        )


def _read_parquet(path: StoragePath) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path.path, **path.arrow) as file:
        names = file.schema_arrow.names
        missing = [name for name in _COLUMNS[:2] if name not in names]
        if missing:
            raise ValueError(f"it has no column {' and no '.join(missing)}")
        # A key of many bytes may be repeated in every row: it stays encoded until its length is known.
        keyed = pq.ParquetFile(path.path, read_dictionary=["key"], **path.arrow)
        for batch in keyed.iter_batches(_ROWS, columns=[name for name in _COLUMNS if name in names]):
            key = batch["key"]
            words = key.dictionary if isinstance(key, pa.DictionaryArray) else key
            if words.nbytes > _ROWS * _LONGEST_KEY:
                raise ValueError("it has keys that are too long")
            yield batch


def _is_audio(key: str) -> bool:
    return os.path.splitext(key)[1].lower() in AUDIO_SUFFIXES and is_safe_name(key)


def _common_folder(objects: pa.Array) -> str | None:
    """Return the longest prefix of all audio files that ends with a slash and leaves a class folder below it.

    Args:
        objects: Keys of a bucket, string [objects].

    Returns:
        None if there are no audio files.
    """
    first, last = None, None
    for key in texts(objects):
        if _is_audio(key):
            first = key if first is None else min(first, key)
            last = key if last is None else max(last, key)
    if first is None or last is None:
        return None
    common = os.path.commonpath([os.path.dirname(first), os.path.dirname(last)])
    folder = f"{common}/" if common else ""
    # All files in one folder: it is the class, not the collection.
    if any(_is_audio(key) and "/" not in key[len(folder) :] for key in texts(objects)):
        parent = common.rpartition("/")[0]
        folder = f"{parent}/" if parent else ""
    return folder
