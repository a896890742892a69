"""Class and split of each audio file of a folder, from the names of the folders that it is in.

A class is a first-level folder, or a second-level folder if the first level is a split: `train`, `test`, ...
"""

import dataclasses
import logging
import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from featurize.collection.class_names import log_parts
from featurize.collection.listed_files import file_columns, printable
from featurize.collection.listing import NAMES_SHOWN, AudioFile, list_audio, shown
from featurize.collection.role_values import read_splits
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, is_safe_name

# Names of folders above the class folders, casefolded, and the split that they stand for.
_SPLITS = {
    **dict.fromkeys(("train", "training", "trainset", "train_set", "train-set"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "testset", "test_set", "test-set"), "test"),
}
# What people put around them: `train_1`, `Training Data`, `test (2)`.
_AROUND_SPLITS = re.compile(r"\d+|[\s()._-]+|data(set)?|audio|files?|songs?|tracks?|part")
_EVALUATION = ("eval", "evaluation")  # the test set if there is no folder `test`, else the validation set
_LEAST_SHARED = 2  # classes that the splits must share

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LabeledFiles:
    """The audio files of a collection.

    Attributes:
        files: Columns `track`, `path` and `size` of a catalog; each file is in a class folder.
        labels: Class of each file, a dictionary array of strings.
        splits: Split of each file, `train`, `validation` or `test`, strings; None if the folders are no split.
    """

    files: pa.Table
    labels: pa.DictionaryArray
    splits: pa.Array | None


class _Folders:
    """The first two folders of each file that passes by, as numbers: a collection has few of them.

    Attributes:
        names: Path of each folder, at most two levels deep, in the order of appearance.
        of_file: Index of the folder of each file.
        safe: Indices of the folders that hold a file whose name can be joined to the root.
        shallow: The first such file of each folder that it is directly in.
        loose: Number of files in no folder; these do not pass.
    """

    def __init__(self) -> None:
        self._indices: dict[str, int] = {}
        self.of_file = array("i")
        self.safe: set[int] = set()
        self.shallow: dict[str, str] = {}
        self.loose = 0

    @property
    def names(self) -> list[str]:
        return list(self._indices)

    def passing(self, audio: Iterable[AudioFile]) -> Iterator[AudioFile]:
        """Yield the files that are in a folder."""
        for found in audio:
            folders, slash, _ = found.path.rpartition("/")
            if not slash:
                self.loose += 1
                continue
            folder = "/".join(folders.split("/", 2)[:2])
            index = self._indices.setdefault(folder, len(self._indices))
            self.of_file.append(index)
            if is_safe_name(found.path):
                self.safe.add(index)
                if "/" not in folder:
                    self.shallow.setdefault(folder, found.path)
            yield found


def list_class_folders(root: StoragePath, layout: str | None) -> LabeledFiles:
    """List the audio files of a folder with their classes; log what is skipped, and how the folders are read.

    Args:
        root: Folder of the collection.
        layout: `folders` if each first-level folder is a class; None if a split is to be recognized.

    Raises:
        FeaturizeError: A folder cannot be listed, or the folders are a split without common classes.
    """
    folders: set[str] = set()
    return class_folders(list_audio(root, folders), folders, layout)


def class_folders(audio: Iterable[AudioFile], folders: set[str], layout: str | None) -> LabeledFiles:
    """Return audio files with their classes; log what is skipped, and how the folders are read.

    Args:
        audio: The audio files below the folder of the collection.
        folders: All folders of the first and the second level, complete when `audio` ends.
        layout: As in `list_class_folders`.

    Raises:
        FeaturizeError: A folder cannot be listed, or the folders are a split without common classes.
    """
    seen = _Folders()
    files = file_columns(seen.passing(audio))
    if seen.loose:
        _log.warning("%d audio files are in no class folder and were skipped.", seen.loose)
    names = seen.names
    safe = [names[index] for index in sorted(seen.safe)]
    split_of = {} if layout == "folders" else _recognize_split(safe, seen.shallow)
    depth = 2 if split_of else 1
    classes = {_first(name, depth) for name in safe}
    is_class = np.array([_first(name, depth) in classes for name in names], np.bool_)
    of_file = np.frombuffer(seen.of_file, np.int32)
    kept = is_class[of_file]
    if not kept.all():
        lost = files["track"].filter(pa.array(~kept))
        _log.warning(
            "%d files were skipped because their names cannot be joined to the folder: %s.",
            len(lost),
            shown(lost.slice(0, NAMES_SHOWN).to_pylist(), len(lost)),
        )
        files, of_file = files.filter(pa.array(kept)), of_file[kept]
    _log_unused(folders, classes, depth)
    log_parts({name.rpartition("/")[2] for name in classes})
    labels = _encoded([_first(name, depth).rpartition("/")[2] for name in names], is_class, of_file)
    if not split_of:
        return LabeledFiles(files, labels, None)
    split_names = [split_of.get(_first(name, 1), "") for name in names]
    splits = _encoded(split_names, is_class, of_file)
    _check_classes(labels, splits, sorted(split_of))
    return LabeledFiles(files, labels, splits.dictionary_decode())


def _encoded(values: Sequence[str], used: NDArray[np.bool_], of_file: NDArray[np.int32]) -> pa.DictionaryArray:
    """Return the value of each file's folder; the dictionary has those of used folders, as they appear."""
    words: dict[str, int] = {}
    codes = np.array(
        [
            words.setdefault(printable(value), len(words)) if use else -1
            for value, use in zip(values, used, strict=True)
        ],
        np.int32,
    )
    return pa.DictionaryArray.from_arrays(pa.array(codes[of_file]), pa.array(list(words), pa.string()))


def _recognize_split(folders: Sequence[str], shallow: Mapping[str, str]) -> dict[str, str]:
    """Return the split of each first-level folder; nothing if the folders are no split.

    Args:
        folders: Paths of the folders, at most two levels deep.
        shallow: A file that is directly in a first-level folder, by folder.
    """
    names = {_first(name, 1) for name in folders}
    split_of = {name: split for name in names if (split := _SPLITS.get(name.strip().casefold()))}
    evaluation = "validation" if "test" in split_of.values() else "test"
    split_of |= {name: evaluation for name in names if name.strip().casefold() in _EVALUATION}
    if "train" not in split_of.values() or len({*split_of.values()}) < 2:
        _log_almost_splits(names, folders)
        return {}
    others = sorted(names - split_of.keys())
    if shallow or others:
        reason = (
            f"{others[0]!r} is no split"
            if others
            else f"{next(iter(shallow.values()))!r} is in no class folder below it"
        )
        _log.warning(
            "The folders %s look like a split, but are taken for classes, because %s; to use the split, put every "
            "audio file into a class folder below one of them.",
            _joined(split_of),
            reason,
        )
        return {}
    return split_of


def _log_almost_splits(names: Collection[str], folders: Sequence[str]) -> None:
    """Log class folders with other names of splits, and splits that are below the classes.

    Args:
        names: First-level folders.
        folders: Paths of the folders, at most two levels deep.
    """
    if almost := _loose_splits(names):
        _log.warning(
            "The folders %s look like a split, but are taken for classes, because of their names; to use the "
            "split, name them train, validation and test.",
            _joined(almost),
        )
    below = {folder.partition("/")[2] for folder in folders}
    if "" not in below and (splits := _loose_splits(below)) and len(splits) == len(below):
        _log.warning(
            "The folders %s below the class folders look like a split, which is not used; to use it, put the "
            "class folders into folders train, validation and test.",
            _joined(splits),
        )


def _loose_splits(names: Collection[str]) -> list[str]:
    """Return the names that are those of splits in any spelling, if there are train and another one among them."""
    ordered = sorted(names)
    plain = [_AROUND_SPLITS.sub("", name.casefold()).encode("utf-8", "replace").decode() for name in ordered]
    splits = read_splits(pa.array(plain, pa.string()))[0].to_pylist()
    different = {split for split in splits if split}
    if "train" not in different or len(different) < 2:
        return []
    return [name for name, split in zip(ordered, splits, strict=True) if split]


def _log_unused(folders: Collection[str], used: Collection[str], depth: int) -> None:
    """Log the class folders without a single audio file."""
    unused = sorted(name for name in folders if name.count("/") == depth - 1 and name not in used)
    if unused:
        _log.warning("%d class folders hold no audio files and are no classes: %s.", len(unused), shown(unused))


def _check_classes(labels: pa.DictionaryArray, splits: pa.DictionaryArray, folders: Sequence[str]) -> None:
    """Log the split; refuse one whose parts do not have the same classes."""
    counts = {row["values"]: row["counts"] for row in pc.value_counts(splits.dictionary_decode()).to_pylist()}
    is_trained = pc.equal(splits.dictionary_decode(), "train")
    trained = set(labels.filter(is_trained).unique().to_pylist())
    held_out = set(labels.filter(pc.invert(is_trained)).unique().to_pylist())
    if len(trained & held_out) < _LEAST_SHARED:
        raise FeaturizeError(
            f"the folders {_joined(folders)} look like a split, but the folders in them, which would be the "
            f"classes, differ: {shown(sorted(trained))} in train, {shown(sorted(held_out))} in the others. Use "
            "the same class folders in each, or add --layout folders to make each first-level folder a class."
        )
    _log.warning(
        "The folders %s are a split and not classes (%s); the classes are the folders in them. If they are "
        "classes, add --layout folders.",
        _joined(folders),
        ", ".join(f"{split}: {counts[split]}" for split in ("train", "validation", "test") if split in counts),
    )


def _first(folder: str, depth: int) -> str:
    """Return the first folders of a path to a folder, joined; all of them if there are fewer."""
    return "/".join(folder.split("/")[:depth])


def _joined(names: Collection[str]) -> str:
    *first, last = sorted(repr(name) for name in names)
    return f"{', '.join(first)} and {last}" if first else last
