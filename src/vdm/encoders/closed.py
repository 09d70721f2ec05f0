"""Encoders in closed form."""

import torch
from torch import Tensor

from vdm.encoders.base import MeanAndRate, MeanEncoder
from vdm.errors import finite
from vdm.gamma import align, alpha_bar, sigma2


class IdentityEncoder(MeanEncoder):
    """f = x: the VDM, bit for bit."""

    def forward(self, x_0: Tensor, gamma: Tensor) -> Tensor:
        return x_0

    def with_rate(self, x_0: Tensor, gamma: Tensor) -> MeanAndRate:
        return MeanAndRate(x_0, torch.zeros_like(x_0))


class LinearEncoder(MeanEncoder):
    """f = ᾱ^p x, with ∂f/∂γ = −p σ² f: the signal fades faster than the noise grows. p = 0 is the identity.

    Args:
        power: p; 1 is the fixed encoder of DiffEnc (Nielsen et al. 2024, arXiv 2310.19789).
    """

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        finite(power=power)
        self.power = float(power)

    def forward(self, x_0: Tensor, gamma: Tensor) -> Tensor:
        return align(alpha_bar(gamma) ** self.power, x_0) * x_0

    def with_rate(self, x_0: Tensor, gamma: Tensor) -> MeanAndRate:
        mean = self(x_0, gamma)
        return MeanAndRate(mean, -self.power * align(sigma2(gamma), x_0) * mean)
