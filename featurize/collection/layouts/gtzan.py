"""GTZAN with the artist-filtered split: a list of files for each split, beside or above the folders of genres.

Kereliuk, Sturm and Larsen, "Deep Learning and Music Adversaries", 2015. Lines are `blues/blues.00029.wav`. Without
the lists, GTZAN is a folder of classes as any other.
"""

from collections.abc import Mapping

import pyarrow as pa

from featurize.collection.layouts.rows import RawRows
from featurize.collection.layouts.source import Source
from featurize.collection.role_values import SPLITS
from featurize.collection.table_file import open_lines
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath

EXPECTED = "train_filtered.txt, valid_filtered.txt and test_filtered.txt beside or above the folders of genres"
_LISTS = ("train_filtered.txt", "valid_filtered.txt", "test_filtered.txt")


def find(folder: StoragePath) -> Source | None:
    """Return the three lists of a folder."""
    found = [name for name in _LISTS if name in folder.names()]
    if not found:
        return None
    if len(found) < len(_LISTS):
        raise FeaturizeError(
            f"{folder} holds {' and '.join(found)}, but GTZAN's artist-filtered split has {', '.join(_LISTS)}. "
            "Add the other lists, or add --layout folders to ignore them"
        )
    return Source("gtzan", folder, tuple(folder / name for name in _LISTS))


def read(source: Source, given: Mapping[str, str]) -> RawRows:
    """Read the lists; the label is the folder of a file."""
    if given:
        raise FeaturizeError("--columns cannot be used with GTZAN's lists of files, which have no columns.")
    paths: list[str] = []
    splits: list[str] = []
    lines: list[int] = []
    counts = []
    for path, split in zip(source.tables, SPLITS, strict=True):
        with open_lines(path) as text:
            listed = [(number, line.strip()) for number, line in enumerate(text, start=1) if line.strip()]
        for number, name in listed:
            if "/" not in name.replace("\\", "/").strip("/"):
                raise FeaturizeError(
                    f"{path} cannot be used: line {number} is not FOLDER/FILE, such as blues/blues.00029.wav"
                )
            lines.append(number)
            paths.append(name)
            splits.append(split)
        counts.append(f"{split} {len(listed)}")
    if not paths:
        raise FeaturizeError(
            f"the lists of files in {source.folder} are empty. Expected lines such as blues/blues.00029.wav"
        )
    labels = [path.replace("\\", "/").rsplit("/", 2)[-2] for path in paths]
    columns = {"path": paths, "label": labels, "split": splits}
    return RawRows(
        {role: pa.array(values, pa.string()) for role, values in columns.items()},
        pa.array(lines, pa.int64()),
        "line",
        (f"GTZAN's artist-filtered split: {', '.join(counts)} files; others in the folders are not used.",),
        audio_beside=True,
    )
