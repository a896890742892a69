"""Rows of JSON Lines, one object on each line, and their values as text."""

import json
from typing import Any

from featurize.collection.table_limits import TableError, not_plain

_EXPECTED = "Expected one JSON object on each line"


def json_row(line: str, number: int) -> dict[str, Any]:
    """Parse one line; numbers keep their text, so that a label 1980.10 is not 1980.1.

    Raises:
        TableError: It is not one object.
    """
    try:
        pairs = json.loads(
            line, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=lambda name: None
        )
    except json.JSONDecodeError as error:
        raise TableError(f"line {number}, character {error.colno}: {error.msg}. {_EXPECTED}") from error
    except (ValueError, RecursionError) as error:
        raise TableError(f"line {number}: {error}") from error
    if not isinstance(pairs, _Pairs):
        raise TableError(f"line {number} is not an object in braces. {_EXPECTED}")
    row: dict[str, Any] = {}
    for name, value in pairs:
        row[name.strip()] = _TWICE if name.strip() in row else value
    return row


class _Pairs(list[tuple[str, Any]]):
    """Names and values of a JSON object."""


_TWICE = object()  # the value of a name that an object has more than once


def json_text(value: Any, name: str, line: int) -> str | None:
    """Return a value of a row as text; a TableError for a list, an object, or a name that is there twice."""
    if value is _TWICE:
        raise TableError(f"line {line} has {name} more than once")
    if isinstance(value, list):
        raise not_plain(name, f"line {line} has {'an object' if isinstance(value, _Pairs) else 'a list'}")
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
