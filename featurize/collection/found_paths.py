"""Find files that a table names in another way than the disk does.

Tables are made on other machines: with backslashes, with accents composed in another way, percent-encoded, with
absolute paths, or with the suffix of another copy. A file is only taken if exactly one fits, and what was done is
logged.
"""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from urllib.parse import unquote

import pyarrow.fs as pafs

from featurize.collection.listing import AUDIO_SUFFIXES, is_system_name
from featurize.collection.location import parse_file_uri
from featurize.names import is_safe_name
from featurize.storage import StoragePath

# MTG-Jamendo's smaller download is named `214.low.mp3` where the table has `214.mp3`.
_SMALLER = ".low"
_MOST_REMEMBERED = 50_000  # folders
_MOST_DIGITS = 18
_MOST_PARTS = 64  # of a path whose beginning may be left out


class FolderTree:
    """The names in a folder and its subfolders, each listed when it is first asked for."""

    def __init__(self, root: StoragePath) -> None:
        """Remember the folder; nothing is listed yet."""
        self._root = root
        self._folders: dict[str, Names] = {}
        # Folder by the one above it and its name in a path. Emptied when it is full: most files of a large table
        # may be missing, and paths in the same folder mostly stand together.
        self._below: dict[tuple[str, str], str | None] = {}

    def find(self, parts: Sequence[str]) -> str | None:
        """Return the only file below the root whose path has these parts, up to spelling; None if there is none.

        Args:
            parts: Names of folders and of the file.

        Returns:
            Path below the root as it is on the disk.
        """
        below = self.folder(parts[:-1])
        if below is None:
            return None
        name = self._names(below).match(parts[-1], is_file=True)
        return f"{below}/{name}".lstrip("/") if name else None

    def folder(self, parts: Sequence[str]) -> str | None:
        """Return the only folder below the root whose path has these parts, up to spelling; None without it."""
        below = ""
        for part in parts:
            key = (below, part)
            if key not in self._below:
                if len(self._below) >= _MOST_REMEMBERED:
                    self._below.clear()
                name = self._names(below).match(part, is_file=False)
                self._below[key] = f"{below}/{name}".lstrip("/") if name else None
            found = self._below[key]
            if found is None:
                return None
            below = found
        return below

    def folders(self) -> list[str]:
        """Return the names of the folders directly below the root, without hidden ones."""
        return sorted(name for name in self._names("").folders if not name.startswith("."))

    def files(self, most_folders: int) -> Iterator[str]:
        """Yield the paths of all files below the root; none if there are more folders than a limit, on a disk."""
        if self._root.scheme:  # a request for a thousand files instead of one for each folder
            for path, _ in self._root.files():
                if is_safe_name(path) and not any(map(is_system_name, path.split("/"))):
                    yield path
            return
        waiting: list[str] = [""]
        found: list[str] = []
        for _ in range(most_folders + 1):
            if not waiting:
                yield from found
                return
            below = waiting.pop()
            files, folders = self._list(below)
            found += [f"{below}/{name}".lstrip("/") for name in files if not is_system_name(name)]
            waiting += [f"{below}/{name}".lstrip("/") for name in folders if not is_system_name(name)]

    def has_any(self, names: frozenset[str]) -> bool:
        """Return whether a file or folder directly below the root has one of the names of `first_names`."""
        return not names.isdisjoint(self._names("").keys())

    def _names(self, below: str) -> "Names":
        if below not in self._folders:
            self._folders[below] = Names(*self._list(below))
        return self._folders[below]

    def _list(self, below: str) -> tuple[list[str], list[str]]:
        """Return the names of files and folders in a folder; none if it cannot be listed."""
        folders: list[str] = []
        files: list[str] = []
        try:
            if self._root.local:
                with os.scandir(os.path.join(self._root.path, below)) as entries:
                    for entry in entries:
                        (folders if entry.is_dir() else files).append(entry.name)
            else:
                place = f"{self._root.path}/{below}".rstrip("/")
                for info in self._root.filesystem.get_file_info(pafs.FileSelector(place, allow_not_found=True)):
                    (folders if info.type == pafs.FileType.Directory else files).append(info.base_name)
        except OSError:
            return [], []
        return files, folders


class Names:
    """The names in one folder, by spelling."""

    def __init__(self, files: Sequence[str], folders: Sequence[str]) -> None:
        self.folders = frozenset(folders)
        self._files = frozenset(files)
        self._by_key: defaultdict[tuple[bool, str], list[str]] = defaultdict(list)
        for name in files:
            self._by_key[True, _key(name)].append(name)
        for name in folders:
            self._by_key[False, _key(name)].append(name)
        self._by_stem: defaultdict[str, list[str]] = defaultdict(list)
        self._by_number: defaultdict[str, list[str]] = defaultdict(list)
        for name in files:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in AUDIO_SUFFIXES:
                self._by_stem[_key(stem)].append(name)
                if number := _number(stem):
                    self._by_number[number].append(name)

    def keys(self) -> set[str]:
        """Return all names up to spelling; those of audio files also without their suffixes, and as numbers."""
        return {key for _, key in self._by_key} | set(self._by_stem) | set(self._by_number)

    def match(self, name: str, is_file: bool) -> str | None:
        """Return the only file, or folder, with this name up to spelling, and for a file up to its suffix."""
        if name in (self._files if is_file else self.folders):
            return name
        found = self._by_key.get((is_file, _key(name)), [])
        if not found and is_file:
            stem, suffix = os.path.splitext(name)
            stems = [name, *([stem] if suffix.lower() in AUDIO_SUFFIXES else [])]
            found = next(filter(None, (self._by_stem.get(_key(text), []) for text in stems)), [])
            found = found or self._by_stem.get(_key(f"{stems[-1]}{_SMALLER}"), [])
            found = found or self._by_number.get(_number(stems[-1]) or "", [])
        if not found and (decoded := unquote(name)) != name:
            return self.match(decoded, is_file)
        return found[0] if len(found) == 1 else None


def find_missing(
    tree: FolderTree,
    paths: Iterable[str],
    taken: Callable[[list[str]], Collection[str]] = lambda names: (),
    shorten: bool = True,
) -> tuple[dict[int, str], dict[str, int]]:
    """Find files under other names.

    Args:
        tree: Folder of the collection.
        paths: Paths that do not exist, from a table.
        taken: Returns those of some paths below the folder that other rows have.
        shorten: Whether folders at the beginning of a path may be left out, as in `/home/x/genres/blues/a.wav`.
            A bare name may be that of any file, so it counts only for absolute paths that are all in one folder.

    Returns:
        Paths below the folder by index in `paths`, no file twice; and the number of files by what was different.
    """
    found: dict[int, tuple[str, str, str]] = {}
    bare: dict[int, str] = {}
    absent = None  # the last folder of a path that is nowhere below the root
    for index, path in enumerate(paths):
        folder = None if "\\" in path else path.rpartition("/")[0]
        if folder and folder == absent:
            continue
        parts = _parts(path)
        is_absent = bool(folder)
        for start in range(len(parts)) if shorten and len(parts) <= _MOST_PARTS else range(min(len(parts), 1)):
            is_bare = start > 0 and start == len(parts) - 1
            if is_bare and not _is_absolute(path):
                break
            if tree.folder(parts[start:-1]) is None:
                continue
            is_absent = False
            if name := tree.find(parts[start:]):
                found[index] = (name, "/".join(parts[:start]), path)
                if is_bare:
                    bare[index] = found[index][1]
                break
        absent = folder if is_absent else absent
    if len(set(bare.values())) > 1:
        found = {index: match for index, match in found.items() if index not in bare}
    uses = Counter(name for name, _, _ in found.values())
    others = frozenset(taken(list(uses)))
    kept = {index: match for index, match in found.items() if uses[match[0]] == 1 and match[0] not in others}
    kinds = Counter(_difference(path, name, lost) for name, lost, path in kept.values())
    return {index: name for index, (name, _, _) in kept.items()}, dict(kinds)


def first_names(paths: Iterable[str]) -> frozenset[str]:
    """Return the first parts of relative paths, up to spelling, to compare with those of `FolderTree.folders`."""
    firsts = {parts[0] for path in paths if not _is_absolute(path) and (parts := _parts(path))}
    stems = [(name, os.path.splitext(name)[0]) for name in firsts]
    return frozenset(_key(text) for name, stem in stems for text in (name, stem, _number(stem) or stem))


def _difference(path: str, found: str, lost: str) -> str:
    """Return in a few words how the path in a table differs from that of the file."""
    beginning = ("/" if path.startswith("/") else "") + lost
    differences = [f"without {beginning or 'the first slash'}"] if lost or _is_absolute(path) else []
    if "\\" in path:
        differences.append("with slashes instead of backslashes")
    whole = "/".join(_parts(path)).removeprefix(f"{lost}/" if lost else "")
    if unicodedata.normalize("NFC", whole) == unicodedata.normalize("NFC", found):
        if whole != found:
            differences.append("with accents in another Unicode form")
    elif _key(whole) == _key(found):
        differences.append("in other letter case")
    elif "%" in whole and _key(unquote(whole)) == _key(found):
        differences.append("without percent-encoding")
    elif (number := _number(_stem(whole))) and number == _number(_stem(found)) and _stem(whole) != _stem(found):
        differences.append("with other leading zeros")
    else:
        differences.append("with another suffix")
    return " and ".join(differences) or "without ./ and doubled slashes"


def _parts(path: str) -> list[str]:
    r"""Return the parts of a path with `/` or `\`; none if it leads upwards, or is a URI of a bucket."""
    path = parse_file_uri(path) or path
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return [] if ".." in parts or "://" in path else parts


def _is_absolute(path: str) -> bool:
    return path.startswith(("/", "\\")) or parse_file_uri(path) is not None or path[1:3] in (":\\", ":/")


def _stem(path: str) -> str:
    return os.path.splitext(path.rpartition("/")[2])[0]


def _number(stem: str) -> str | None:
    """Return the name of a file as a number without leading zeros, which tables lose; None if it is no number."""
    return str(int(stem)) if stem.isascii() and stem.isdecimal() and len(stem) <= _MOST_DIGITS else None


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
