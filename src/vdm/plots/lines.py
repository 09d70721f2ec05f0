"""Curves on one pair of axes, with the sizes and colours that all figures share."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.curves import Curve

STEP_LABEL, GAMMA_LABEL = "optimiser step", "γ = −log SNR"

Palette = Callable[[Sequence[str]], Sequence[Any]]
"""Maps the labels of the drawn curves to their colours."""


def cycle(labels: Sequence[str]) -> list[str]:
    """Ten distinct colours in turn."""
    return [f"C{i % 10}" for i in range(len(labels))]


def sequential(labels: Sequence[str]) -> list[Any]:
    """Shades from light to dark, for curves in order of time."""
    return [matplotlib.colormaps["viridis_r"](0.1 + 0.6 * i / max(1, len(labels) - 1)) for i in range(len(labels))]


def literal(name: str) -> str:
    """Escape $, between two of which matplotlib would read TeX."""
    return name.replace("$", r"\$")


def draw_lines(
    axes: Axes, curves: Mapping[str, Curve], title: str, x: str, y: str, scale: str = "linear", palette: Palette = cycle
) -> None:
    """Draw the curves that have points, by label, and a legend.

    Args:
        scale: "log" masks values that are not positive; "symlog" shows them, and is linear between ±0.01.
    """
    curves = {label: curve for label, curve in curves.items() if len(curve[0])}
    positive = {label: curve for label, curve in curves.items() if any(value > 0 for value in curve[1])}
    if scale == "log" and positive:
        axes.set_yscale("log", nonpositive="mask")
        curves = positive
    if scale == "symlog":
        axes.set_yscale("symlog", linthresh=0.01)
    for (label, (places, values)), colour in zip(curves.items(), palette(list(curves)), strict=True):
        marker = "o" if len(places) == 1 else None
        axes.plot(places, values, color=colour, label=literal(label), linewidth=1.6, marker=marker)
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend(fontsize=9)


def panel(draw: Callable[..., None], *arguments: Any) -> Figure:
    """Return a figure with one pair of axes, legible on a phone, filled by ``draw(axes, *arguments)``."""
    figure = Figure(figsize=(4.8, 3.3), layout="constrained")
    draw(figure.subplots(), *arguments)
    return figure


def line_figure(
    curves: Mapping[str, Curve], title: str, x: str, y: str, scale: str = "linear", palette: Palette = cycle
) -> Figure:
    """Return a figure with the lines of ``draw_lines``."""
    return panel(draw_lines, curves, title, x, y, scale, palette)


def fit_to_tail(axes: Axes) -> None:
    """Limit the y axis to the values after the first tenth of each curve."""
    tails: list[float] = []
    for line in axes.get_lines():
        y = list(map(float, line.get_ydata()))  # type: ignore[arg-type]
        tails += [value for value in y[len(y) // 10 :] if math.isfinite(value)]
    if tails:
        margin = 0.05 * (max(tails) - min(tails)) + 1e-3
        axes.set_ylim(min(tails) - margin, max(tails) + margin)
