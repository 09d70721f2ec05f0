"""γ linear in t: the schedule that the VDM paper learns (Kingma et al. 2021, section 3.2)."""

import torch
from torch import Tensor

from vdm.schedules.base import NoiseSchedule


class LinearSchedule(NoiseSchedule):
    """γ(t) = γ_min (1 − t) + γ_max t, with γ′ = γ_max − γ_min."""

    def forward(self, t: Tensor) -> Tensor:
        return self.gamma_min * (1 - t) + self.gamma_max * t

    def rate(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.gamma_max - self.gamma_min)
