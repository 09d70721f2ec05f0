"""A curve as places and values."""

from collections.abc import Sequence

Curve = tuple[Sequence[float], Sequence[float]]
"""Places and values."""

EMPTY_CURVE: Curve = ((), ())
