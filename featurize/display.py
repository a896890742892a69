r"""Text from outside as it is shown: names, labels and messages on a terminal, in JSON and in spreadsheets.

A file name or a label may hold escape sequences, newlines or bidirectional overrides, with which a terminal
changes its title, fills the clipboard or shows lines that nobody wrote. They are shown as visible escapes, such as
`\x1b`.
"""

import re
import shlex

# Control characters, lone surrogates, separators of lines, and characters that are invisible or change the
# direction of text. Joiners are left out: emoji and Persian need them.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_HIDDEN_IN_LINES = re.compile(rf"(?!\n){_HIDDEN.pattern}")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_FILE_NAME_BYTES = range(0xDC80, 0xDD00)  # surrogates that stand for the bytes of a name that is not UTF-8

_COLORS = re.compile("\x1b\\[[0-9;]*m")

# What makes a spreadsheet compute a cell, also in full width, and behind blanks.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def one_line(text: object) -> str:
    """Return a name or a value with visible escapes, newlines included, so that it stays in its row."""
    return _HIDDEN.sub(lambda match: _escape(match[0]), str(text))


def shell_word(text: str) -> str:
    """Return a path or a value as it is typed in a POSIX shell: quoted where needed, and in one line."""
    if _HIDDEN.search(text):
        escaped = text.replace("\\", "\\\\").replace("'", "\\'")
        return f"$'{one_line(escaped)}'"
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def visible(text: object) -> str:
    """Return a whole message with visible escapes; its newlines stay."""
    return _HIDDEN_IN_LINES.sub(lambda match: _escape(match[0]), str(text))


def without_colors(text: str) -> str:
    """Return text without the escape sequences that only set colors."""
    return _COLORS.sub("", text)


def visible_json(text: str) -> str:
    """Return JSON with the same values and visible escapes; its newlines stay."""
    return _HIDDEN_IN_LINES.sub(lambda match: escape_json(match[0]), text)


def csv_cell(value: str) -> str:
    r"""Return the text of a cell that a spreadsheet shows and does not compute.

    A cell that begins like a formula gets an apostrophe in front; numbers stay numbers. Control characters become
    visible escapes, as on a terminal.
    """
    is_formula = _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"{chr(39) if is_formula else ''}{one_line(value)}"


def _escape(character: str) -> str:
    code = ord(character)
    if code in _FILE_NAME_BYTES:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return _SHORT.get(character, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape_json(text: str) -> str:
    r"""Return text as escapes of JSON, such as `\u00e9`; two of them for a character beyond 16 bits."""
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
