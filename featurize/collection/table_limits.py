"""Limits on what a table may hold, and the error that names what is wrong with one."""

MOST_ROWS = 20_000_000
MOST_COLUMNS = 10_000
MOST_CELL_BYTES = 8192
MOST_COLUMN_BYTES = (2 << 30) - 1  # as text
MOST_LINE_CHARACTERS = 16 << 20
MOST_TEXT_BYTES = 8 << 30  # decompressed
BLOCK_BYTES = 1 << 20
DIVIDE = "Divide the table into several collections, or leave out what is no track."


class TableError(ValueError):
    """What is wrong with a table, in words that continue `FILE cannot be read as a ... table:`."""


def not_plain(name: str, found: str) -> TableError:
    """Return the error about a column that holds lists, objects or bytes."""
    return TableError(
        f"the column {name} does not hold plain text or numbers: {found}. Write one text in each row, or "
        "name another column, such as --columns label=NAME"
    )
