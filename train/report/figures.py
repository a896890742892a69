"""Pictures for pages: each drawn twice, for a light page and for a dark one."""

import base64
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision. Their black, which is
# no colour on a dark page, is a grey here.
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
_COLOR_LEVELS = 48  # of an MFCC image: no eye sees more, and it is two thirds of the bytes
_WITHIN_COLORS = 96  # per cent of the numbers that the colours tell apart: the first coefficients are beyond them


@dataclasses.dataclass(frozen=True)
class Theme:
    """What differs between a picture on a light and on a dark page.

    Attributes:
        ink: of text and axes.
        lines: of curves, in their order.
        diverging: the colour map of numbers around nought, whose middle is like the page.
    """

    ink: str
    lines: Sequence[str]
    diverging: str


LIGHT = Theme("#4a545e", OKABE_ITO, "RdBu_r")
DARK = Theme("#aab4be", ("#4da3dc", *OKABE_ITO[1:]), "berlin")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as two data URIs: for a light page and for a dark one."""

    light: str
    dark: str


def draw(figure: Callable[[Theme], Figure]) -> Picture:
    """Draw a figure in both themes, as SVG on nothing: what is behind it shows through."""
    return Picture(*(_drawn(figure, theme) for theme in (LIGHT, DARK)))


def draw_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], label: str, mark: int | None = None
) -> Picture:
    """Draw figures over the epochs.

    Args:
        curves: for each name the epochs and its values there.
        label: what the values are.
        mark: an epoch to point out.
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
    """Draw a segment as an image.

    Args:
        mfcc: float32 [coefficients, frames].
        seconds: its length.
    """
    # Loudness and tilt of the spectrum, the first two coefficients, are far above the others.
    limit = float(np.percentile(np.abs(mfcc[1:]), _WITHIN_COLORS))

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
            interpolation="none",  # the SVG then holds a pixel for each number
        )
        axes.set(xlabel="seconds", ylabel="coefficient")
        return figure

    return draw(figure)


def _drawn(figure: Callable[[Theme], Figure], theme: Theme) -> str:
    colored = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context({**_STYLE, **dict.fromkeys(colored, theme.ink)}):
        buffer = io.BytesIO()
        figure(theme).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
