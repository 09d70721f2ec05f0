"""The interface of noise schedules: a strictly increasing γ(t) = −log SNR(t) on [0, 1] and its derivative.

Every schedule takes its end points. A curve that reaches γ = ±∞ (cosine, sigmoid) or some fixed value (DDPM's β) is
restricted to the part between ``gamma_min`` and ``gamma_max``, mapped affinely to [0, 1] and never clamped. Two schedules
with the same ends then differ in shape only, and a sweep compares shapes.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput
from vdm.gamma import event_mean

LARGEST_GAMMA = 50.0
"""The largest |γ|. The smaller of signal and noise scale is 1e−11 there, far below the rounding of float32 and of levels,
and SNRs and their differences can still be squared and summed."""


class NoiseSchedule(nn.Module, ABC):
    """γ(t), strictly increasing from γ(0) = gamma_min to γ(1) = gamma_max.

    Args:
        gamma_min: γ at t = 0, the least noise; for example −13.3 for 256 levels, −8 for 17.
        gamma_max: γ at t = 1, the most noise; with 5 the prior term is about 0.001 bits/dim.

    Raises:
        InvalidInput: end points that are not finite, beyond ±``LARGEST_GAMMA``, or not in increasing order.
    """

    learned_ends: bool = False
    """Whether γ(0) and γ(1) are learned."""

    per_dimension: bool = False
    """Whether γ(t) has one value a dimension, (B, *event), instead of one an example, (B,)."""

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        if not (math.isfinite(gamma_min) and math.isfinite(gamma_max) and gamma_min < gamma_max):
            raise InvalidInput(
                f"gamma_min must be finite and below gamma_max, got gamma_min={gamma_min} and gamma_max={gamma_max}: "
                "gamma is -log SNR and grows with the noise; try gamma_min=-13.3 gamma_max=5"
            )
        if gamma_min < -LARGEST_GAMMA or gamma_max > LARGEST_GAMMA:
            raise InvalidInput(
                f"gamma_min and gamma_max must be between ±{LARGEST_GAMMA:g}, got gamma_min={gamma_min} and "
                f"gamma_max={gamma_max}: beyond, no noise or no signal is left; try gamma_min=-13.3 gamma_max=5"
            )
        self.gamma_min, self.gamma_max = float(gamma_min), float(gamma_max)

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """Return γ(t) for t (B,) in [0, 1], in t's dtype: (B,), or (B, *event) if ``per_dimension``."""

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor:
        """Return γ′(t) > 0 in closed form, of γ(t)'s shape."""

    def with_condition(self, latent: Tensor) -> "NoiseSchedule":
        """Return γ(t) for rows with these auxiliary latents (B, L): the schedule itself, unless it depends on them."""
        return self

    @property
    def shared(self) -> "NoiseSchedule":
        """Return one γ(t) for all rows, which sets the grid of a sampler."""
        return self

    @property
    def learned(self) -> bool:
        """Whether gradients train this schedule."""
        return any(parameter.requires_grad for parameter in self.parameters())

    @property
    def trainable(self) -> bool:
        """Whether training changes this schedule, by gradients or by the losses that it observes."""
        return any(True for _ in self.parameters())

    @property
    def trained_by_bound(self) -> bool:
        """Whether the bound in continuous time depends on what is learned: on the ends, or on a path a dimension."""
        return self.learned and (self.learned_ends or self.per_dimension)

    @property
    def variance_trains_path(self) -> bool:
        """Whether the loss variance trains the path in continuous time, which the bound of a scalar γ(t) does not."""
        return self.learned and not self.per_dimension


@torch.no_grad()
def time_of(schedule: NoiseSchedule, gamma: Tensor) -> Tensor:
    """Return t in [0, 1] with γ(t) = ``gamma`` (B,), by bisection, without gradients; for every schedule.

    A γ beyond an end gives that end. If γ(t) has one value a dimension, its mean over the dimensions is inverted.
    """
    low, high = torch.zeros_like(gamma), torch.ones_like(gamma)
    for _ in range(53):  # the bits of a float64: more bisections of [0, 1] change nothing
        middle = (low + high) / 2
        above = event_mean(schedule(middle)) > gamma
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where(gamma < event_mean(schedule(torch.ones_like(gamma))), low, 1.0)


class RestrictedSchedule(NoiseSchedule):
    """A known curve g(τ), restricted to the τ where g is between the ends: γ(t) = g(τ_0 + (τ_1 − τ_0) t).

    A subclass sets its own parameters before it calls this class's ``__init__``, which calls ``inverse``.
    """

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__(gamma_min, gamma_max)
        ends = self.inverse(torch.tensor([self.gamma_min, self.gamma_max], dtype=torch.float64))
        self.start, self.end = ends.tolist()

    @abstractmethod
    def curve(self, tau: Tensor) -> Tensor:
        """Return g(τ), strictly increasing."""

    @abstractmethod
    def curve_rate(self, tau: Tensor) -> Tensor:
        """Return g′(τ)."""

    @abstractmethod
    def inverse(self, gamma: Tensor) -> Tensor:
        """Return τ with g(τ) = γ.

        Raises:
            InvalidInput: a γ outside the curve's range.
        """

    def forward(self, t: Tensor) -> Tensor:
        return self.curve(self._tau(t))

    def rate(self, t: Tensor) -> Tensor:
        return (self.end - self.start) * self.curve_rate(self._tau(t))

    def _tau(self, t: Tensor) -> Tensor:
        return self.start * (1 - t) + self.end * t
