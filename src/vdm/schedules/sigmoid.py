"""The sigmoid schedule (Jabri et al. 2022)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vdm.errors import InvalidInput
from vdm.schedules.base import RestrictedSchedule


class SigmoidSchedule(RestrictedSchedule):
    """ᾱ(τ) = (s(h) − s(u)) / (s(h) − s(l)) with s the logistic sigmoid and u = l + (h − l) τ.

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
