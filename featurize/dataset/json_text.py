"""Parse JSON from files that may be damaged or hostile: limits on size, nesting and numbers, no NaN or infinity.

The Parquet metadata and the JSON files of datasets and runs are parsed here, and validated by pydantic afterwards.
"""

import json
import math
import re
from typing import Any

import numpy as np

from featurize.storage import StoragePath

LARGEST_JSON = 32 << 20  # bytes; the metrics of a thousand classes take 20 MB
DEEPEST = 32  # levels of brackets; Earmark writes at most 6
_LONGEST_INTEGER = 20  # characters; 64 bits need 20 with the sign
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_OPENING, _CLOSING = (91, 123), (93, 125)  # [ { and ] }


def read_json(path: StoragePath, largest: int = LARGEST_JSON) -> Any:
    """Read a JSON file.

    Args:
        path: Path of the file.
        largest: Maximum size in bytes.

    Raises:
        OSError: The file cannot be read.
        ValueError: As from `parse_json`.
    """
    return parse_json(path.read_at_most(largest + 1), largest)


def parse_json(content: bytes | str, largest: int = LARGEST_JSON) -> Any:
    """Parse JSON.

    Args:
        content: UTF-8 text.
        largest: Maximum size in bytes.

    Raises:
        ValueError: The content is no JSON or exceeds a limit. The message continues a sentence that begins with
            the name of the file, as in "is not JSON: Expecting value".
    """
    content = content.encode() if isinstance(content, str) else content
    if len(content) > largest:
        raise ValueError(f"has more than {largest:,} bytes, the maximum for this file")
    if not content.strip():
        raise ValueError("is empty: an interrupted copy or a full disk leaves such a file")
    if (depth := _nesting(content)) > DEEPEST:
        raise ValueError(f"is nested {depth:,} deep, expected at most {DEEPEST} levels of brackets")
    try:
        text = content.decode("utf-8")
        return json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_refuse_constant)
    except _NumberError as error:
        raise ValueError(str(error)) from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error


class _NumberError(ValueError):
    """A number that is JSON, or what Python takes for it, but out of range."""


def _nesting(content: bytes) -> int:
    """Return the largest number of open brackets. Counted before parsing, which is recursive."""
    codes = np.frombuffer(_STRING.sub(b"", content), np.uint8)
    steps = np.isin(codes, _OPENING).astype(np.int8) - np.isin(codes, _CLOSING).astype(np.int8)
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise _NumberError(f"has an integer of {len(text):,} digits, expected at most {_LONGEST_INTEGER - 1}")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _NumberError(f"has the number {text[:30]}, which is too large")
    return value


def _refuse_constant(text: str) -> float:
    raise _NumberError(f"has the value {text}, expected a finite number")
