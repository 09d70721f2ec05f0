"""Estimates as they are printed."""

import math

import pytest

from vdm.estimate import Estimate


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        ((1.74231, 0.009, 0.0223), ("1.742", "0.009", "0.022")),
        ((1.74231, 0.0, 0.0), ("1.7423", "0.0000", "0.0000")),
        ((1.74231, 0.5, math.nan), ("1.74", "0.50", "nan")),
        ((174.231, 12.3, 3.0), ("174", "12", "3")),
        ((0.0038123, 0.00011, 0.00012), ("0.0038", "0.0001", "0.0001")),
    ],
)
def test_shown_rounds_to_the_second_digit_of_the_error(estimate, shown):
    assert Estimate(*estimate).shown() == shown
