"""Values of the columns `split` and `fold`, as people write them, in the form that a catalog has."""

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

MOST_FOLDS = 20
SPLITS = ("train", "validation", "test")
_SPELLINGS = {
    "train": ("train", "training", "tr", "trn", "learn", "learning"),
    "validation": ("validation", "valid", "val", "va", "vali", "dev", "devel", "development", "validate", "tune"),
    "test": ("test", "testing", "te", "tst", "eval", "evaluation", "evaluate", "heldout", "holdout"),
}
_SPLIT_OF = {spelling: split for split, spellings in _SPELLINGS.items() for spelling in spellings}
_NOTHING = frozenset({"", "nan", "none", "null", "n/a", "na", "-"})
_FOLD = re.compile(r"(?:(?:cv|k)?[ _-]?(?:fold|split)[ _-]?)?(\d{1,4})(?:[.,]0*)?", re.IGNORECASE)


def read_splits(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return the splits of a column, and which values are none.

    Args:
        texts: Stripped text, string [rows].

    Returns:
        `train`, `validation` or `test`, string [rows]; null for an empty value and for one that is no split. And
        bool [rows], whether the value is no split.
    """
    return _by_value(texts, _split_of, pa.string())


def read_folds(texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return the folds of a column as they are numbered there, and which values are none.

    Args:
        texts: Stripped text, string [rows], such as `3`, `3.0` or `fold3`.

    Returns:
        int32 [rows], null for an empty value and for one that is no fold; and bool [rows], whether it is no fold.
    """
    return _by_value(texts, _fold_of, pa.int32())


def spelled_splits() -> str:
    """Return the usual spellings of each split, for a message."""
    return ", ".join(f"{split} ({', '.join(_SPELLINGS[split][1:5])})" for split in SPLITS)


def _by_value(
    texts: pa.Array, parse: Callable[[str], tuple[Any, bool]], kind: pa.DataType
) -> tuple[pa.Array, pa.Array]:
    """Parse each different value once."""
    encoded = pc.dictionary_encode(texts)
    parsed = [parse(text) for text in encoded.dictionary.to_pylist()]
    values = pa.array([value if ok else None for value, ok in parsed], kind)
    wrong = pa.array([not ok for _, ok in parsed], pa.bool_())
    return values.take(encoded.indices), wrong.take(encoded.indices)


def _split_of(text: str) -> tuple[str | None, bool]:
    if text.casefold() in _NOTHING:
        return None, True
    split = _SPLIT_OF.get(re.sub(r"[ _-]|(set|split)$", "", text.casefold()))
    return split, split is not None


def _fold_of(text: str) -> tuple[int | None, bool]:
    if text.casefold() in _NOTHING:
        return None, True
    match = _FOLD.fullmatch(text)
    return (int(match[1]), True) if match and int(match[1]) <= MOST_FOLDS else (None, False)
