"""Log names of classes that are hardly meant: two spellings of one class, and values like NaN."""

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping

_MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "nil", "undefined", "<na>", "nat"})

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
    missing = [name for name in sorted(counts) if _plain(name) in _MISSING]
    if missing:
        _log.warning(
            "The classes %s are named like a missing value; if it is one, remove these tracks or label them.",
            ", ".join(f"{name!r} ({counts[name]} tracks)" for name in missing),
        )


def _plain(name: str) -> str:
    """Return a name in lowercase and without accents; spaces, hyphens and underscores become single spaces."""
    letters = unicodedata.normalize("NFD", name.casefold())
    unaccented = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[\s_-]+", " ", unaccented).strip()


def _visible(name: str) -> str:
    """Return a name in quotation marks; with escapes if it is not NFC, and looks like another one."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)
