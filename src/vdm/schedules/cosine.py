"""The cosine schedule (Nichol & Dhariwal 2021), in continuous form and without its offset."""

import math

import torch
from torch import Tensor

from vdm.schedules.base import RestrictedSchedule


class CosineSchedule(RestrictedSchedule):
    """ᾱ(τ) = cos²(πτ/2): g(τ) = 2 log tan(πτ/2), with g′ = 2π / sin(πτ) and g⁻¹(γ) = (2/π) atan e^{γ/2}."""

    def curve(self, tau: Tensor) -> Tensor:
        return 2 * torch.log(torch.tan(math.pi / 2 * tau))

    def curve_rate(self, tau: Tensor) -> Tensor:
        return 2 * math.pi / torch.sin(math.pi * tau)

    def inverse(self, gamma: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan(torch.exp(gamma / 2))
