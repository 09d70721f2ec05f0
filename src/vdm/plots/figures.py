"""Figures of runs, sweeps and studies, from numbers: the bound, its noise levels, the schedule."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vdm.curves import EMPTY_CURVE, Curve
from vdm.gamma_profile import Profile, per_gamma
from vdm.plots.lines import GAMMA_LABEL, STEP_LABEL, cycle, draw_lines, fit_to_tail, line_figure, literal, sequential
from vdm.terms import LABELS, TERM_LABELS

TERM_COLOURS = {"reconstruction": "C0", "prior matching": "C1", "denoising matching": "C2", "auxiliary latent": "C3"}
"""The colour of each term of the bound, by its label."""

WIDE = (11, 3.6)
"""Inches of a figure with two pairs of axes side by side."""


def evenly_spaced(steps: Sequence[int], most: int = 6) -> list[int]:
    """Return at most ``most`` of ``steps``, evenly spaced and with the first and the last."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def draw_bound(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Draw the bound over training in bits/dim, from the columns of a metrics.csv."""
    names = {"training batches": "train/bits_per_dim", "validation (EMA)": "val/bits_per_dim"}
    lines = {label: curves.get(name, EMPTY_CURVE) for label, name in names.items()}
    draw_lines(axes, lines, "bound", STEP_LABEL, "bits/dim")
    for line in axes.get_lines():
        if line.get_label() == "training batches":
            line.set_alpha(0.45)
    fit_to_tail(axes)


def _by_term(labels: Sequence[str]) -> list[str]:
    return [TERM_COLOURS[label] for label in labels]


def draw_terms(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """Draw the three terms over training in bits/dim, from the columns of a metrics.csv."""
    columns = {label: f"val/{name}" for name, label in list(LABELS.items())[1:]}
    always = TERM_LABELS.values()
    lines = {label: curves.get(c, EMPTY_CURVE) for label, c in columns.items() if label in always or c in curves}
    scale = "symlog" if any(value < 0 for _, values in lines.values() for value in values) else "log"
    draw_lines(axes, lines, f"validation, by term ({scale} scale)", STEP_LABEL, "bits/dim", scale, _by_term)


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
    return line_figure(curves, "denoising term by noise level", GAMMA_LABEL, "bits/dim per unit of γ", palette=palette)


def variance_figure(profiles: Mapping[str, Profile], ordered: bool = True) -> Figure:
    """Return the variance of the one-t estimate by noise level, in (bits/dim)², in bins of at least 10 draws."""
    known = {label: [each for each in profile if each.draws >= 10] for label, profile in profiles.items()}
    curves = {label: ([each.middle for each in bins], [each.variance for each in bins]) for label, bins in known.items()}
    palette = sequential if ordered else cycle
    return line_figure(curves, "variance of the one-t estimate", GAMMA_LABEL, "(bits/dim)²", "log", palette)


def schedule_figure(schedules: Mapping[str, Curve]) -> Figure:
    """Return γ(t) on the left axis and SNR(t) = e^{−γ} in decibels on the right."""
    figure = line_figure(schedules, "noise schedule", "t", GAMMA_LABEL, palette=sequential)
    decibels = -10 / math.log(10)
    scale: Any = (lambda gamma: decibels * gamma, lambda db: db / decibels)
    right = figure.axes[0].secondary_yaxis("right", functions=scale)
    right.set_ylabel("SNR(t) in dB")
    return figure


def sweep_curves(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Return the validation bound over training in bits/dim: (steps, values) of every run, one colour per group."""
    figure = line_figure({}, "validation bound", STEP_LABEL, "bits/dim")
    (axes,) = figure.axes
    for (label, runs), colour in zip(curves.items(), cycle(list(curves)), strict=True):
        for i, (steps, values) in enumerate(runs):
            axes.plot(steps, values, color=colour, alpha=0.7, label=None if i else literal(label))
    fit_to_tail(axes)
    if axes.get_lines():
        axes.legend(fontsize=9)
    return figure


def per_step_figure(means: Mapping[str, Sequence[float]], variances: Mapping[str, Sequence[float]]) -> Figure:
    """Return mean and variance in nats of the summand at each step t = 2 … T, for each form of the bound."""

    def over_t(values: Mapping[str, Sequence[float]]) -> dict[str, Curve]:
        return {name: (range(2, len(column) + 2), column) for name, column in values.items()}

    figure = Figure(figsize=WIDE, layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_lines(left, over_t(means), "mean of each step's summand", "t", "nats")
    left.set_yscale("symlog", linthresh=0.1)
    draw_lines(right, over_t(variances), "variance of each step's summand", "t", "nats²", "log")
    return figure


def growth_figure(timesteps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """Return the terms over T, in nats: single terms grow although the bound hardly changes."""
    over_T = {name: (timesteps, values) for name, values in curves.items()}
    figure = line_figure(over_T, "terms over T", "T", "nats per example")
    (axes,) = figure.axes
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0)
    return figure


def ladder_figure(
    terms: Mapping[str, Mapping[str, float]], layers: Mapping[str, Sequence[float]], samples: Mapping[str, Image.Image]
) -> Figure:
    """Return models side by side: the terms of the bound and of single layers, in bits/dim, and samples."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    halves = figure.subfigures(2, 1, height_ratios=(1.4, 1), squeeze=False)
    (left, right), rows = halves[0, 0].subplots(1, 2), halves[1, 0].subplots(1, max(1, len(samples)), squeeze=False)
    draw_stacked_terms(left, terms)
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


def draw_stacked_terms(axes: Axes, terms: Mapping[str, Mapping[str, float]]) -> None:
    """Draw one stacked bar per model; a negative term, such as a log-ratio, is drawn below the axis."""
    up, down = [0.0] * len(terms), [0.0] * len(terms)
    for term in next(iter(terms.values())):
        values, label = [of[term] for of in terms.values()], LABELS[term]
        bottoms = [u if v >= 0 else d for u, d, v in zip(up, down, values, strict=True)]
        axes.bar(range(len(terms)), values, bottom=bottoms, label=label, color=TERM_COLOURS[label])
        up = [u + max(v, 0.0) for u, v in zip(up, values, strict=True)]
        down = [d + min(v, 0.0) for d, v in zip(down, values, strict=True)]
    axes.set_xticks(range(len(terms)), [literal(name).replace("_", "\n") for name in terms], fontsize=7)
    axes.set(title="bound by term", ylabel="bits/dim")
    axes.legend(loc="lower right", fontsize=7)
