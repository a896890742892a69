"""HTML page of a comparison: the table, and the training curves of all runs in one plot."""

import os
from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurize.display import one_line
from featurize.storage import StoragePath
from featurize.version import VERSION
from train.report.comparison import Entry, Row
from train.report.figures import Picture, Theme, draw
from train.report.html import environment
from train.report.paired import Paired

_STYLES = {"train": ":", "validation": "-", "test": "--"}


def render_comparison(
    entries: Sequence[Entry],
    rows: Sequence[Row],
    pairs: Sequence[Paired],
    remarks: Sequence[str],
    folder: StoragePath,
) -> str:
    """Render a comparison as HTML.

    Args:
        entries: Entries from `train.report.comparison.read_entries`.
        rows: Rows from `train.report.comparison.table_of`.
        pairs: Paired comparisons from `train.report.paired.compare_with_first`.
        remarks: Sentences on how to read the comparison.
        folder: Folder of the page, which links to reports are relative to.

    Returns:
        A self-contained HTML page. Names of folders are escaped.
    """
    curves = [
        (title, _curves(entries, figure))
        for figure, title in (("accuracy", "Accuracy of segments"), ("loss", "Loss of segments"))
    ]
    return (
        environment()
        .get_template("compare.html.j2")
        .render(
            entries=entries,
            names=[one_line(entry.name) for entry in entries],
            rows=rows,
            remarks=remarks,
            pairs=pairs,
            reports=[_reports(entry, folder) for entry in entries],
            curves=curves,
            version=VERSION,
        )
    )


def _reports(entry: Entry, folder: StoragePath) -> list[tuple[str, str]]:
    """Return a name and a URL relative to the page for each report of an entry that is on this machine."""
    links = []
    for run, metrics in zip(entry.runs, entry.metrics, strict=True):
        if run.report.local and folder.local and run.report.is_file():
            name = "report" if len(entry.runs) == 1 else f"fold {metrics.test_fold}"
            links.append((name, quote(os.fsencode(os.path.relpath(run.report.path, folder.path)))))
    return links


def _curves(entries: Sequence[Entry], figure_name: str) -> Picture:
    """Plot a figure over the epochs: a color for each entry, a line style for each part of the split.

    A cross-validation is plotted as the mean over its folds; the band is one standard deviation of its validation
    folds.
    """

    def figure(theme: Theme) -> Figure:
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for index, entry in enumerate(entries):
            color = theme.lines[index % len(theme.lines)]
            for part in _STYLES:
                epochs, values = _values(entry, part, figure_name)
                if not epochs:
                    continue
                mean = values.mean(axis=0)
                axes.plot(epochs, mean, _STYLES[part], color=color, label=f"{index + 1} {part}")
                if part == "validation" and len(values) > 1:
                    deviation = values.std(axis=0)
                    axes.fill_between(epochs, mean - deviation, mean + deviation, color=color, alpha=0.15, lw=0)
        axes.set(xlabel="epoch", ylabel=figure_name)
        axes.locator_params(axis="x", integer=True)
        axes.legend(ncols=min(len(entries), 4), fontsize="small")
        return figure

    return draw(figure)


def _values(entry: Entry, part: str, figure_name: str) -> tuple[list[int], NDArray[np.float64]]:
    """Return the epochs after which all runs of an entry have a figure, and its values, float64 [runs, epochs]."""
    by_epoch = [
        {epoch.epoch: getattr(epoch.parts[part], figure_name) for epoch in history if part in epoch.parts}
        for history in entry.histories
    ]
    epochs = sorted(set.intersection(*map(set, by_epoch)))
    return epochs, np.array([[values[epoch] for epoch in epochs] for values in by_epoch])
