"""A number with its two standard errors."""

import math
from typing import NamedTuple


class Estimate(NamedTuple):
    """A value with two standard errors, which must not be added.

    Attributes:
        value: in bits/dim.
        mc_se: over the draws (t and noise, or latents), with the data fixed.
        data_se: over the examples. The value of each contains the noise of its own draws, so it includes the draws' part.
    """

    value: float
    mc_se: float
    data_se: float

    def shown(self) -> tuple[str, str, str]:
        """Format the three numbers with the decimals of the larger error."""
        places = decimals(self.mc_se, self.data_se)
        value, mc_se, data_se = (f"{number:.{places}f}" for number in self)
        return value, mc_se, data_se


def decimals(*errors: float) -> int:
    """Return the decimals of the largest error's second digit, at most four; zero and non-finite errors are ignored."""
    known = [error for error in errors if 0 < error < math.inf]
    return min(4, max(0, 1 - math.floor(math.log10(max(known))))) if known else 4
