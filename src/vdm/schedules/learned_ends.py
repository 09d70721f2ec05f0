"""A schedule with learned end points."""

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput
from vdm.schedules.base import NoiseSchedule

RANGES = {"gamma_min": (-15.0, -3.0), "gamma_max": (3.0, 12.0)}
"""The allowed ranges of the ends, within which the bound has an optimum and γ(0) < γ(1) always holds."""


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
        low = self.gamma_min + _reflected(self.moved_min.to(dtype), *(edge - self.gamma_min for edge in RANGES["gamma_min"]))
        high = self.gamma_max + _reflected(
            self.moved_max.to(dtype), *(edge - self.gamma_max for edge in RANGES["gamma_max"])
        )
        return low, high


def _reflected(x: Tensor, low: float, high: float) -> Tensor:
    """x reflected at ``low`` and ``high`` until it lies between them; the identity there, of slope ±1 everywhere."""
    phase = torch.remainder(x - low, 2 * (high - low))
    return low + torch.where(phase <= high - low, phase, 2 * (high - low) - phase)
