"""Log names of classes that are hardly meant: spellings of one class, several labels in one, values like NaN."""

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

_MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "nil", "undefined", "<na>", "nat"})

# What separates the labels in a cell of a table: `rock|pop`, `rock; pop`, `['rock', 'pop']`.
_SEPARATORS = re.compile(r"[|;,/]")
_LIST = re.compile(r"\[\s*(['\"\d].*)?\]", re.DOTALL)
_AROUND = " []\"'"
# Folders that divide the files of a collection: folds, and the parts of a download, or of a medium.
_PART = re.compile(r"(fold|cv|split|part|chunk|shard|batch|cd|dis[ck]|vol(ume)?)[ _-]?\d+|\d{1,3}")
_SHORT = re.compile(r"[0-9a-f]{1,2}|[a-z]")
_MANY = 8  # folders of one or two characters; fewer may be classes
_SHOWN = 5

_log = logging.getLogger(__name__)


def log_doubtful_classes(counts: Mapping[str, int]) -> None:
    """Log classes that differ only in spelling, and classes that are named like a missing value.

    Args:
        counts: Number of tracks of each class.
    """
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        spellings[_plain(name)].append(name)
    same = [names for names in spellings.values() if len(names) > 1]
    if same:
        named = "; ".join(", ".join(f"{_visible(name)}: {counts[name]}" for name in names) for names in same)
        _log.warning(
            "Some classes differ only in case, accents, spaces or hyphens, and are different classes (%s); if "
            "they are one class, give them one name.",
            named,
        )
    several = _several_labels(list(counts))
    if several:
        _log.warning(
            "%d classes look like several labels in one (%s); each combination is a separate class. Leave one "
            "label in each cell, or name another column: --columns label=NAME.",
            len(several),
            _listed(several),
        )
    missing = [name for name in sorted(counts) if _plain(name) in _MISSING]
    if missing:
        _log.warning(
            "The classes %s are named like a missing value; if it is one, remove these tracks or label them.",
            ", ".join(f"{name!r} ({counts[name]} tracks)" for name in missing),
        )


def log_parts(folders: Collection[str]) -> None:
    """Log class folders that are all named like parts of a collection: `fold1`, `CD 2`, `00`, `a` to `z`."""
    names = sorted(folders)
    plain = [_plain(name) for name in names]
    are_short = len(names) >= _MANY and all(_SHORT.fullmatch(name) for name in plain)
    if len(names) > 1 and (are_short or all(_PART.fullmatch(name) for name in plain)):
        _log.warning(
            "The class folders (%s) are named like parts of a collection. If they are not the classes, give a "
            "table of paths and labels.",
            _listed(names),
        )


def _several_labels(names: Sequence[str]) -> list[str]:
    """Return the classes that are lists of labels which are classes themselves, or are in several such lists."""
    parts = {name: split for name in names if len(split := _labels_in(name)) > 1 or _LIST.fullmatch(name)}
    uses = Counter(part for labels in parts.values() for part in set(labels))
    known = {_plain(name) for name in names} | {part for part, count in uses.items() if count > 1}
    return sorted(name for name, labels in parts.items() if _LIST.fullmatch(name) or known.issuperset(labels))


def _labels_in(name: str) -> list[str]:
    """Return the labels in a name of a class, in the form in which classes are compared."""
    return [_plain(part.strip(_AROUND)) for part in _SEPARATORS.split(name) if part.strip(_AROUND)]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(_visible(name) for name in names[:_SHOWN]) + more


def _plain(name: str) -> str:
    """Return a name in lowercase, without accents and invisible characters; `-`, `_`, spaces become one space."""
    letters = unicodedata.normalize("NFD", name.casefold())
    unaccented = "".join(
        letter for letter in letters if not unicodedata.combining(letter) and not _is_invisible(letter)
    )
    return re.sub(r"[\s_-]+", " ", unaccented).strip()


def _visible(name: str) -> str:
    """Return a name in quotation marks; with escapes if it is not NFC or has invisible characters."""
    plain = unicodedata.is_normalized("NFC", name) and not any(map(_is_invisible, name))
    return repr(name) if plain else ascii(name)


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) == "Cf"
