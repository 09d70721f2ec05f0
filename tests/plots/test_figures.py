"""Figures show the curves and bins that have data, each in its own colour."""

import math

import pytest

from vdm.gamma_profile import Bin
from vdm.plots.figures import draw_bound, draw_terms, profile_figure, variance_figure
from vdm.plots.lines import panel

STEPS = [10.0, 20.0]


def named(axes):
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_legend_lists_only_drawn_curves():
    (axes,) = panel(draw_bound, {"val/bits_per_dim": (STEPS, [3.0, 2.0])}).axes
    assert named(axes) == ["validation (EMA)"]
    (axes,) = panel(draw_terms, {"val/reconstruction": (STEPS, [1.0, 0.5])}).axes
    assert named(axes) == ["reconstruction"]
    assert len(panel(draw_bound, {}).axes[0].get_lines()) == 0


@pytest.mark.parametrize(("first", "scale"), [(1.0, "log"), (-1.0, "symlog")])
def test_terms_figure_shows_negative_terms(first, scale):
    """The log density of real numbers can exceed 0, so its term can be negative."""
    (axes,) = panel(
        draw_terms, {"val/reconstruction": (STEPS, [first, 0.5]), "val/prior_matching": (STEPS, [0.2, 0.1])}
    ).axes
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low < first < high


def test_variance_figure_skips_bins_with_few_draws():
    """A bin with a single draw has variance zero, which is not a measurement."""
    profile = [Bin(-8, -4, 50, 1.0, 2.0), Bin(-4, 0, 1, 1.0, 0.0), Bin(0, 4, 50, 1.0, 3.0)]
    (line,) = variance_figure({"a": profile}).axes[0].get_lines()
    assert list(line.get_xdata()) == [-6, 2]
    assert all(math.isfinite(y) and y > 0 for y in line.get_ydata())
    assert len(profile_figure({"a": profile}).axes[0].get_lines()[0].get_xdata()) == 3


def test_terms_figure_keeps_colours_of_missing_terms():
    curves = {f"val/{name}": (STEPS, [2.0, 1.0]) for name in ("reconstruction", "prior_matching", "denoising_matching")}
    full, partial = (panel(draw_terms, given).axes[0].get_lines() for given in (curves, dict(list(curves.items())[1:])))
    assert [line.get_color() for line in partial] == [line.get_color() for line in full][1:]
