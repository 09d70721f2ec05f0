"""A number with its two standard errors."""

import math
from typing import NamedTuple


class Estimate(NamedTuple):
    """A number and its two standard errors, never mixed.

    mc_se: over the draws (t and noise, or latents), the data fixed. data_se: over the examples; the value of each contains
    the noise of its own draws, so this one includes the draws' part, and mc_se is not to be added to it.
    """

    value: float
    mc_se: float
    data_se: float

    def shown(self) -> tuple[str, str, str]:
        """The three with as many decimals as the larger error has to its second digit, and four at most."""
        places = decimals(self.mc_se, self.data_se)
        value, mc_se, data_se = (f"{number:.{places}f}" for number in self)
        return value, mc_se, data_se


def decimals(*errors: float) -> int:
    """How many the largest of the errors has to its second digit, and four at most; unknown ones are passed over."""
    known = [error for error in errors if 0 < error < math.inf]
    return min(4, max(0, 1 - math.floor(math.log10(max(known))))) if known else 4
