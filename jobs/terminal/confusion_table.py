"""The confusion matrix of a cross-validation in a terminal: whatever its width, no number is cut off."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from featurize.display import one_line

_UNLIMITED = 1_000_000
_TITLE = "columns: the predicted class"


def confusion_table(
    classes: Sequence[str], counts: Sequence[Sequence[int]], corner: str, console: Console
) -> list[RenderableType]:
    """Return what to print: a table with numbers as its headers if it fits, else without names, else a list.

    Args:
        classes: Class names.
        counts: Counts, [actual][predicted].
        corner: Header of the actual classes.
        console: Where it is printed.
    """
    numbers = [str(number) for number in range(1, len(classes) + 1)]
    named = [f"{number} {one_line(name)}" for number, name in zip(numbers, classes, strict=True)]
    full = _fill(Table(corner, title=_TITLE), numbers, named, counts)
    if _width(full, console) <= console.width:
        return [full]
    bare = Table("", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    bare = _fill(bare, numbers, numbers, counts)
    if _width(bare, console) <= console.width:
        names = Text("\n".join(named), overflow="fold")
        return [Text(f"rows: {corner}; {_TITLE}"), bare, names]
    lines = [f"{corner}: correct tracks, and the predicted classes of the others"]
    for actual, (name, row) in enumerate(zip(named, counts, strict=True)):
        others = sorted((-count, number) for number, count in enumerate(row) if count and number != actual)
        found = [f"{row[actual]} of {sum(row)}", *(f"{-count} as {numbers[number]}" for count, number in others)]
        lines.append(f"{name}: {', '.join(found)}")
    return [Text("\n".join(lines), overflow="fold")]


def _width(table: Table, console: Console) -> int:
    """Return the columns that a table takes where nothing limits it."""
    return Measurement.get(console, console.options.update(max_width=_UNLIMITED), table).maximum


def _fill(table: Table, numbers: Sequence[str], rows: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    for name, row in zip(rows, counts, strict=True):
        table.add_row(Text(name), *map(str, row))
    return table
