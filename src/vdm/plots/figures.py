"""Figures of a run and of a sweep: the bound, its noise levels, and the schedule."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vdm.curves import EMPTY_CURVE, Curve
from vdm.gamma_profile import Profile, per_gamma
from vdm.plots.lines import (
    GAMMA,
    STEP,
    WIDE,
    by_term,
    cycle,
    draw_lines,
    fit_to_tail,
    line_figure,
    literal,
    panel,
    sequential,
)
from vdm.terms import LABELS, TERM_LABELS

ENOUGH = 10
"""Smallest number of draws in a bin whose variance is drawn."""


def evenly_spaced(steps: Sequence[int], most: int = 6) -> list[int]:
    """Return at most ``most`` of ``steps``, evenly spaced and with the first and the last."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def draw_bound(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Draw the bound over training in bits/dim, from the columns of a metrics.csv."""
    names = {"training batches": "train/bits_per_dim", "validation (EMA)": "val/bits_per_dim"}
    lines = {label: curves.get(name, EMPTY_CURVE) for label, name in names.items()}
    draw_lines(axes, lines, "bound", STEP, "bits/dim")
    for line in axes.get_lines():
        if line.get_label() == "training batches":
            line.set_alpha(0.45)
    fit_to_tail(axes)


def draw_terms(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Draw the three terms over training in bits/dim, from the columns of a metrics.csv."""
    columns = {label: f"val/{name}" for name, label in list(LABELS.items())[1:]}
    always = TERM_LABELS.values()
    lines = {label: curves.get(c, EMPTY_CURVE) for label, c in columns.items() if label in always or c in curves}
    draw_lines(axes, lines, "validation, by term (log scale)", STEP, "bits/dim", "log", by_term)


def bound_figure(curves: Mapping[str, Curve]) -> Figure:
    """Return a figure of the bound over training."""
    return panel(draw_bound, curves)


def terms_figure(curves: Mapping[str, Curve]) -> Figure:
    """Return a figure of the terms over training."""
    return panel(draw_terms, curves)


def bound_curves(curves: Mapping[str, Curve]) -> Figure:
    """Return a figure of the bound and its terms side by side."""
    figure = Figure(figsize=WIDE, layout="constrained")
    for axes, draw in zip(figure.subplots(1, 2), (draw_bound, draw_terms), strict=True):
        draw(axes, curves)
    return figure


def profile_figure(profiles: Mapping[str, Profile], ordered: bool = True) -> Figure:
    """Return the denoising term by noise level, in bits/dim per unit of γ; the area under a line is the term.

    Args:
        ordered: whether the profiles are in order of time, and their colours go from light to dark.
    """
    curves = {label: ([each.middle for each in profile], per_gamma(profile)) for label, profile in profiles.items()}
    palette = sequential if ordered else cycle
    return line_figure(curves, "denoising term by noise level", GAMMA, "bits/dim per unit of γ", palette=palette)


def variance_figure(profiles: Mapping[str, Profile], ordered: bool = True) -> Figure:
    """Return the variance of the one-t estimate by noise level, in (bits/dim)², in bins of at least ``ENOUGH`` draws."""
    known = {label: [each for each in profile if each.draws >= ENOUGH] for label, profile in profiles.items()}
    curves = {label: ([each.middle for each in bins], [each.variance for each in bins]) for label, bins in known.items()}
    palette = sequential if ordered else cycle
    return line_figure(curves, "variance of the one-t estimate", GAMMA, "(bits/dim)²", "log", palette)


def schedule_figure(schedules: Mapping[str, Curve]) -> Figure:
    """Return γ(t) on the left axis and SNR(t) = e^{−γ} in decibels on the right."""
    figure = line_figure(schedules, "noise schedule", "t", GAMMA, palette=sequential)
    decibels = -10 / math.log(10)
    scale: Any = (lambda gamma: decibels * gamma, lambda db: db / decibels)
    right = figure.axes[0].secondary_yaxis("right", functions=scale)
    right.set_ylabel("SNR(t) in dB")
    return figure


def sweep_curves(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Return the validation bound over training in bits/dim: (steps, values) of every run, one colour per group."""
    figure = line_figure({}, "validation bound", STEP, "bits/dim")
    (axes,) = figure.axes
    for (label, runs), colour in zip(curves.items(), cycle(list(curves)), strict=True):
        for i, (steps, values) in enumerate(runs):
            axes.plot(steps, values, color=colour, alpha=0.7, label=None if i else literal(label))
    fit_to_tail(axes)
    if axes.get_lines():
        axes.legend(fontsize=9)
    return figure
