"""A confusion matrix as an image, for TensorBoard."""

from collections.abc import Sequence

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurize.display import one_line

_MOST_NAMES, _MOST_NUMBERS = 60, 25  # classes; with more, names or counts would overlap
_LONGEST_NAME = 20
_SMALLEST_FONT, _LARGEST_FONT = (
    8,
    16,
)  # points; TensorBoard shows the 600 pixels at little more than half their size


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Draw a confusion matrix: a row for each actual class, shaded by its share of the row.

    Args:
        confusion: Counts: [actual class][predicted class].
        classes: Class names.

    Returns:
        uint8 [height, width, 3], an RGB image.
    """
    counts = np.array(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # A file `matplotlibrc` in the working directory, which may be anyone's, could call LaTeX.
    font = min(_LARGEST_FONT, max(_SMALLEST_FONT, 24 - len(classes)))
    with matplotlib.style.context(["default", {"text.parse_math": False, "font.size": font}]):
        figure = Figure(figsize=(6, 6), dpi=100, layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xlabel="predicted", ylabel="actual")
        names = [_shortened(name) for name in classes] if len(classes) <= _MOST_NAMES else []
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        if len(classes) <= _MOST_NUMBERS:
            for actual, predicted in np.argwhere(counts):
                color = "white" if shares[actual, predicted] > 0.5 else "black"
                count = str(counts[actual, predicted])
                axes.text(predicted, actual, count, ha="center", va="center", color=color)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _shortened(name: str) -> str:
    shown = one_line(name)
    return shown if len(shown) <= _LONGEST_NAME else shown[: _LONGEST_NAME - 1] + "…"
