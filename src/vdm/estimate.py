"""A number with its two standard errors, and the interval that its draws leave."""

import math
from typing import NamedTuple

from scipy.special import stdtrit

FEW = 8
"""Degrees of freedom below which an error bar is a rough guess: in every third case it is off by more than a quarter."""

MOST_SKEW = 2.0
"""Largest |skew| that an interval follows; there is no correction for more."""


class Estimate(NamedTuple):
    """A value with two standard errors, which must not be added.

    Attributes:
        value: in bits/dim.
        mc_se: over the draws (t and noise, or latents), with the data fixed.
        data_se: over the examples; NaN for one example. The value of each contains the noise of its own draws, so it
            includes the draws' part.
        df: degrees of freedom of ``mc_se``; infinite if it is known, NaN if it was not recorded.
        skew: skewness of the value over the draws, estimated; 0 for a symmetric error.
    """

    value: float
    mc_se: float
    data_se: float
    df: float = math.inf
    skew: float = 0.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the two-sided confidence interval of the value over the draws, with the data fixed.

        Student's t with ``df`` degrees of freedom, corrected for skewness by Hall's cubic transformation (Hall 1992,
        J. R. Stat. Soc. B 54, 221): the rare large draws of a heavy tail are missed more often than met, so that the
        interval then reaches further up than down.
        """
        quantile = float(stdtrit(self.df, 0.5 + level / 2))
        skew = max(-MOST_SKEW, min(MOST_SKEW, self.skew))
        low, high = (self.mc_se * _hall(t, skew) for t in (quantile, -quantile))
        return self.value - low, self.value - high

    def shown(self) -> tuple[str, str, str]:
        """Format value, mc_se and data_se with the decimals of the larger error; an unknown error is a dash."""
        places = decimals(self.mc_se, self.data_se)
        value, mc_se, data_se = (f"{number:.{places}f}" for number in self[:3])
        return value, mc_se, "—" if math.isnan(self.data_se) else data_se

    def shown_interval(self) -> str:
        """Format the 95 % interval over the draws, with the decimals of ``shown``; an unknown one is a dash."""
        places, ends = decimals(self.mc_se, self.data_se), self.interval()
        return " to ".join(f"{end:.{places}f}" for end in ends) if all(map(math.isfinite, ends)) else "—"


def _hall(t: float, skew: float) -> float:
    """Return the inverse of Hall's transformation T + γT²/3 + γ²T³/27 + γ/6 at ``t``, for a mean's skewness γ."""
    if abs(skew) < 1e-6:
        return t
    return 3 / skew * (math.cbrt(1 + skew * (t - skew / 6)) - 1)


def decimals(*errors: float) -> int:
    """Return the decimals of the largest error's second digit, at most four; zero and non-finite errors are ignored."""
    known = [error for error in errors if 0 < error < math.inf]
    return min(4, max(0, 1 - math.floor(math.log10(max(known))))) if known else 4
