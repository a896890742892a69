"""Text, tables and code blocks in Markdown."""

import re
from collections.abc import Sequence

from featurize.display import one_line


def escape(text: object) -> str:
    """Return text that Markdown and HTML show as it is, in a paragraph or a cell of a table."""
    visible = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|~$!@:.^=+-])", r"\\\1", visible) if visible.strip() else "(no name)"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; the cells are escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def fenced(text: str, language: str) -> str:
    """Return a code block, whose fence is longer than any run of backticks in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"
