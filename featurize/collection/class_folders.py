"""Class and split of each audio file of a folder, from the names of the folders that it is in.

A class is a first-level folder, or a second-level folder if the first level is a split: `train`, `test`, ...
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from featurize.collection.listing import AudioFile, list_audio, shown
from featurize.errors import FeaturizeError
from featurize.storage import StoragePath, is_safe_name

# Names of folders above the class folders, casefolded, and the split that they stand for.
_SPLITS = {
    **dict.fromkeys(("train", "training", "trainset", "train_set", "train-set"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "testset", "test_set", "test-set"), "test"),
}
_EVALUATION = ("eval", "evaluation")  # the test set if there is no folder `test`, else the validation set
_LEAST_SHARED = 2  # classes that the splits must share

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class LabeledFiles:
    """The audio files of a collection.

    Attributes:
        files: The files, each in a class folder.
        labels: Class of each file.
        splits: Split of each file, `train`, `validation` or `test`; None if the folders are no split.
    """

    files: Sequence[AudioFile]
    labels: Sequence[str]
    splits: Sequence[str] | None


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
    files: list[AudioFile] = []
    loose = 0
    for found in audio:
        if "/" in found.path:
            files.append(found)
        else:
            loose += 1
    if loose:
        _log.warning("%d audio files are in no class folder and were skipped.", loose)
    split_of = {} if layout == "folders" else _recognize_split(files)
    depth = 2 if split_of else 1
    kept = _in_class_folders(files, depth)
    _log_unused(folders, kept, depth)
    parts = [found.path.split("/", depth) for found in kept]
    labels = [part[depth - 1] for part in parts]
    if not split_of:
        return LabeledFiles(kept, labels, None)
    splits = [split_of[part[0]] for part in parts]
    _check_classes(labels, splits, sorted(split_of))
    return LabeledFiles(kept, labels, splits)


def _recognize_split(files: Sequence[AudioFile]) -> dict[str, str]:
    """Return the split of each first-level folder; nothing if the folders are no split."""
    names = {found.path.split("/", 1)[0] for found in files if is_safe_name(found.path)}
    split_of = {name: split for name in names if (split := _SPLITS.get(name.strip().casefold()))}
    evaluation = "validation" if "test" in split_of.values() else "test"
    split_of |= {name: evaluation for name in names if name.strip().casefold() in _EVALUATION}
    if "train" not in split_of.values() or len({*split_of.values()}) < 2:
        return {}
    shallow = [found.path for found in files if is_safe_name(found.path) and found.path.count("/") < 2]
    others = sorted(names - split_of.keys())
    if shallow or others:
        reason = f"{others[0]!r} is no split" if others else f"{shallow[0]!r} is in no class folder below it"
        _log.warning(
            "The folders %s look like a split, but are taken for classes, because %s; to use the split, put every "
            "audio file into a class folder below one of them.",
            _joined(split_of),
            reason,
        )
        return {}
    return split_of


def _in_class_folders(files: Sequence[AudioFile], depth: int) -> list[AudioFile]:
    """Return the files without those whose names are unsafe, unless they are in a class folder of other files."""
    classes = {_folder(found.path, depth) for found in files if is_safe_name(found.path)}
    kept = [found for found in files if _folder(found.path, depth) in classes]
    if len(kept) < len(files):
        lost = [found.path for found in files if _folder(found.path, depth) not in classes]
        _log.warning(
            "%d files were skipped because their names cannot be joined to the folder: %s.", len(lost), shown(lost)
        )
    return kept


def _log_unused(folders: Collection[str], files: Sequence[AudioFile], depth: int) -> None:
    """Log the class folders without a single audio file."""
    used = {_folder(found.path, depth) for found in files}
    unused = sorted(name for name in folders if name.count("/") == depth - 1 and name not in used)
    if unused:
        _log.warning("%d class folders hold no audio files and are no classes: %s.", len(unused), shown(unused))


def _check_classes(labels: Sequence[str], splits: Sequence[str], folders: Sequence[str]) -> None:
    """Log the split; refuse one whose parts do not have the same classes."""
    counts = Counter(splits)
    trained = {label for label, split in zip(labels, splits, strict=True) if split == "train"}
    held_out = {label for label, split in zip(labels, splits, strict=True) if split != "train"}
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


def _folder(path: str, depth: int) -> str:
    """Return the first folders of a path, joined; all of them if there are fewer."""
    return "/".join(path.split("/")[:-1][:depth])


def _joined(names: Collection[str]) -> str:
    *first, last = sorted(repr(name) for name in names)
    return f"{', '.join(first)} and {last}" if first else last
