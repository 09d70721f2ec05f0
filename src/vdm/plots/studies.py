"""Figures of the studies: the variance study, and the ladder from the VAE to the VDM."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from vdm.curves import Curve
from vdm.plots.lines import TERM_COLOURS, WIDE, draw_lines, line_figure, literal
from vdm.terms import LABELS


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
