"""Grids of times from 1 down to 0, along which a sampler steps."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vdm.draws import scalar_dtype
from vdm.gamma import event_mean
from vdm.schedules import NoiseSchedule, time_of


class Spacing(ABC):
    """A grid of times."""

    @abstractmethod
    def times(self, schedule: NoiseSchedule, steps: int, device: torch.device) -> Tensor:
        """Return ``steps`` + 1 decreasing times, the first 1 and the last 0."""


class TimeSpacing(Spacing):
    """Even in t: the grid of the discrete-time chain."""

    def times(self, schedule: NoiseSchedule, steps: int, device: torch.device) -> Tensor:
        return torch.linspace(1, 0, steps + 1, dtype=scalar_dtype(device), device=device)


class GammaSpacing(Spacing):
    """Even in γ: the same noise levels for every schedule with the same ends.

    If γ has one value a dimension, even in its mean over the dimensions.
    """

    def times(self, schedule: NoiseSchedule, steps: int, device: torch.device) -> Tensor:
        even = torch.linspace(1, 0, steps + 1, dtype=scalar_dtype(device), device=device)
        high, low = event_mean(schedule(even[[0, -1]]))
        return torch.cat([even[:1], time_of(schedule, low + (high - low) * even[1:-1]), even[-1:]])
