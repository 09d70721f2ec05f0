"""Curves to plot."""

from collections.abc import Sequence

Curve = tuple[Sequence[float], Sequence[float]]
"""(x, y), of equal length."""

EMPTY_CURVE: Curve = ((), ())
