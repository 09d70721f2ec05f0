"""Figures of the estimator laboratory, as pure functions from numbers to figures."""

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
