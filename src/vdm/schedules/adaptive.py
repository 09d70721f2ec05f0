"""A schedule that follows the loss (the adaptive schedule of VDM++, Kingma & Gao 2023)."""

import torch
from torch import Tensor

from vdm.loss_history import LossHistory, LossObserver
from vdm.schedules.base import NoiseSchedule


class AdaptiveSchedule(NoiseSchedule, LossObserver):
    """γ(t) as the inverse distribution function of p(γ) ∝ E w(γ) ‖ε − ε̂‖², which makes the loss constant in t.

    p is constant on each of K equal bins between the ends, so γ is piecewise linear in t, through γ_k = γ_min + (k/K)
    (γ_max − γ_min) at t_k = Σ_{j<k} p_j, with γ′ = (γ_max − γ_min)/(K p_k). It has no parameters: p is averaged over
    training and uniform at first, which is a straight line. The bound in continuous time does not depend on it.

    Args:
        bins: K.
        memory: in [0, 1), the weight of a bin's old mean after one new value.
        floor: the least p_k as a fraction of 1/K; γ′ is at most (γ_max − γ_min)/floor.
    """

    def __init__(
        self, gamma_min: float, gamma_max: float, bins: int = 100, memory: float = 0.99, floor: float = 0.05
    ) -> None:
        super().__init__(gamma_min, gamma_max)
        self.profile = LossHistory(bins, memory, floor)

    @property
    def trainable(self) -> bool:
        return True

    def forward(self, t: Tensor) -> Tensor:
        shares, k, start = self._bin(t)
        fraction = (k + ((t - start) / shares[k]).clamp(0, 1)) / self.profile.bins
        return self.gamma_min * (1 - fraction) + self.gamma_max * fraction

    def rate(self, t: Tensor) -> Tensor:
        shares, k, _ = self._bin(t)
        return (self.gamma_max - self.gamma_min) / (self.profile.bins * shares[k])

    def update(self, u: Tensor, loss: Tensor) -> None:
        fraction = (self(u) - self.gamma_min) / (self.gamma_max - self.gamma_min)
        self.profile.update(fraction, loss / self.rate(u))

    def _bin(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(p, k, t_k): all p (K,), and for each t its bin's number and start."""
        shares = self.profile.shares(1, t)
        ends = shares.cumsum(0)
        k = torch.searchsorted(ends, t.detach(), right=True).clamp(max=self.profile.bins - 1)
        return shares, k, (ends - shares)[k]
