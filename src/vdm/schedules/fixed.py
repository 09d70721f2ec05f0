"""Schedules that nothing trains: curves in closed form, and curves through a table."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vdm.buildable import buildable
from vdm.draws import scalar_dtype
from vdm.errors import InvalidInput
from vdm.schedules.base import NoiseSchedule, RestrictedSchedule


class LinearSchedule(NoiseSchedule):
    """γ(t) = γ_min (1 − t) + γ_max t, with γ′ = γ_max − γ_min: the VDM paper's with its ends fixed (Kingma et al. 2021)."""

    def forward(self, t: Tensor) -> Tensor:
        return self.gamma_min * (1 - t) + self.gamma_max * t

    def rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.gamma_max - self.gamma_min)


class CosineSchedule(RestrictedSchedule):
    """ᾱ(τ) = cos²(πτ/2): g(τ) = 2 log tan(πτ/2), with g′ = 2π / sin(πτ) and g⁻¹(γ) = (2/π) atan e^{γ/2}.

    In continuous form and without the offset of Nichol & Dhariwal (2021).
    """

    def curve(self, tau: Tensor) -> Tensor:
        return 2 * torch.log(torch.tan(math.pi / 2 * tau))

    def curve_rate(self, tau: Tensor) -> Tensor:
        return 2 * math.pi / torch.sin(math.pi * tau)

    def inverse(self, gamma: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan(torch.exp(gamma / 2))


class DDPMSchedule(RestrictedSchedule):
    """−log ᾱ(τ) = B(τ) = β_0 τ + ½ (β_1 − β_0) τ², the integral of a rate β that grows linearly (Song et al. 2021).

    g = log expm1(B) = B + log(−expm1(−B)), g′ = B′ / (−expm1(−B)), and g⁻¹ solves the quadratic for B = softplus(γ).
    With β_0 = 0.1 and β_1 = 20 it is the limit of DDPM's 1000 steps from 10⁻⁴ to 0.02 (Ho et al. 2020). β grows beyond
    τ = 1 as well, so every γ is in its range.

    Args:
        beta_0, beta_1: the rate at τ = 0 and at τ = 1; 0 ≤ β_0 ≤ β_1, β_1 > 0.
    """

    def __init__(self, gamma_min: float, gamma_max: float, beta_0: float = 0.1, beta_1: float = 20.0) -> None:
        if not (0 <= beta_0 <= beta_1 and beta_1 > 0):
            raise InvalidInput(f"0 ≤ beta_0 ≤ beta_1 and beta_1 > 0 must hold, got beta_0={beta_0} and beta_1={beta_1}")
        self.beta_0, self.beta_1 = float(beta_0), float(beta_1)
        super().__init__(gamma_min, gamma_max)

    def curve(self, tau: Tensor) -> Tensor:
        b = self._b(tau)
        return b + torch.log(-torch.expm1(-b))

    def curve_rate(self, tau: Tensor) -> Tensor:
        return (self.beta_0 + (self.beta_1 - self.beta_0) * tau) / -torch.expm1(-self._b(tau))

    def inverse(self, gamma: Tensor) -> Tensor:
        b = F.softplus(gamma)
        return 2 * b / (self.beta_0 + torch.sqrt(self.beta_0**2 + 2 * (self.beta_1 - self.beta_0) * b))

    def _b(self, tau: Tensor) -> Tensor:
        return tau * (self.beta_0 + 0.5 * (self.beta_1 - self.beta_0) * tau)


class SigmoidSchedule(RestrictedSchedule):
    """ᾱ(τ) = (s(h) − s(u)) / (s(h) − s(l)) with s the logistic sigmoid and u = l + (h − l) τ (Jabri et al. 2022).

    Since s(a) − s(b) = s(a) s(−b) (1 − e^{b−a}), no subtraction is needed: with w = h − l,

        g(τ) = κ + log expm1(w τ) − log(−expm1(−w (1 − τ))),   κ = l + log s(−l) − log s(h),
        g′(τ) = w (1 + 1/expm1(w τ) + 1/expm1(w (1 − τ))),
        g⁻¹(γ) = (softplus(γ − κ) − softplus(γ − κ − w)) / w.

    Args:
        low, high: l < h, the part of the sigmoid in use: the paper's start/τ and end/τ, −3 and 3 by default.

    Raises:
        InvalidInput: ``low`` not below ``high``.
    """

    def __init__(self, gamma_min: float, gamma_max: float, low: float = -3.0, high: float = 3.0) -> None:
        if not low < high:
            raise InvalidInput(f"low must be below high, got low={low} and high={high}")
        self.width = float(high - low)
        self.offset = low - math.log1p(math.exp(low)) + math.log1p(math.exp(-high))
        super().__init__(gamma_min, gamma_max)

    def curve(self, tau: Tensor) -> Tensor:
        before, after = self.width * tau, self.width * (1 - tau)
        return self.offset + before + torch.log(-torch.expm1(-before)) - torch.log(-torch.expm1(-after))

    def curve_rate(self, tau: Tensor) -> Tensor:
        before, after = self.width * tau, self.width * (1 - tau)
        return self.width * (1 + 1 / torch.expm1(before) + 1 / torch.expm1(after))

    def inverse(self, gamma: Tensor) -> Tensor:
        shifted = gamma - self.offset
        return (F.softplus(shifted) - F.softplus(shifted - self.width)) / self.width


@buildable
def linear_betas(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> list[float]:
    """Return α_n = 1 − β_n with β_n evenly spaced from ``first`` to ``last``: the table of DDPM (Ho et al. 2020)."""
    return (1 - torch.linspace(first, last, steps, dtype=torch.float64)).tolist()


@buildable
def cosine_betas(steps: int = 1000, most: float = 0.999) -> list[float]:
    """Return α_n = 1 − min(most, 1 − f(n/N)/f((n − 1)/N)), f(t) = cos²(π/2 (t + 0.008)/1.008) (Nichol & Dhariwal 2021)."""
    f = [math.cos((n / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for n in range(steps + 1)]
    return [1 - min(1 - after / before, most) for before, after in itertools.pairwise(f)]


def table_gammas(alphas: Sequence[float]) -> Tensor:
    """Return γ_n = log expm1(−log ᾱ_n), log ᾱ_n = Σ_{m ≤ n} log α_m, (N,) in float64.

    Raises:
        InvalidInput: fewer than two values, or values that are not in (0, 1).
    """
    table = torch.tensor(list(alphas), dtype=torch.float64)
    if table.ndim != 1 or len(table) < 2 or not ((table > 0) & (table < 1)).all():
        raise InvalidInput("a table of alphas needs at least two values, each between 0 and 1: 1 − β for each step")
    b = -table.log().cumsum(0)
    return b + torch.log(-torch.expm1(-b))


class TabulatedSchedule(RestrictedSchedule):
    """γ as a smooth function of the step number n through the values of a table of per-step α, (1.34).

    log ᾱ_n = Σ_{m ≤ n} log α_m and γ_n = log expm1(−log ᾱ_n) at n = 1 … N. Between them g is the monotone cubic of
    Fritsch & Carlson (1980) with Hermite slopes d_n = 2 m_{n−1} m_n/(m_{n−1} + m_n), the harmonic mean of the secants
    m_n = γ_{n+1} − γ_n on either side, and the secant itself at the two ends. All slopes are strictly between 0 and three
    secants, so g′ > 0 everywhere.

    Args:
        gamma_min, gamma_max: the ends; null for γ_1 and γ_N.
        alphas: α_1 … α_N, each in (0, 1); N ≥ 2. ``DiscreteTime(N)`` then has exactly the table's latents.

    Raises:
        InvalidInput: values that are not in (0, 1), or ends outside [γ_1, γ_N].
    """

    def __init__(self, gamma_min: float | None, gamma_max: float | None, alphas: Sequence[float]) -> None:
        self.knots = table_gammas(alphas)
        secants = self.knots.diff()
        inner = 2 / (1 / secants[:-1] + 1 / secants[1:])
        self.slopes = torch.cat([secants[:1], inner, secants[-1:]])
        first, last = self.knots[[0, -1]].tolist()
        super().__init__(first if gamma_min is None else gamma_min, last if gamma_max is None else gamma_max)

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
