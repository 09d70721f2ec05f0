"""Figures, as pure functions from numbers to figures: one pair of axes each, where a page may be narrow."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vdm.curves import EMPTY_CURVE, Curve
from vdm.gamma_profile import Profile, per_gamma
from vdm.terms import TERM_LABELS

PANEL = (4.8, 3.3)
"""Inches of a figure that stays legible on a telephone."""


def literal(name: str) -> str:
    """A name that somebody chose, as itself: matplotlib would read TeX between two dollar signs."""
    return name.replace("$", r"\$")


ENOUGH = 10
"""Draws in a bin below which its variance is not drawn."""

STEP, GAMMA = "optimiser step", "γ = −log SNR"


def draw_lines(
    axes: Axes, curves: Mapping[str, Curve], title: str, x: str, y: str, scale: str = "linear", ordered: bool = False
) -> None:
    """Lines with a legend, those that have any points; ``ordered`` ones in colours that go from the first to the last."""
    curves = {label: curve for label, curve in curves.items() if len(curve[0])}
    positive = {label: curve for label, curve in curves.items() if any(value > 0 for value in curve[1])}
    if scale == "log" and positive:
        axes.set_yscale("log", nonpositive="mask")
        curves = positive
    for i, (label, (places, values)) in enumerate(curves.items()):
        shade = 0.15 + 0.85 * i / max(1, len(curves) - 1)
        colour = matplotlib.colormaps["viridis_r"](shade) if ordered else f"C{i % 10}"
        axes.plot(
            places, values, color=colour, label=literal(label), linewidth=1.6, marker="o" if len(places) == 1 else None
        )
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    if any(curves):
        axes.legend(fontsize=9)


def line_figure(
    curves: Mapping[str, Curve], title: str, x: str, y: str, scale: str = "linear", ordered: bool = False
) -> Figure:
    """``draw_lines`` on a figure of its own."""
    figure = Figure(figsize=PANEL, layout="constrained")
    draw_lines(figure.subplots(), curves, title, x, y, scale, ordered)
    return figure


def fit_to_tail(axes: Axes) -> None:
    """Limit the y axis to what happens after the first tenth of each curve."""
    tails: list[float] = []
    for line in axes.get_lines():
        y = list(map(float, line.get_ydata()))  # type: ignore[arg-type]
        tails += [value for value in y[len(y) // 10 :] if math.isfinite(value)]
    if tails:
        margin = 0.05 * (max(tails) - min(tails)) + 1e-3
        axes.set_ylim(min(tails) - margin, max(tails) + margin)


def evenly_spaced(steps: Sequence[int], most: int = 6) -> list[int]:
    """At most so many, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def draw_bound(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """The bound over training in bits/dim, from the columns of a metrics.csv."""
    names = {"training batches": "train/bits_per_dim", "validation (EMA)": "val/bits_per_dim"}
    lines = {label: curves.get(name, EMPTY_CURVE) for label, name in names.items()}
    draw_lines(axes, lines, "bound", STEP, "bits/dim")
    for line in axes.get_lines():
        if line.get_label() == "training batches":
            line.set_alpha(0.45)
    fit_to_tail(axes)


def draw_terms(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """The three terms over training in bits/dim, from the columns of a metrics.csv."""
    lines = {label: curves.get(f"val/{name}", EMPTY_CURVE) for name, label in list(TERM_LABELS.items())[1:]}
    draw_lines(axes, lines, "validation, by term (log scale)", STEP, "bits/dim", "log")


def bound_figure(curves: Mapping[str, Curve]) -> Figure:
    """``draw_bound`` by itself."""
    figure = Figure(figsize=PANEL, layout="constrained")
    draw_bound(figure.subplots(), curves)
    return figure


def terms_figure(curves: Mapping[str, Curve]) -> Figure:
    """``draw_terms`` by itself."""
    figure = Figure(figsize=PANEL, layout="constrained")
    draw_terms(figure.subplots(), curves)
    return figure


def bound_curves(curves: Mapping[str, Curve]) -> Figure:
    """The bound, and beside it its terms."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_bound(left, curves)
    draw_terms(right, curves)
    return figure


def profile_figure(profiles: Mapping[str, Profile], ordered: bool = True) -> Figure:
    """The denoising term by noise level, in bits/dim per unit of γ: the area below is the term."""
    curves = {label: ([each.middle for each in profile], per_gamma(profile)) for label, profile in profiles.items()}
    return line_figure(curves, "denoising term by noise level", GAMMA, "bits/dim per unit of γ", ordered=ordered)


def variance_figure(profiles: Mapping[str, Profile], ordered: bool = True) -> Figure:
    """The variance of the one-t estimate by noise level, in (bits/dim)², where there are draws enough to tell."""
    told = {label: [each for each in profile if each.draws >= ENOUGH] for label, profile in profiles.items()}
    curves = {label: ([each.middle for each in bins], [each.variance for each in bins]) for label, bins in told.items()}
    return line_figure(curves, "variance of the one-t estimate", GAMMA, "(bits/dim)²", "log", ordered)


def schedule_figure(schedules: Mapping[str, Curve]) -> Figure:
    """γ(t) on the left axis, SNR(t) = e^{−γ} in decibels on the right."""
    figure = line_figure(schedules, "noise schedule", "t", GAMMA, ordered=True)
    decibels = -10 / math.log(10)
    scale: Any = (lambda gamma: decibels * gamma, lambda db: db / decibels)
    right = figure.axes[0].secondary_yaxis("right", functions=scale)
    right.set_ylabel("SNR(t) in dB")
    return figure


def per_step_figure(means: Mapping[str, Sequence[float]], variances: Mapping[str, Sequence[float]]) -> Figure:
    """The summands of each form of the bound over the step t = 2 … T, and their variances, in nats."""

    def over_t(values: Mapping[str, Sequence[float]]) -> dict[str, Curve]:
        return {name: (range(2, len(column) + 2), column) for name, column in values.items()}

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_lines(left, over_t(means), "mean of each step's summand", "t", "nats")
    left.set_yscale("symlog", linthresh=0.1)
    draw_lines(right, over_t(variances), "variance of each step's summand", "t", "nats²", "log")
    return figure


def growth_figure(timesteps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """What grows with T although the bound hardly changes, in nats."""
    over_T = {name: (timesteps, values) for name, values in curves.items()}
    figure = line_figure(over_T, "terms over T", "T", "nats per example")
    (axes,) = figure.axes
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0)
    return figure


def sweep_curves(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """The validation bound over training in bits/dim: (steps, values) of every run, one colour a group."""
    figure = line_figure({}, "validation bound", STEP, "bits/dim")
    (axes,) = figure.axes
    for number, (label, runs) in enumerate(curves.items()):
        for i, (steps, values) in enumerate(runs):
            axes.plot(steps, values, color=f"C{number % 10}", alpha=0.7, label=None if i else literal(label))
    fit_to_tail(axes)
    if axes.get_lines():
        axes.legend(fontsize=9)
    return figure


def ladder_figure(
    terms: Mapping[str, Mapping[str, float]], layers: Mapping[str, Sequence[float]], samples: Mapping[str, Image.Image]
) -> Figure:
    """Models side by side: the terms of the bound in bits/dim, those of single layers, and samples.

    A term below zero, as a log-ratio may be, is drawn below the axis.
    """
    figure = Figure(figsize=(12, 8), layout="constrained")
    halves = figure.subfigures(2, 1, height_ratios=(1.4, 1), squeeze=False)
    (left, right), rows = halves[0, 0].subplots(1, 2), halves[1, 0].subplots(1, max(1, len(samples)), squeeze=False)
    places = range(len(terms))
    up, down = [0.0] * len(terms), [0.0] * len(terms)
    for term in next(iter(terms.values())):
        values = [of[term] for of in terms.values()]
        bottoms = [u if v >= 0 else d for u, d, v in zip(up, down, values, strict=True)]
        left.bar(places, values, bottom=bottoms, label=term.replace("_", " "))
        up = [u + max(v, 0.0) for u, v in zip(up, values, strict=True)]
        down = [d + min(v, 0.0) for d, v in zip(down, values, strict=True)]
    left.set_xticks(places, [literal(name).replace("_", "\n") for name in terms], fontsize=7)
    left.set(title="bound by term", ylabel="bits/dim")
    left.legend(loc="lower right", fontsize=7)
    for name, of_layers in layers.items():
        right.plot(range(1, len(of_layers) + 1), of_layers, marker="o", label=literal(name))
    right.set(title="below the top, by layer", xlabel="t", ylabel="bits/dim")
    if layers:
        right.legend(fontsize=7)
    for axes, (name, image) in zip(rows[0], samples.items(), strict=False):
        axes.imshow(image, cmap="gray")
        axes.set_title(literal(name), fontsize=7)
        axes.axis("off")
    return figure
