"""The time at which a schedule reaches a noise level."""

import torch
from torch import Tensor

from vdm.gamma import event_mean
from vdm.schedules.base import NoiseSchedule

BISECTIONS = 53
"""The bits of a float64's fraction: more bisections of [0, 1] change nothing."""


@torch.no_grad()
def inverse(schedule: NoiseSchedule, gamma: Tensor) -> Tensor:
    """Return t in [0, 1] with γ(t) = ``gamma`` (B,), by bisection, without gradients; for every schedule.

    A γ beyond an end gives that end. If γ(t) has one value a dimension, its mean over the dimensions is inverted.
    """
    low, high = torch.zeros_like(gamma), torch.ones_like(gamma)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = event_mean(schedule(middle)) > gamma
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where(gamma < event_mean(schedule(torch.ones_like(gamma))), low, 1.0)
