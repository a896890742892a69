"""The text of a table: its encoding, its decompression and its lines, with limits on both.

A file of a few kilobytes can decompress to terabytes, and a line can be as long as the file, so both are counted.
"""

import codecs
import gzip
import io
from collections.abc import Iterator
from typing import Any

from featurize.collection.table_limits import BLOCK_BYTES, MOST_LINE_CHARACTERS, MOST_TEXT_BYTES, TableError
from featurize.storage import StoragePath

_SAMPLE_BYTES = 4096  # for UTF-16 without a byte order mark
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SHOWN = {
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "cp1252": "Windows-1252",
}


class TableText:
    """The lines of a text file.

    Attributes:
        encoding: Name of the encoding, as Python knows it.
        remark: What was found about the encoding, if it is not UTF-8; else empty.
    """

    def __init__(self, file: Any, compressed: bool) -> None:
        """Detect the encoding, which may take reading the whole file.

        Args:
            file: A seekable binary file.
            compressed: Whether it is compressed with gzip.

        Raises:
            TableError: It is in no known encoding, or decompresses to too much.
        """
        self._file, self._compressed = file, compressed
        self.encoding, guessed = self._detect()
        shown = _SHOWN.get(self.encoding)
        self.remark = f"encoding {shown}{' (guessed)' if guessed else ''}" if shown else ""

    def lines(self) -> Iterator[str]:
        r"""Yield the lines with their ends (`\n`, `\r\n` or `\r`).

        Raises:
            TableError: A line is too long, contains NUL, or is not in the encoding of those before.
        """
        text = io.TextIOWrapper(io.BufferedReader(self._open()), encoding=self.encoding, newline="")
        number = 0
        while line := text.readline(MOST_LINE_CHARACTERS):
            number += 1
            if len(line) == MOST_LINE_CHARACTERS:
                raise TableError(f"line {number} is longer than {MOST_LINE_CHARACTERS:,} characters")
            if "\0" in line:
                raise TableError(
                    f"line {number} has the character NUL, as the end of a file that was not written completely. "
                    "Remove the line, or save the table again"
                )
            yield line

    def _open(self) -> "_Blocks":
        self._file.seek(0)
        return _Blocks(gzip.GzipFile(fileobj=self._file) if self._compressed else self._file)

    def _detect(self) -> tuple[str, bool]:
        """Return the encoding, and whether it is a guess."""
        blocks = self._open()
        beginning = blocks.read(_SAMPLE_BYTES) or b""
        for mark, encoding in _MARKS:
            if beginning.startswith(mark):
                return encoding, False
        zeros = [beginning[start::2].count(0) / max(len(beginning) // 2, 1) for start in (0, 1)]
        if max(zeros) > 0.3 and min(zeros) < 0.05:
            return ("utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"), True
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(beginning)
            while block := blocks.read(BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            return self._not_utf8(error)
        return "utf-8", False

    def _not_utf8(self, error: UnicodeDecodeError) -> tuple[str, bool]:
        blocks, decoder = self._open(), codecs.getincrementaldecoder("cp1252")()
        try:
            while block := blocks.read(BLOCK_BYTES):
                decoder.decode(block)
        except UnicodeDecodeError:
            raise TableError(
                f"it is text neither in UTF-8 ({error.reason}) nor in Windows-1252. Save it as UTF-8"
            ) from error
        return "cp1252", True


def detect_text(path: StoragePath, file: Any) -> TableText:
    """Return the text of an open file, decompressed if its name ends with `.gz`."""
    return TableText(file, path.suffix == ".gz")


class _Blocks(io.RawIOBase):
    """A file that is left open when this one is closed, and that has an end."""

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, MOST_TEXT_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._file.read(len(buffer))
        self._left -= len(block)
        if self._left < 0:
            raise TableError(f"it has more than {MOST_TEXT_BYTES:,} bytes of text")
        buffer[: len(block)] = block
        return len(block)
