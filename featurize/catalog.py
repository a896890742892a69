"""Which tracks there are: their paths, labels, groups and folds, from class folders or from a table."""

import dataclasses
import os
from collections import Counter
from pathlib import Path

from featurize.config import FeaturizeConfig
from featurize.dataset import FOLDS
from featurize.errors import FeaturizeError
from featurize.folds import assign_folds
from featurize.table import TABLE_SUFFIXES, read_table
from featurize.tags import read_groups

# What libsndfile decodes.
AUDIO_SUFFIXES = frozenset({".aif", ".aifc", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})


@dataclasses.dataclass(frozen=True, slots=True)
class Track:
    """One labelled audio file.

    Attributes:
        id: the path below the collection's root, with `/`; unique, and the same wherever the root lies.
        path: where the file is now.
        label: its class.
        group: what must stay on one side of a split together with it.
        fold: 0 to FOLDS - 1.
        size: in bytes; -1 where the file is missing. A file that changes its size is featurized again.
    """

    id: str
    path: str
    label: str
    group: str
    fold: int
    size: int


@dataclasses.dataclass(frozen=True)
class Catalog:
    """The tracks of a collection in the order of their ids, its classes in alphabetical order, and remarks.

    Remarks say what the owner of the collection may want to know: files passed over, groups not found.
    """

    tracks: list[Track]
    classes: list[str]
    remarks: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """What a folder or a table says of a track before groups and folds are settled."""

    id: str
    path: str
    label: str
    group: str | None = None
    fold: int | None = None


def build_catalog(music: str, config: FeaturizeConfig) -> Catalog:
    """List a collection and settle the group and the fold of each track.

    Args:
        music: a folder whose subfolders are the classes, or a CSV, Parquet or JSON-lines table.
        config: for `group_by`.

    Raises:
        FeaturizeError: nothing is there, nothing in it is audio, or it cannot be split into folds.
    """
    root = Path(music).absolute()  # a worker may run in another folder
    if root.is_dir():
        entries, remarks = _scan_folder(root)
    elif root.is_file() and root.suffix.lower() in TABLE_SUFFIXES:
        base = root.parent
        entries = [
            _Entry(_table_id(row.path, base), str(base / row.path), row.label, row.group, row.fold)
            for row in read_table(root, FOLDS)
        ]
        remarks = []
    elif root.exists():
        raise FeaturizeError(
            f"{music} is neither a folder nor a table ({', '.join(sorted(TABLE_SUFFIXES))}). Give the folder "
            "whose subfolders are the classes, or a table with the columns path and label."
        )
    else:
        raise FeaturizeError(f"{music} does not exist. Give a folder of music or a table of tracks.")

    entries.sort(key=lambda entry: entry.id)
    classes = sorted({entry.label for entry in entries})
    if len(classes) < 2:
        raise FeaturizeError(
            f"expected at least 2 classes in {music}, found {len(classes)}"
            f"{': ' + classes[0] if classes else ''}. In a folder, each class is a subfolder with its tracks."
        )
    groups = _settle_groups(entries, config, remarks)
    folds = _settle_folds(entries, groups)
    tracks = [
        Track(entry.id, entry.path, entry.label, group, fold, _size(entry.path))
        for entry, group, fold in zip(entries, groups, folds, strict=True)
    ]
    return Catalog(tracks, classes, remarks)


def _scan_folder(root: Path) -> tuple[list[_Entry], list[str]]:
    """Find the audio files below each first-level subfolder; hidden and other files are counted."""
    entries: list[_Entry] = []
    passed_over: Counter[str] = Counter()
    unclassed = 0
    visited: set[tuple[int, int]] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse_folder):
        # A symbolic link may lead back up: each real folder is read once.
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        parts = Path(folder).relative_to(root).parts
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if name.startswith(".") or suffix not in AUDIO_SUFFIXES:
                passed_over["hidden" if name.startswith(".") else suffix or "no suffix"] += 1
            elif not parts:
                unclassed += 1
            else:
                track = _printable("/".join((*parts, name)))
                entries.append(_Entry(track, os.path.join(folder, name), _printable(parts[0])))
    remarks = []
    if passed_over:
        by_count = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{kind}: {count}" for kind, count in by_count)
        remarks.append(f"{passed_over.total()} other files were passed over ({kinds}).")
    if unclassed:
        remarks.append(f"{unclassed} audio files lie outside any class folder and were passed over.")
    return entries, remarks


def _refuse_folder(error: OSError) -> None:
    raise FeaturizeError(f"cannot list {error.filename}: {error.strerror}.") from error


def _settle_groups(entries: list[_Entry], config: FeaturizeConfig, remarks: list[str]) -> list[str]:
    """Give each track the group of its table, of its tag, or of its own."""
    if any(entry.group is not None for entry in entries) or config.group_by == "none":
        return [entry.group or entry.id for entry in entries]
    named = read_groups([entry.path for entry in entries], config.group_by)
    missing = sum(group is None for group in named)
    if missing:
        remarks.append(
            f"{missing} of {len(entries)} tracks carry no {config.group_by} tag; each of them is a group of "
            "its own."
        )
    return [group or entry.id for entry, group in zip(entries, named, strict=True)]


def _settle_folds(entries: list[_Entry], groups: list[str]) -> list[int]:
    """Take the table's folds where it has them, else deal the groups out."""
    given = [entry.fold for entry in entries if entry.fold is not None]
    if not given:
        return [int(fold) for fold in assign_folds([entry.label for entry in entries], groups)]
    fold_of: dict[str, int] = {}
    split = sorted({g for g, fold in zip(groups, given, strict=True) if fold_of.setdefault(g, fold) != fold})
    if split:
        named = ", ".join(repr(group) for group in split[:5])
        raise FeaturizeError(
            f"the table's fold column splits {len(split)} groups over several folds: {named}"
            f"{', ...' if len(split) > 5 else ''}. Give every track of a group the same fold, or leave the fold "
            "column out."
        )
    return given


def _table_id(path: str, base: Path) -> str:
    """Name a track of a table by its path below the table's folder, or by its whole path if it lies elsewhere."""
    whole = Path(os.path.normpath(path))
    below = whole.relative_to(base) if whole.is_absolute() and whole.is_relative_to(base) else whole
    return _printable(below.as_posix())


def _printable(name: str) -> str:
    """Escape bytes of a file name that are not UTF-8, which Arrow and JSON could not hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1
