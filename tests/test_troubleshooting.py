"""docs/troubleshooting.md agrees with the code: its messages exist, and it lists every reason for a reject."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
VALUE = "\0"  # stands for each value in a message
TREES = [
    ast.parse(path.read_text())
    for package in ("featurize", "train", "jobs")
    for path in (ROOT / package).rglob("*.py")
]


def text_of(node: ast.AST) -> str | None:
    """Return the constant text of a string expression, with VALUE for other parts; None if it is not a string."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or VALUE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = [text_of(node.left), text_of(node.right)]
        return None if parts == [None, None] else "".join(part or VALUE for part in parts)
    return None


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def messages_in(node: ast.AST) -> Iterator[str]:
    """Yield every string below a node except docstrings, with single spaces."""
    if text := text_of(node):
        yield " ".join(re.sub(r"%(\.\d+)?[sdfgr]", VALUE, text).split())  # arguments of logging
    for child in ast.iter_child_nodes(node):
        if not is_docstring(child):
            yield from messages_in(child)


MESSAGES = [text for tree in TREES for text in messages_in(tree)]


def rows() -> list[list[str]]:
    """Return the cells of all table rows, without headings."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


QUOTED = [row[0].strip("` ") for row in rows() if len(row) == 3]


def is_in_code(quoted: str) -> bool:
    """Return whether a message in the code has the quoted parts in this order, with values between them."""
    parts = [re.escape(part) for part in re.split(r" ?\.\.\. ?", quoted) if part]
    pattern = re.compile(f".*{VALUE}.*".join(parts))
    return any(pattern.search(message) for message in MESSAGES)


def test_the_page_has_many_messages():
    assert len(QUOTED) == len(set(QUOTED)) >= 60
    assert not is_in_code("tracks were rejected, more of them than ...")


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_quoted_message_is_in_the_code(quoted):
    assert is_in_code(quoted)


def test_the_page_lists_exactly_the_reasons_for_rejects():
    calls = [node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Call)]
    rejects = [call.args for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Reject"]
    reasons = {
        (stage.value, reason.value)
        for stage, reason, _ in rejects
        if isinstance(stage, ast.Constant) and isinstance(reason, ast.Constant)
    }
    assert len(reasons) > 5
    assert {(row[0].strip("` "), row[1].strip("`")) for row in rows() if len(row) == 4} == reasons


def test_every_setting_on_the_page_exists():
    from jobs.config import JobConfig

    known = {
        f"{section}.{key}"
        for section, field in JobConfig.model_fields.items()
        for key in field.annotation.model_fields
    }
    assert set(re.findall(r"\b(?:train|featurize)\.[a-z_]+\b(?!:)", PAGE.read_text())) <= known
