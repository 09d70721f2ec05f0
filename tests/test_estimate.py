"""Estimates as they are printed."""

import math

import pytest

from vdm.estimate import Estimate


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        ((1.74231, 0.009, 0.0223), ("1.742", "0.009", "0.022")),
        ((1.74231, 0.0, 0.0), ("1.7423", "0.0000", "0.0000")),
        ((1.74231, 0.5, math.nan), ("1.74", "0.50", "—")),
        ((174.231, 12.3, 3.0), ("174", "12", "3")),
        ((0.0038123, 0.00011, 0.00012), ("0.0038", "0.0001", "0.0001")),
    ],
)
def test_shown_rounds_to_the_second_digit_of_the_error(estimate, shown):
    assert Estimate(*estimate).shown() == shown


@pytest.mark.parametrize(("df", "quantile"), [(1, 12.706205), (3, 3.182446), (31, 2.039513), (math.inf, 1.959964)])
def test_interval_is_students_without_skewness(df, quantile):
    low, high = Estimate(1.0, 0.1, 0.2, df).interval()
    assert (low, high) == pytest.approx((1 - 0.1 * quantile, 1 + 0.1 * quantile), abs=1e-6)


def test_interval_inverts_halls_transformation():
    """At the ends T = (value − end)/mc_se, and T + γT²/3 + γ²T³/27 + γ/6 is the quantile; the long side is above."""
    skew, quantile = 0.4, 2.039513
    low, high = Estimate(0.0, 1.0, 1.0, 31, skew).interval()
    for end, expected in ((low, quantile), (high, -quantile)):
        t = -end
        assert t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6 == pytest.approx(expected, abs=1e-5)
    assert high > -low > 0


def test_interval_without_recorded_df_is_a_dash():
    assert Estimate(1.0, 0.1, 0.2, math.nan).shown_interval() == "—"
    assert Estimate(1.0, 0.0, 0.2).shown_interval() == "1.00 to 1.00"
