"""The page that shows a run: one HTML file that needs nothing else."""

import base64
import io
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurize.dataset import Dataset, read_row_group
from train.config import TrainConfig
from train.counts import FEW_TRACKS, small_classes
from train.run import Run

_REJECTS_SHOWN = 200
_STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "earmark"}


def render(run: Run, dataset: Dataset, config: TrainConfig, metrics: dict[str, Any]) -> str:
    """Draw the report of a run.

    Args:
        run: for its history and its settings.
        dataset: for the split, the rejects and one segment of each class.
        config: for what was held out.
        metrics: the content of `metrics.json`.

    Returns:
        a whole HTML page. Names of tracks, classes and groups are escaped.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("train", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    with matplotlib.rc_context(_STYLE):
        pictures = {
            "curves": _curves(run.history()),
            "segments": _confusion(metrics["segments"]["confusion"], metrics["classes"], "Segments"),
            "tracks": _confusion(metrics["tracks"]["confusion"], metrics["classes"], "Whole tracks"),
            "mfcc": _examples(dataset),
        }
    rejects = dataset.rejects()
    return environment.get_template("report.html.j2").render(
        metrics=metrics,
        pictures=pictures,
        counts=_count_table(dataset),
        small=small_classes(dataset),
        few=FEW_TRACKS,
        held_out={fold: part for part, fold in config.held_out.items()},
        info=dataset.info,
        rejects=rejects.slice(0, _REJECTS_SHOWN).to_pylist(),
        rejected=rejects.num_rows,
        history=run.history(),
        config=config,
        config_text=(run.folder / "config.yaml").read().decode(),
        version=version("earmark"),
        run=str(run.folder),
        features=dataset.folder,
    )


def _count_table(dataset: Dataset) -> list[dict[str, Any]]:
    """Return for each class its name and for each fold its counts, None where there is no track."""
    cells = {(entry["label"], entry["fold"]): entry for entry in dataset.info["counts"]}
    folds = sorted({fold for _, fold in cells})
    return [
        {"label": label, "folds": [(fold, cells.get((label, fold))) for fold in folds]}
        for label in dataset.classes
    ]


def _curves(history: Sequence[dict[str, Any]]) -> str:
    """Draw the loss and the accuracy of segments over the epochs, for each part."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    parts = [part for part in ("train", "validation", "test") if part in history[0]]
    epochs = [entry["epoch"] for entry in history]
    for axes, figure_name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for part in parts:
            values = [entry[part][figure_name] for entry in history]
            axes.plot(epochs, values, marker="." if len(epochs) < 30 else None, label=part)
        axes.set(xlabel="epoch", ylabel=f"{figure_name} of segments")
        axes.locator_params(axis="x", integer=True)
        axes.legend(frameon=False)
    return _picture(figure)


def _confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> str:
    """Draw a confusion matrix: a row for each true class, shaded by its share of the row."""
    matrix = np.asarray(counts)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.45 * len(classes)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    # A class called "$x$" is a name, not a formula.
    names = [name.replace("$", r"\$") for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="heard as", ylabel="is", title=title)
    return _picture(figure)


def _examples(dataset: Dataset) -> str:
    """Draw one segment of each class as an MFCC image."""
    segments = _first_of_each_class(dataset)
    columns = min(3, len(segments))
    rows = -(-len(segments) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.4 * rows), layout="constrained")
    seconds = dataset.info["settings"]["segment_samples"] / dataset.info["settings"]["sample_rate"]
    for axes, (label, mfcc) in zip(figure.subplots(rows, columns, squeeze=False).flat, segments, strict=False):
        # Coefficient 0 is the loudness, an order of magnitude above the others: the colours follow the rest.
        limit = float(np.percentile(np.abs(mfcc[1:]), 99))
        axes.imshow(
            mfcc,
            aspect="auto",
            origin="lower",
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            extent=(0, seconds, -0.5, len(mfcc) - 0.5),
        )
        axes.set(title=dataset.classes[label].replace("$", r"\$"), xlabel="s", ylabel="coefficient")
    for axes in list(figure.axes)[len(segments) :]:
        axes.remove()
    return _picture(figure)


def _first_of_each_class(dataset: Dataset) -> list[tuple[int, NDArray[np.float32]]]:
    """Return (class index, float32 [40, 217]) for the first stored segment of each class that has one."""
    found: dict[int, NDArray[np.float32]] = {}
    for shard in dataset.shards:
        for index in range(len(shard.row_groups)):
            mfcc, labels = read_row_group(shard, index)
            for label, row in zip(*np.unique(labels, return_index=True), strict=True):
                found.setdefault(int(label), mfcc[row].copy())
            if len(found) == len(dataset.classes):
                return sorted(found.items(), key=lambda item: item[0])
    return sorted(found.items(), key=lambda item: item[0])


def _picture(figure: Figure) -> str:
    """Return a figure as a data URI."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
