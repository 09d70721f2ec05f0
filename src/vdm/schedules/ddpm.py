"""DDPM's linear β (Ho et al. 2020), in the continuous form of Song et al. (2021): the variance-preserving process."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vdm.errors import InvalidInput
from vdm.schedules.base import RestrictedSchedule


class DDPMSchedule(RestrictedSchedule):
    """−log ᾱ(τ) = B(τ) = β_0 τ + ½ (β_1 − β_0) τ², the integral of a rate β that grows linearly.

    g = log expm1(B) = B + log(−expm1(−B)), g′ = B′ / (−expm1(−B)), and g⁻¹ solves the quadratic for B = softplus(γ).
    With β_0 = 0.1 and β_1 = 20 it is the limit of DDPM's 1000 steps from 10⁻⁴ to 0.02. β grows beyond τ = 1 as well, so
    every γ is in its range.

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
