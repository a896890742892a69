"""Plots for the HTML pages, each drawn in a light and in a dark theme."""

import base64
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito, "Color Universal Design", 2008: distinguishable with any type of color vision. Their black, which
# would be invisible on a dark page, is replaced by a gray.
OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#8f979e")

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "earmark",
    "text.parse_math": False,  # a class called "$x$" is a name, not a formula
}
_COLOR_LEVELS = 48  # of an MFCC image; looks like the full color map, in two thirds of the bytes
_COLOR_PERCENTILE = 96  # of the absolute values; larger values, mostly of the lowest coefficients, saturate


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colors of plots on a light or on a dark page.

    Attributes:
        ink: Color of text and axes.
        lines: Colors of curves.
        diverging: Color map for values around 0; its center is close to the background of the page.
    """

    ink: str
    lines: Sequence[str]
    diverging: str


LIGHT = Theme("#4a545e", OKABE_ITO, "RdBu_r")
DARK = Theme("#aab4be", ("#4da3dc", *OKABE_ITO[1:]), "berlin")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A plot as two data URIs, for a light and for a dark page."""

    light: str
    dark: str


def draw(figure: Callable[[Theme], Figure]) -> Picture:
    """Draw a figure in both themes, as SVG with a transparent background."""
    return Picture(*(_data_uri(figure, theme) for theme in (LIGHT, DARK)))


def draw_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], label: str, mark: int | None = None
) -> Picture:
    """Plot curves over the epochs.

    Args:
        curves: Name to epochs and values.
        label: Label of the y-axis.
        mark: Epoch to mark with a dotted vertical line; None for no mark.
    """

    def figure(theme: Theme) -> Figure:
        figure = Figure(figsize=(4.4, 2.8), layout="constrained")
        axes = figure.subplots()
        for color, (name, (epochs, values)) in enumerate(curves.items()):
            axes.plot(
                epochs,
                values,
                color=theme.lines[color % len(theme.lines)],
                marker="." if len(epochs) < 30 else None,
                label=name,
            )
        if mark is not None:
            axes.axvline(mark, color=theme.ink, linewidth=0.8, linestyle=":")
        axes.set(xlabel="epoch", ylabel=label)
        axes.locator_params(axis="x", integer=True)
        axes.legend()
        return figure

    return draw(figure)


def draw_mfcc(mfcc: NDArray[np.float32], seconds: float) -> Picture:
    """Draw the MFCC of a segment as an image.

    Args:
        mfcc: float32 [coefficients, frames], in dB.
        seconds: Duration of the segment in seconds.
    """
    # The first two coefficients, loudness and spectral tilt, are much larger than the others.
    limit = float(np.percentile(np.abs(mfcc[1:]), _COLOR_PERCENTILE))

    def figure(theme: Theme) -> Figure:
        figure = Figure(figsize=(3.4, 2.1))
        axes = figure.add_axes((0.15, 0.2, 0.83, 0.76))
        axes.imshow(
            mfcc,
            aspect="auto",
            origin="lower",
            cmap=matplotlib.colormaps[theme.diverging].resampled(_COLOR_LEVELS),
            vmin=-limit,
            vmax=limit,
            extent=(0, seconds, -0.5, len(mfcc) - 0.5),
            interpolation="none",  # stores one pixel per value in the SVG
        )
        axes.set(xlabel="seconds", ylabel="coefficient")
        return figure

    return draw(figure)


def _data_uri(figure: Callable[[Theme], Figure], theme: Theme) -> str:
    colored = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    # A file `matplotlibrc` in the working directory, which may be anyone's, could call LaTeX.
    defaults = matplotlib.style.context("default")
    with defaults, matplotlib.rc_context({**_STYLE, **dict.fromkeys(colored, theme.ink)}):
        buffer = io.BytesIO()
        figure(theme).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
