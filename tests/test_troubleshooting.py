"""The page of error messages is held to the code: what it quotes is said, every reason for a reject is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "troubleshooting.md"
VALUE = "\0"  # in the place of what is put into a message
TREES = [
    ast.parse(path.read_text())
    for package in ("featurize", "train", "jobs")
    for path in (ROOT / package).rglob("*.py")
]


def text_of(node: ast.AST) -> str | None:
    """The constant parts of an expression that makes a string; None where it is no such expression."""
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


def said(node: ast.AST) -> Iterator[str]:
    """Every string below a node that is no docstring, with one space for each stretch of white space."""
    if text := text_of(node):
        yield " ".join(re.sub(r"%(\.\d+)?[sdfgr]", VALUE, text).split())  # as logging's arguments are put in
    for child in ast.iter_child_nodes(node):
        if not is_docstring(child):
            yield from said(child)


MESSAGES = [text for tree in TREES for text in said(tree)]


def rows() -> list[list[str]]:
    """The cells of every row of every table, headings left out."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


QUOTED = [row[0].strip("` ") for row in rows() if len(row) == 3]


def is_said(quoted: str) -> bool:
    """Whether some message of the code has the quoted parts, in their order and with values between them."""
    parts = [re.escape(part) for part in re.split(r" ?\.\.\. ?", quoted) if part]
    pattern = re.compile(f".*{VALUE}.*".join(parts))
    return any(pattern.search(message) for message in MESSAGES)


def test_the_page_has_the_messages_that_matter():
    assert len(QUOTED) == len(set(QUOTED)) >= 60
    assert not is_said("tracks were rejected, more of them than ...")


@pytest.mark.parametrize("quoted", QUOTED)
def test_what_the_page_quotes_is_said_by_the_code(quoted):
    assert is_said(quoted)


def test_every_reason_for_a_reject_is_on_the_page_and_no_other():
    calls = [node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Call)]
    rejects = [call.args for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Reject"]
    given = {
        (stage.value, reason.value)
        for stage, reason, _ in rejects
        if isinstance(stage, ast.Constant) and isinstance(reason, ast.Constant)
    }
    assert len(given) > 5
    assert {(row[0].strip("` "), row[1].strip("`")) for row in rows() if len(row) == 4} == given


def test_the_settings_that_the_page_names_are_there():
    from jobs.config import JobConfig

    known = {
        f"{section}.{key}"
        for section, field in JobConfig.model_fields.items()
        for key in field.annotation.model_fields
    }
    assert set(re.findall(r"\b(?:train|featurize)\.[a-z_]+\b(?!:)", PAGE.read_text())) <= known
