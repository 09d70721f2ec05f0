"""Figures of the reports, as pure functions from numbers to figures."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


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
