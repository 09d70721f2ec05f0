"""Schedules with learned parameters: a monotone network, a path for each dimension, and learned end points."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput
from vdm.schedules.base import NoiseSchedule

LINEAR_SHARE = 0.01
"""Usual share of the straight line in a learned path: γ′ is at least this times γ_max − γ_min."""


class MonotoneSchedule(NoiseSchedule):
    """γ(t) = γ_min + (γ_max − γ_min) s(t), s from a three-layer network (Kingma et al. 2021, appendix H).

    n(t) = l_1(τ) + l_3(sigmoid(l_2(τ))) on τ = 2t − 1: n = a τ + Σ_k v_k sigmoid(w_k τ + b_k), with a, v, w > 0, and
    n′ = 2a + 2 Σ_k v_k w_k sigmoid′(w_k τ + b_k). Then s(t) = ρ t + (1 − ρ) (n(t) − n(0))/(n(1) − n(0)), so that
    s(0) = 0 and s(1) = 1 whatever the weights are, and s′ ≥ ρ. Close to a straight line at first.

    Args:
        hidden: K, the width of the network.
        linear_share: ρ, in [0, 1); 0 is the network alone, as in the official VDM.

    Raises:
        InvalidInput: ρ outside [0, 1).
    """

    def __init__(self, gamma_min: float, gamma_max: float, hidden: int = 64, linear_share: float = LINEAR_SHARE) -> None:
        super().__init__(gamma_min, gamma_max)
        if not 0 <= linear_share < 1:
            raise InvalidInput(f"linear_share must be in [0, 1), got {linear_share}: {LINEAR_SHARE} is usual")
        self.linear_share = float(linear_share)
        self.slope = nn.Parameter(torch.tensor(0.0))
        self.heights = nn.Parameter(torch.full((hidden,), -3.0))
        self.steepness = nn.Parameter(torch.full((hidden,), 8.0))
        self.offsets = nn.Parameter(-8.0 * torch.linspace(-1, 1, hidden))

    def forward(self, t: Tensor) -> Tensor:
        first, last = self._network(torch.arange(2, dtype=t.dtype, device=t.device))
        share = self.linear_share * t + (1 - self.linear_share) * (self._network(t) - first) / (last - first)
        return self.gamma_min * (1 - share) + self.gamma_max * share

    def rate(self, t: Tensor) -> Tensor:
        first, last = self._network(torch.arange(2, dtype=t.dtype, device=t.device))
        slope, heights, steepness, offsets = self._weights(t.dtype)
        gate = torch.sigmoid(steepness * (2 * t - 1).unsqueeze(-1) + offsets)
        network_rate = 2 * slope + 2 * (heights * steepness * gate * (1 - gate)).sum(-1)
        slope = self.linear_share + (1 - self.linear_share) * network_rate / (last - first)
        return (self.gamma_max - self.gamma_min) * slope

    def _network(self, t: Tensor) -> Tensor:
        slope, heights, steepness, offsets = self._weights(t.dtype)
        tau = 2 * t - 1
        return slope * tau + (heights * torch.sigmoid(steepness * tau.unsqueeze(-1) + offsets)).sum(-1)

    def _weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(a, v, w, b) in t's dtype, the first three made positive."""
        raw = (self.slope, self.heights, self.steepness)
        slope, heights, steepness = (F.softplus(weight.to(dtype)) for weight in raw)
        return slope, heights, steepness, self.offsets.to(dtype)


class PerPixelSchedule(NoiseSchedule):
    """γ_d(t) = γ_min + (γ_max − γ_min) s_d(t) for each dimension d, the same for every example: t (B,) ↦ (B, *event).

    s_d = Σ_j c_dj b_j,n(t) in Bernstein's polynomials of degree n, with c_d0 = 0 and positive increments that sum to one:
    p_dj = ρ/n + (1 − ρ) softmax(w_d)_j. So s_d(0) = 0, s_d(1) = 1 and s_d′ = n Σ_j p_dj b_j,n−1(t) > 0 for any weights;
    equal weights, the initial ones, give the straight line.

    The bound is ½ Σ_d ∫ γ_d′(t) SNR_d(t) E(x̂_0 − x_0)_d² dt, or its sum over steps. Unlike with a scalar γ it depends on the
    paths between the ends, since x̂_0 sees all dimensions at once (Sahoo et al. 2024), so the bound trains them.

    Args:
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


RANGES = {"gamma_min": (-15.0, -3.0), "gamma_max": (3.0, 12.0)}
"""The allowed ranges of learned ends, within which the bound has an optimum and γ(0) < γ(1) always holds."""


class LearnedEnds(NoiseSchedule):
    """γ(t) = γ_0 + (γ_1 − γ_0) s(t): the shape s of a given schedule between learned ends γ_0 and γ_1.

    With a straight line as the shape this is the learned schedule of the VDM paper (Kingma et al. 2021). The ends start at
    those of the given schedule; a step beyond the edge of the allowed range is reflected. ``gamma_min`` and ``gamma_max``
    stay the initial values.

    Args:
        schedule: the shape; its ends are constants.

    Raises:
        InvalidInput: ends outside [−15, −3] and [3, 12].
    """

    learned_ends = True

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__(schedule.gamma_min, schedule.gamma_max)
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(
                    f"a learned {name} is kept within [{low:g}, {high:g}], got {name}={getattr(self, name):g}: start "
                    "inside, or use a schedule with fixed ends"
                )
        self.schedule, self.per_dimension = schedule, schedule.per_dimension
        self.moved_min, self.moved_max = nn.Parameter(torch.tensor(0.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, t: Tensor) -> Tensor:
        low, high = self._ends(t.dtype)
        shape = (self.schedule(t) - self.gamma_min) / (self.gamma_max - self.gamma_min)
        return low * (1 - shape) + high * shape

    def rate(self, t: Tensor) -> Tensor:
        low, high = self._ends(t.dtype)
        return (high - low) / (self.gamma_max - self.gamma_min) * self.schedule.rate(t)

    def _ends(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(γ_0, γ_1): the initial values plus the learned, reflected offsets."""
        low = _reflected(self.moved_min.to(dtype), *(edge - self.gamma_min for edge in RANGES["gamma_min"]))
        high = _reflected(self.moved_max.to(dtype), *(edge - self.gamma_max for edge in RANGES["gamma_max"]))
        return self.gamma_min + low, self.gamma_max + high


def _reflected(x: Tensor, low: float, high: float) -> Tensor:
    """x reflected at ``low`` and ``high`` until it lies between them; the identity there, of slope ±1 everywhere."""
    phase = torch.remainder(x - low, 2 * (high - low))
    return low + torch.where(phase <= high - low, phase, 2 * (high - low) - phase)
