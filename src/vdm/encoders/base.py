"""The interface of encoders."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class MeanAndRate(NamedTuple):
    """f(x, γ) and ∂f/∂γ, each (B, *event)."""

    mean: Tensor
    rate: Tensor


class MeanEncoder(nn.Module, ABC):
    """f(x, γ): what q(x_t | x) = N(√ᾱ f(x, γ_t), σ² I) has in the place of x (Nielsen et al. 2024, Bartosh et al. 2024).

    At the end γ_min f has to be close to x, or the reconstruction term grows.
    """

    @abstractmethod
    def forward(self, x_0: Tensor, gamma: Tensor) -> Tensor:
        """Return f(x, γ), (B, *event), for x_0 (B, *event) and γ, (B,) or (B, *event)."""

    def with_rate(self, x_0: Tensor, gamma: Tensor) -> MeanAndRate:
        """Return f(x, γ) and its derivative with respect to γ, by forward differentiation through ``forward``."""
        with torch.inference_mode(False), sdpa_kernel(SDPBackend.MATH):  # the fused attention has no forward derivative
            x, level = (value.clone() if value.is_inference() else value for value in (x_0, gamma))
            return MeanAndRate(*torch.func.jvp(lambda each: self(x, each), (level,), (torch.ones_like(level),)))
