"""The page that shows runs side by side, with their curves over one another."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from featurize.version import VERSION
from train.compare import Entry, Row, remarks_on
from train.page import environment
from train.pictures import Picture, Theme, draw

_STYLES = {"train": ":", "validation": "--", "test": "-"}


def render_comparison(entries: Sequence[Entry], rows: Sequence[Row]) -> str:
    """Draw the comparison of some runs.

    Args:
        entries: from `train.compare.read_entries`.
        rows: from `train.compare.table_of`.

    Returns:
        a whole HTML page, which needs nothing else. Names of folders are escaped.
    """
    curves = [
        (words, _curves(entries, figure))
        for figure, words in (("accuracy", "Accuracy of segments"), ("loss", "Loss of segments"))
    ]
    return (
        environment()
        .get_template("compare.html.j2")
        .render(entries=entries, rows=rows, remarks=remarks_on(entries), curves=curves, version=VERSION)
    )


def _curves(entries: Sequence[Entry], figure_name: str) -> Picture:
    """Draw a figure over the epochs: a colour for each entry, a kind of line for each part."""

    def figure(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, entry in enumerate(entries):
            for run, history in enumerate(entry.histories):
                for part in (part for part in _STYLES if part in history[0]):
                    axes.plot(
                        [epoch["epoch"] for epoch in history],
                        [epoch[part][figure_name] for epoch in history],
                        _STYLES[part],
                        color=theme.lines[index % len(theme.lines)],
                        alpha=1 if len(entry.histories) == 1 else 0.5,
                        label=f"{index + 1} {part}" if run == 0 else None,
                    )
        axes.set(xlabel="epoch", ylabel=figure_name)
        axes.locator_params(axis="x", integer=True)
        axes.legend(ncols=min(len(entries), 4), fontsize="small")
        return figure

    return draw(figure)
