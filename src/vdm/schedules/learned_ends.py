"""A schedule whose end points are learned."""

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput
from vdm.schedules.base import NoiseSchedule

BOXES = {"gamma_min": (-15.0, -3.0), "gamma_max": (3.0, 12.0)}
"""Where the ends are kept: within them the bound has an optimum, and γ(0) < γ(1) always holds."""


class LearnedEnds(NoiseSchedule):
    """γ(t) = γ_0 + (γ_1 − γ_0) s(t): the shape s of a given schedule between learned ends γ_0 and γ_1.

    With a straight line for the shape this is the schedule that the VDM paper learns. The ends start at the given
    schedule's; a step beyond the edge of a box is folded back into it. ``gamma_min`` and ``gamma_max`` remain the values
    at the start.

    Args:
        schedule: the shape; its ends are constants.

    Raises:
        InvalidInput: ends outside [−15, −3] and [3, 12].
    """

    learned_ends = True

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__(schedule.gamma_min, schedule.gamma_max)
        for name, (low, high) in BOXES.items():
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
        """(γ_0, γ_1), each its start plus what it moved by."""
        low = self.gamma_min + _folded(self.moved_min.to(dtype), *(edge - self.gamma_min for edge in BOXES["gamma_min"]))
        high = self.gamma_max + _folded(self.moved_max.to(dtype), *(edge - self.gamma_max for edge in BOXES["gamma_max"]))
        return low, high


def _folded(x: Tensor, low: float, high: float) -> Tensor:
    """x reflected at ``low`` and ``high`` until it lies between them; the identity there, of slope ±1 everywhere."""
    phase = torch.remainder(x - low, 2 * (high - low))
    return low + torch.where(phase <= high - low, phase, 2 * (high - low) - phase)
