"""Figures of differences and estimates with their intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from vdm.plots.lines import GAMMA_LABEL, cycle, literal

Interval = tuple[float, float, float]
"""A value and the ends of its interval."""

INCHES_A_ROW = 0.32


def intervals_figure(rows: Mapping[str, Interval], title: str, x: str, zero: bool = False) -> Figure:
    """Return one horizontal interval a row, the first at the top; ``zero`` draws the line of no difference."""
    figure = Figure(figsize=(7.5, 1.2 + INCHES_A_ROW * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))[::-1]
    for place, (value, low, high) in zip(places, rows.values(), strict=True):
        axes.plot([low, high], [place, place], color="C0", linewidth=1.6)
        axes.plot([value], [place], color="C0", marker="o", markersize=4)
    if zero:
        axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_yticks(list(places), [literal(name) for name in rows], fontsize=8)
    axes.set(title=title, xlabel=x)
    axes.grid(axis="x", alpha=0.3)
    return figure


def bands_figure(bands: Mapping[str, Sequence[tuple[float, float, Interval]]], title: str) -> Figure:
    """Return the difference of the denoising terms by band of γ, (low, high, interval) each; the sum is the term's."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, ((name, rows), colour) in enumerate(zip(bands.items(), cycle(list(bands)), strict=True)):
        middles = np.array([(low + high) / 2 for low, high, _ in rows])
        middles += 0.12 * number * (rows[0][1] - rows[0][0]) if rows else 0.0
        values, lows, highs = np.array([interval for *_, interval in rows]).T
        errors = [values - lows, highs - values]
        axes.errorbar(middles, values, errors, fmt="o", markersize=4, capsize=2, color=colour, label=literal(name))
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set(title=title, xlabel=GAMMA_LABEL, ylabel="bits/dim in the band")
    axes.grid(alpha=0.3)
    if bands:
        axes.legend(fontsize=8)
    return figure
