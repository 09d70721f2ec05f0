"""One learned γ(t) for each dimension."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vdm.schedules.base import NoiseSchedule
from vdm.schedules.monotone import LINEAR_SHARE


class PerPixelSchedule(NoiseSchedule):
    """γ_d(t) = γ_min + (γ_max − γ_min) s_d(t) for each dimension d, the same for every example: t (B,) ↦ (B, *event).

    s_d = Σ_j c_dj b_j,n(t) in Bernstein's polynomials of degree n, with c_d0 = 0 and positive increments that sum to one:
    p_dj = ρ/n + (1 − ρ) softmax(w_d)_j. So s_d(0) = 0, s_d(1) = 1 and s_d′ = n Σ_j p_dj b_j,n−1(t) > 0 for any weights;
    equal weights, the initial ones, give the straight line.

    The bound is ½ Σ_d ∫ γ_d′(t) SNR_d(t) E(x̂_0 − x_0)_d² dt, or its sum over steps. Unlike with a scalar γ it depends on the
    paths between the ends, since x̂_0 sees all dimensions at once (Sahoo et al. 2024), so the bound trains them.

    Args:
        gamma_min, gamma_max: the ends, which are fixed and the same for all dimensions.
        event_shape: the shape of one example.
        degree: n, at least 1.
    """

    per_dimension = True

    def __init__(self, gamma_min: float, gamma_max: float, event_shape: Sequence[int], degree: int = 5) -> None:
        super().__init__(gamma_min, gamma_max)
        self.event_shape, self.degree = tuple(event_shape), degree
        self.weights = nn.Parameter(torch.zeros(math.prod(event_shape), degree))

    def forward(self, t: Tensor) -> Tensor:
        increments = self._increments(t.dtype)
        heights = torch.cat([torch.zeros_like(increments[:, :1]), increments.cumsum(1)], 1)
        share = (_bernstein(t, self.degree) @ heights.T).view(-1, *self.event_shape)
        return self.gamma_min * (1 - share) + self.gamma_max * share

    def rate(self, t: Tensor) -> Tensor:
        slope = self.degree * _bernstein(t, self.degree - 1) @ self._increments(t.dtype).T
        return (self.gamma_max - self.gamma_min) * slope.view(-1, *self.event_shape)

    def _increments(self, dtype: torch.dtype) -> Tensor:
        """(D, n), each row positive with sum one."""
        return LINEAR_SHARE / self.degree + (1 - LINEAR_SHARE) * torch.softmax(self.weights.to(dtype), 1)


def _bernstein(t: Tensor, degree: int) -> Tensor:
    """b_j,n(t) = C(n, j) t^j (1 − t)^(n−j), (B, n + 1)."""
    return torch.stack([math.comb(degree, j) * t**j * (1 - t) ** (degree - j) for j in range(degree + 1)], 1)
