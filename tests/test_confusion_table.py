"""The confusion matrix in terminals of several widths."""

import io
import re

import pytest
from rich.console import Console

from jobs.terminal.confusion_table import confusion_table


def printed(classes, counts, width):
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, emoji=False)
    for part in confusion_table(classes, counts, "actual, all folds", console):
        console.print(part)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("count", [2, 9, 12])
@pytest.mark.parametrize("name", ["pop", "a class with a rather long name [b]x[/b]", "\u97f3\u697d" * 12])
def test_no_number_and_no_name_is_cut_off(count, width, name):
    classes = [f"{name} {number}" for number in range(count)]
    counts = [[1000 + 10 * i + j if i == j else (i * j) % 7 for j in range(count)] for i in range(count)]
    text = printed(classes, counts, width)
    assert "\u2026" not in text
    joined = re.sub(r"\s", "", text)
    for i in range(count):
        assert str(counts[i][i]) in text
        assert re.sub(r"\s", "", classes[i]) in joined
    assert max(map(len, text.splitlines())) <= width


def test_a_wide_table_of_nine_classes_has_its_names_below():
    classes = [f"a class with a rather long name {number}" for number in range(9)]
    text = printed(classes, [[17] * 9] * 9, 80)
    lines = text.splitlines()
    assert lines[0] == "rows: actual, all folds; columns: the predicted class"
    assert lines[-1] == "9 a class with a rather long name 8"
    assert [line.split() for line in lines if line.split()[:2] == ["3", "17"]] == [["3", *["17"] * 9]]


def test_what_fits_no_table_is_a_list_with_the_most_frequent_confusion_first():
    counts = [[5, 3, 4], [0, 9, 0], [1, 0, 8]]
    words = printed(["pop", "rock", "ska"], counts, 8).split()
    assert "1 pop: 5 of 12, 4 as 3, 3 as 2 2 rock: 9 of 9 3 ska: 8 of 9, 1 as 1" in " ".join(words)
