"""Read tables of separated values: the delimiter, the rows of the header, and records with their line numbers.

Python's parser is used instead of Arrow's, which knows neither the line of a record with line breaks in quotes nor
records longer than its blocks.
"""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from featurize.collection.column_roles import roles_in
from featurize.collection.table_limits import MOST_COLUMNS, MOST_LINE_CHARACTERS, TableError
from featurize.collection.table_text import TableText

_DELIMITERS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 30, 1 << 20
_LINES_SHOWN = 5
_DECLARED = re.compile(r'"?sep=([,;\t|])"?')  # a first line that Excel writes
SPREAD = "TAGS"  # a last column whose values are in as many columns as there are (MTG-Jamendo)


class CsvTable:
    """Records of a text file with one of the usual delimiters.

    Attributes:
        names: Names of the columns. Those of a header of three rows, as pandas writes for two levels of columns
            with a named index, are joined with a dot: `track.genre_top`.
        remark: Delimiter, if it is another one than the suffix promises; else empty.
    """

    def __init__(self, text: TableText, usual: str) -> None:
        """Read the header.

        Args:
            text: Text of the file.
            usual: Delimiter that files of this suffix have.

        Raises:
            TableError: The header cannot be parsed.
        """
        self._text = text
        sample = _sample(text)
        declared = _DECLARED.fullmatch(sample[0].strip()) if sample else None
        skipped = 1 if declared else 0
        sample = sample[skipped:]
        self._delimiter = declared[1] if declared else _detect_delimiter(sample, usual)
        self.remark = "" if self._delimiter == usual else f"delimiter {_DELIMITERS[self._delimiter]}"
        with _long_fields():
            self._skips_blanks = _has_quotes_after_blanks(sample, self._delimiter)
            first = list(itertools.islice(_records(sample, self._delimiter, self._skips_blanks), 3))
        if not first or not any(first[0]):
            raise TableError("its first line is empty. Expected the names of columns")
        has_two_levels = _has_two_levels(first)
        self._header_rows = skipped + (3 if has_two_levels else 1)
        self.names = _joined(first) if has_two_levels else [name.strip() for name in first[0]]
        self._spread = self._delimiter == "\t" and self.names[-1].upper() == SPREAD

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line on which each record begins, and one value for each column.

        Raises:
            TableError: A record cannot be parsed, or has another number of columns than the header.
        """
        width, line = len(self.names), 1
        ragged: list[tuple[int, int]] = []
        with _long_fields():
            reader = _records(self._text.lines(), self._delimiter, self._skips_blanks, strict=True)
            try:
                for _ in range(self._header_rows):
                    next(reader, None)
                line = reader.line_num + 1
                for row in reader:
                    if len(row) == width:
                        yield line, row
                    elif any(cell.strip() for cell in row):
                        if self._spread and len(row) > width:
                            yield line, [*row[: width - 1], "\t".join(row[width - 1 :])]
                        elif len(row) > width and not any(cell.strip() for cell in row[width:]):
                            yield line, row[:width]  # delimiters at the end of the line
                        else:
                            ragged.append((line, len(row)))
                    line = reader.line_num + 1
            except csv.Error as error:
                advice = ": a quotation mark has no end" if "end of data" in str(error) else ""
                if "expected after" in str(error):
                    advice = ". Double the quotation marks that are part of a value, and put it in quotation marks"
                raise TableError(f"line {line}: {error}{advice}") from error
        if ragged:
            shown = ", ".join(f"line {line} has {count}" for line, count in ragged[:_LINES_SHOWN])
            raise TableError(
                f"{len(ragged)} rows have another number of columns than the header, which has {width}: {shown}"
                f"{', ...' if len(ragged) > _LINES_SHOWN else ''}. Values with the delimiter "
                f"{_DELIMITERS[self._delimiter]} need quotation marks"
            )


def _records(lines: Iterable[str], delimiter: str, skips_blanks: bool, strict: bool = False) -> Any:
    """Return a parser of lines.

    Args:
        lines: Lines of the table.
        delimiter: Its delimiter.
        skips_blanks: Whether a quotation mark after blanks begins a value, see `_has_quotes_after_blanks`.
        strict: Whether a wrong quotation mark is an error.
    """
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=skips_blanks, strict=strict)


def _has_quotes_after_blanks(sample: Sequence[str], delimiter: str) -> bool:
    """Return whether quotation marks after blanks are around values: `path, "label"`, not `path, "Al" Green`."""
    begin = re.compile(rf'(^|{re.escape(delimiter)}) +"')
    if not any(begin.search(line) for line in sample):
        return False
    reader = _records(sample, delimiter, skips_blanks=True, strict=True)
    try:
        for _ in reader:
            pass
    except csv.Error:
        return bool(reader.line_num == len(sample))  # a value may be longer than the sample
    return True


def _sample(text: TableText) -> list[str]:
    """Return the first lines."""
    lines, size = [], 0
    for line in itertools.islice(text.lines(), _SAMPLE_LINES):
        lines.append(line)
        size += len(line)
        if size > _SAMPLE_CHARACTERS:
            break
    return lines


def _detect_delimiter(sample: Sequence[str], usual: str) -> str:
    """Return the delimiter by which the header has most names of roles, then by which most rows are as wide."""
    best, delimiter = (0, 0.0, 1), usual
    for candidate in (usual, *(other for other in _DELIMITERS if other != usual)):
        with _long_fields():
            skips_blanks = _has_quotes_after_blanks(sample, candidate)
            rows = [row for row in _records(sample, candidate, skips_blanks) if row]
        if not rows or not 2 <= len(rows[0]) <= MOST_COLUMNS:
            continue
        width = len(rows[0])
        score = (roles_in(rows[0]), sum(len(row) == width for row in rows) / len(rows), width)
        if score > best:
            best, delimiter = score, candidate
    return delimiter


def _has_two_levels(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first rows are two levels of names, and a third one with nothing but the index's name."""
    if len(rows) < 3 or len(rows[2]) < 2 or len({len(row) for row in rows}) > 1:
        return False
    return bool(rows[2][0].strip()) and not any(cell.strip() for cell in (rows[0][0], rows[1][0], *rows[2][1:]))


def _joined(rows: Sequence[Sequence[str]]) -> list[str]:
    upper, names = "", [rows[2][0].strip()]
    for above, below in zip(rows[0][1:], rows[1][1:], strict=True):
        upper = above.strip() or upper
        names.append(f"{upper}.{below.strip()}")
    return names


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let fields be as long as a line may be; the limit is one for the whole process."""
    before = csv.field_size_limit(MOST_LINE_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)
