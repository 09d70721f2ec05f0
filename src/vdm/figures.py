"""Figures of the reports, as pure functions from numbers to figures."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from PIL import Image


def per_step_figure(means: Mapping[str, Sequence[float]], variances: Mapping[str, Sequence[float]]) -> Figure:
    """The summands of each form of the bound over the step t = 2 … T, and their variances, in nats."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in means:
        t = range(2, len(means[name]) + 2)
        left.plot(t, means[name], label=name)
        right.semilogy(t, variances[name], label=name)
    left.set_yscale("symlog", linthresh=0.1)
    left.set(title="summand", xlabel="t", ylabel="nats")
    right.set(title="its variance over noise, the example fixed", xlabel="t", ylabel="nats²")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def growth_figure(timesteps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Figure:
    """What grows with T although the bound hardly changes, in nats."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in curves.items():
        axes.plot(timesteps, values, marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set(xlabel="T", ylabel="nats per example")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def sweep_curves(curves: Mapping[str, Sequence[tuple[Sequence[int], Sequence[float]]]]) -> Figure:
    """The validation bound over training in bits/dim: (steps, values) of every run, one colour a group."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    tails: list[float] = []
    for number, (label, runs) in enumerate(curves.items()):
        for i, (steps, values) in enumerate(runs):
            axes.plot(steps, values, color=f"C{number % 10}", alpha=0.7, label=None if i else label)
            tails += values[len(values) // 5 :]
    if tails:
        margin = 0.05 * (max(tails) - min(tails)) + 1e-3
        axes.set_ylim(min(tails) - margin, max(tails) + margin)
        axes.legend()
    axes.set(xlabel="optimiser step", ylabel="bits/dim")
    axes.grid(alpha=0.3)
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
    left.set_xticks(places, [name.replace("_", "\n") for name in terms], fontsize=7)
    left.set(title="bound by term", ylabel="bits/dim")
    left.legend(loc="lower right", fontsize=7)
    for name, of_layers in layers.items():
        right.plot(range(1, len(of_layers) + 1), of_layers, marker="o", label=name)
    right.set(title="below the top, by layer", xlabel="t", ylabel="bits/dim")
    right.legend(fontsize=7)
    for axes, (name, image) in zip(rows[0], samples.items(), strict=False):
        axes.imshow(image, cmap="gray")
        axes.set_title(name, fontsize=7)
        axes.axis("off")
    return figure
