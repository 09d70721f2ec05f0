"""MuLAN's γ: one polynomial path for each dimension, given an auxiliary latent of the example."""

import math
from collections.abc import Sequence
from copy import copy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.networks.blocks import zero_init
from vdm.schedules.base import NoiseSchedule

LEAST = 1e-3
"""The least c, so that γ increases at t = 0."""


class PolynomialSchedule(NoiseSchedule):
    """γ_d(t) = γ_min + (γ_max − γ_min) P_d(t)/P_d(1) with P_d(t) = ∫_0^t (a u² + b u + c)² du, and a, b, c(z) for each d.

    z goes through two dense layers of ``hidden`` units; a and b are linear in the second, c = 10⁻³ + softplus of one more
    map (Sahoo et al. 2024, arXiv 2312.13236). At first a straight line. Without a latent, γ is the one for z = 0.

    Args:
        gamma_min, gamma_max: the ends, which are fixed and the same for all dimensions and latents.
        event_shape: the shape of one example.
        latent: the size of z.
        hidden: width.
    """

    per_dimension = True

    def __init__(
        self, gamma_min: float, gamma_max: float, event_shape: Sequence[int], latent: int = 1, hidden: int = 64
    ) -> None:
        super().__init__(gamma_min, gamma_max)
        self.event_shape, self.size = tuple(event_shape), latent
        self.first, self.second = nn.Linear(latent, hidden), nn.Linear(hidden, hidden)
        self.a, self.b, self.c = (zero_init(nn.Linear(hidden, math.prod(event_shape))) for _ in range(3))
        self.z: Tensor | None = None

    def with_condition(self, latent: Tensor) -> Self:
        other = copy(self)
        other.z = latent
        return other

    @property
    def shared(self) -> Self:
        other = copy(self)
        other.z = None
        return other

    def coefficients(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (a, b, c), (B, D) or (1, D) each, in the dtype of ``like``."""
        z = like.new_zeros(1, self.size) if self.z is None else self.z.to(like.dtype)
        h = F.silu(_dense(self.second, F.silu(_dense(self.first, z))))
        return _dense(self.a, h), _dense(self.b, h), LEAST + F.softplus(_dense(self.c, h))

    def forward(self, t: Tensor) -> Tensor:
        a, b, c = self.coefficients(t)
        share = (_integral(a, b, c, t[:, None]) / _integral(a, b, c, torch.ones_like(t[:, None]))).view(
            -1, *self.event_shape
        )
        return self.gamma_min * (1 - share) + self.gamma_max * share

    def rate(self, t: Tensor) -> Tensor:
        a, b, c = self.coefficients(t)
        u = t[:, None]
        slope = (a * u * u + b * u + c).square() / _integral(a, b, c, torch.ones_like(u))
        return (self.gamma_max - self.gamma_min) * slope.view(-1, *self.event_shape)


def _dense(layer: nn.Linear, x: Tensor) -> Tensor:
    """The layer in x's dtype: γ is computed in the dtype of t, whatever that of the weights is."""
    return F.linear(x, layer.weight.to(x.dtype), layer.bias.to(x.dtype))


def _integral(a: Tensor, b: Tensor, c: Tensor, t: Tensor) -> Tensor:
    """∫_0^t (a u² + b u + c)² du."""
    return t * (c * c + t * (b * c + t * ((b * b + 2 * a * c) / 3 + t * (a * b / 2 + t * a * a / 5))))
