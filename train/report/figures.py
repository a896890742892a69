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

from featurize.dataset.feature_settings import FeatureSettings

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
_COLOR_LEVELS = 48  # of an image of features; looks like the full color map, in two thirds of the bytes
_COLOR_PERCENTILE = 96  # of the absolute values; larger values, mostly of the lowest coefficients, saturate
_UNITS = ("dB", "dB / frame", "dB / frame\u00b2")  # of the features and their derivatives
_HERTZ = (64000, 32000, 16000, 8000, 4000, 2000, 1000, 500, 250, 125, 62, 31)  # labels of mel bands, if they fit
_BAND_LABELS = 8  # of mel bands, at most


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colors of plots on a light or on a dark page.

    Attributes:
        ink: Color of text and axes.
        lines: Colors of curves, which are also those of classes.
        parts: Color of the curves of train, validation and test; none of them is that of a class.
        diverging: Color map for values around 0; its center is close to the background of the page.
        sequential: Color map for levels; its lowest color is close to the background of the page.
    """

    ink: str
    lines: Sequence[str]
    parts: Mapping[str, str]
    diverging: str
    sequential: str


LIGHT = Theme(
    "#4a545e", OKABE_ITO, {"train": "#4a545e", "validation": "#00838f", "test": "#ad1457"}, "RdBu_r", "YlGnBu"
)
DARK = Theme(
    "#aab4be",
    ("#4da3dc", *OKABE_ITO[1:]),
    {"train": "#aab4be", "validation": "#4dd0e1", "test": "#f06292"},
    "berlin",
    "magma",
)
_DASHES = {"train": ":", "validation": "-", "test": "--"}  # as in the comparison of runs


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
        curves: Part of the split (train, validation, test) to epochs and values.
        label: Label of the y-axis.
        mark: Epoch to mark with a dotted vertical line; None for no mark.
    """

    def figure(theme: Theme) -> Figure:
        figure = Figure(figsize=(4.4, 2.8), layout="constrained")
        axes = figure.subplots()
        for name, (epochs, values) in curves.items():
            axes.plot(
                epochs,
                values,
                _DASHES[name],
                color=theme.parts[name],
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


def draw_segment(segment: NDArray[np.float32], settings: FeatureSettings) -> Picture:
    """Draw the features of a segment as an image over time, and each of their derivatives as one below it.

    Every image has its own color bar. MFCC and derivatives are drawn around 0, without the range that the first
    coefficients would need: those, loudness and spectral tilt, are much larger than the others.

    Args:
        segment: float32 [features, frames], in dB.
        settings: Settings of the features.
    """
    images = np.split(segment, 1 + settings.deltas)

    def figure(theme: Theme) -> Figure:
        figure = Figure(figsize=(3.8, 0.5 + 1.6 * len(images)), layout="constrained")
        rows = figure.subplots(len(images), squeeze=False)[:, 0]
        for order, (axes, image) in enumerate(zip(rows, images, strict=True)):
            levels = settings.kind == "log_mel" and not order
            low, high = _color_range(image, levels, skipped=int(settings.kind == "mfcc" and len(image) > 1))
            colors = matplotlib.colormaps[theme.sequential if levels else theme.diverging].resampled(_COLOR_LEVELS)
            drawn = axes.imshow(
                image,
                aspect="auto",
                origin="lower",
                cmap=colors,
                vmin=low,
                vmax=high,
                extent=(0, settings.segment_seconds, -0.5, len(image) - 0.5),
                interpolation="none",  # stores one pixel per value in the SVG
            )
            extend = "neither" if levels else "both"  # the largest values are beyond the ends
            bar = figure.colorbar(drawn, ax=axes, label=_UNITS[order], extend=extend, aspect=12)
            bar.outline.set_visible(False)
            assert bar.solids is not None
            bar.solids.set(edgecolor="face", rasterized=True)
            if settings.kind == "log_mel":
                _label_bands(axes, settings)
            else:
                axes.set_ylabel("coefficient")
        axes.set_xlabel("seconds")
        return figure

    return draw(figure)


def _color_range(image: NDArray[np.float32], levels: bool, skipped: int) -> tuple[float, float]:
    """Return the values of the first and the last color.

    Args:
        image: float32 [features, frames].
        levels: Whether the values are levels; otherwise they are around 0.
        skipped: Number of features at the beginning that may saturate.
    """
    if levels:
        return float(image.min()), float(max(image.max(), image.min() + 1))
    limit = float(np.percentile(np.abs(image[skipped:]), _COLOR_PERCENTILE)) or 1.0
    return -limit, limit


def _label_bands(axes: Any, settings: FeatureSettings) -> None:
    """Label mel bands with their center frequencies, octaves apart where there is room."""
    centers = np.array(settings.band_centers)
    shown: dict[str, float] = {}
    for hertz in _HERTZ:
        band = float(np.interp(hertz, centers, np.arange(len(centers))))
        near = any(abs(band - other) < len(centers) / _BAND_LABELS for other in shown.values())
        if centers[0] <= hertz <= centers[-1] and not near:
            shown[f"{hertz:,}"] = band
    axes.set_yticks([*shown.values()], [*shown])
    axes.set_ylabel("Hz")


def _data_uri(figure: Callable[[Theme], Figure], theme: Theme) -> str:
    colored = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    # A file `matplotlibrc` in the working directory, which may be anyone's, could call LaTeX.
    defaults = matplotlib.style.context("default")
    with defaults, matplotlib.rc_context({**_STYLE, **dict.fromkeys(colored, theme.ink)}):
        buffer = io.BytesIO()
        figure(theme).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
