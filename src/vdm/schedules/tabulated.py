"""A schedule defined by a table of per-step α."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vdm.buildable import buildable
from vdm.draws import scalar_dtype
from vdm.errors import InvalidInput
from vdm.schedules.base import RestrictedSchedule


@buildable
def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> list[float]:
    """Return α_n = 1 − β_n with β_n evenly spaced from ``first`` to ``last``: the table of DDPM (Ho et al. 2020)."""
    return (1 - torch.linspace(first, last, steps, dtype=torch.float64)).tolist()


class TabulatedSchedule(RestrictedSchedule):
    """γ as a smooth function of the step number n through the values of a table of per-step α, (1.34).

    log ᾱ_n = Σ_{m ≤ n} log α_m and γ_n = log expm1(−log ᾱ_n) at n = 1 … N. Between them g is the monotone cubic of
    Fritsch & Carlson (1980) with Hermite slopes d_n = 2 m_{n−1} m_n/(m_{n−1} + m_n), the harmonic mean of the secants
    m_n = γ_{n+1} − γ_n on either side, and the secant itself at the two ends. All slopes are strictly between 0 and three
    secants, so g′ > 0 everywhere.

    Args:
        alphas: α_1 … α_N, each in (0, 1); N ≥ 2.

    Raises:
        InvalidInput: values that are not in (0, 1), or ends outside [γ_1, γ_N].
    """

    def __init__(self, gamma_min: float, gamma_max: float, alphas: Sequence[float]) -> None:
        table = torch.tensor(list(alphas), dtype=torch.float64)
        if table.ndim != 1 or len(table) < 2 or not ((table > 0) & (table < 1)).all():
            raise InvalidInput("a table of alphas needs at least two values, each between 0 and 1: 1 − β for each step")
        b = -table.log().cumsum(0)
        self.knots = b + torch.log(-torch.expm1(-b))
        secants = self.knots.diff()
        inner = 2 / (1 / secants[:-1] + 1 / secants[1:])
        self.slopes = torch.cat([secants[:1], inner, secants[-1:]])
        super().__init__(gamma_min, gamma_max)

    def curve(self, tau: Tensor) -> Tensor:
        start, rise, left, right, u = self._piece(tau)
        v = 1 - u
        return start + u * u * (3 - 2 * u) * rise + u * v * (v * left - u * right)

    def curve_rate(self, tau: Tensor) -> Tensor:
        _, rise, left, right, u = self._piece(tau)
        v = 1 - u
        return 6 * u * v * rise + v * (1 - 3 * u) * left + u * (1 - 3 * v) * right

    def inverse(self, gamma: Tensor) -> Tensor:
        first, last = self.knots[0].item(), self.knots[-1].item()
        if not (first <= gamma.min() and gamma.max() <= last):
            raise InvalidInput(
                f"the table's γ runs from {first:.4f} to {last:.4f}, got gamma_min={self.gamma_min:g} and "
                f"gamma_max={self.gamma_max:g}: choose ends inside, or a longer table"
            )
        low, high = torch.ones_like(gamma), torch.full_like(gamma, len(self.knots))
        for _ in range(80):
            middle = 0.5 * (low + high)
            below = self.curve(middle) < gamma
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return 0.5 * (low + high)

    def _piece(self, tau: Tensor) -> tuple[Tensor, ...]:
        """(the knot before τ, the secant to the next, both slopes, the fraction of the way in [0, 1])."""
        if self.knots.device != tau.device:  # moved once: a copy at each call would synchronise with the device
            target = tau.device, scalar_dtype(tau.device)
            self.knots, self.slopes = self.knots.to(*target), self.slopes.to(*target)
        knots, slopes = self.knots.to(tau.dtype), self.slopes.to(tau.dtype)
        n = (tau.detach().long() - 1).clamp(0, len(knots) - 2)
        return knots[n], knots[n + 1] - knots[n], slopes[n], slopes[n + 1], tau - (n + 1)
