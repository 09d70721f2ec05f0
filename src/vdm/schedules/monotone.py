"""A monotone network for γ (Kingma et al. 2021, appendix H), with fixed ends."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput
from vdm.schedules.base import NoiseSchedule

LINEAR_SHARE = 0.01
"""Usual share of the straight line in a learned path: γ′ is at least this times γ_max − γ_min."""


class MonotoneSchedule(NoiseSchedule):
    """γ(t) = γ_min + (γ_max − γ_min) s(t), with s renormalised from a three-layer network with positive weights.

    n(t) = l_1(τ) + l_3(sigmoid(l_2(τ))) on τ = 2t − 1: n = a τ + Σ_k v_k sigmoid(w_k τ + b_k), with a, v, w > 0, and
    n′ = 2a + 2 Σ_k v_k w_k sigmoid′(w_k τ + b_k). Then s(t) = ρ t + (1 − ρ) (n(t) − n(0))/(n(1) − n(0)), so that
    s(0) = 0 and s(1) = 1 whatever the weights are, and s′ ≥ ρ. Close to a straight line at first.

    Args:
        gamma_min, gamma_max: the ends, which are fixed.
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
        return (self.gamma_max - self.gamma_min) * (
            self.linear_share + (1 - self.linear_share) * network_rate / (last - first)
        )

    def _network(self, t: Tensor) -> Tensor:
        slope, heights, steepness, offsets = self._weights(t.dtype)
        tau = 2 * t - 1
        return slope * tau + (heights * torch.sigmoid(steepness * tau.unsqueeze(-1) + offsets)).sum(-1)

    def _weights(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(a, v, w, b) in t's dtype, the first three made positive."""
        raw = (self.slope, self.heights, self.steepness)
        slope, heights, steepness = (F.softplus(weight.to(dtype)) for weight in raw)
        return slope, heights, steepness, self.offsets.to(dtype)
