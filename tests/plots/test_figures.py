"""What a figure draws and names is what there is."""

import math

from vdm.gamma_profile import Bin
from vdm.plots.figures import bound_figure, profile_figure, terms_figure, variance_figure

STEPS = [10.0, 20.0]


def named(axes):
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_a_legend_names_the_curves_that_are_drawn():
    (axes,) = bound_figure({"val/bits_per_dim": (STEPS, [3.0, 2.0])}).axes
    assert named(axes) == ["validation (EMA)"]
    (axes,) = terms_figure({"val/reconstruction": (STEPS, [1.0, 0.5]), "val/prior_matching": (STEPS, [-1.0, 0.0])}).axes
    assert named(axes) == ["reconstruction"]  # a logarithm has no place for the other
    assert len(bound_figure({}).axes[0].get_lines()) == 0


def test_a_variance_is_drawn_where_draws_tell_it():
    """A bin with one draw has the variance zero, which is no drop."""
    profile = [Bin(-8, -4, 50, 1.0, 2.0), Bin(-4, 0, 1, 1.0, 0.0), Bin(0, 4, 50, 1.0, 3.0)]
    (line,) = variance_figure({"a": profile}).axes[0].get_lines()
    assert list(line.get_xdata()) == [-6, 2]
    assert all(math.isfinite(y) and y > 0 for y in line.get_ydata())
    assert len(profile_figure({"a": profile}).axes[0].get_lines()[0].get_xdata()) == 3
