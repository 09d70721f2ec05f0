"""What a noise schedule is: a strictly increasing γ(t) = −log SNR(t) on [0, 1] and its derivative.

Every schedule takes its end points. A curve whose own domain reaches γ = ±∞ (cosine, sigmoid) or some fixed value
(DDPM's β) is restricted to the part between ``gamma_min`` and ``gamma_max``, mapped affinely to [0, 1] and never clamped:
two schedules with the same ends differ in shape only, and a sweep compares shapes.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput

FURTHEST = 50.0
"""The largest |γ|: e^{−γ/2} is 1e−11 there, far below the rounding of float32 and of levels, so that no denoiser sees what a
further end adds, while SNRs and their differences stay small enough to be squared and added up."""


class NoiseSchedule(nn.Module, ABC):
    """γ(t), strictly increasing from γ(0) = gamma_min to γ(1) = gamma_max.

    Args:
        gamma_min: γ at t = 0, the least noise; −13.3 for 256 levels, −8 for 17.
        gamma_max: γ at t = 1, the most noise; 5 leaves a prior term of about 0.001 bits/dim.

    Raises:
        InvalidInput: end points that are not finite, beyond ±``FURTHEST``, or not in increasing order.
    """

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__()
        if not (math.isfinite(gamma_min) and math.isfinite(gamma_max) and gamma_min < gamma_max):
            raise InvalidInput(
                f"gamma_min must be finite and below gamma_max, got gamma_min={gamma_min} and gamma_max={gamma_max}: "
                "gamma is -log SNR and grows with the noise, as in gamma_min=-13.3 gamma_max=5"
            )
        if gamma_min < -FURTHEST or gamma_max > FURTHEST:
            raise InvalidInput(
                f"gamma_min and gamma_max must lie between -{FURTHEST:g} and {FURTHEST:g}, got gamma_min={gamma_min} and "
                f"gamma_max={gamma_max}: beyond, there is no noise or no signal left, as in gamma_min=-13.3 gamma_max=5"
            )
        self.gamma_min, self.gamma_max = float(gamma_min), float(gamma_max)

    learned_ends: bool = False
    """Whether γ(0) and γ(1) are learned."""

    per_dimension: bool = False
    """Whether γ(t) has one value for each dimension of an example, (B, *event), and not one for each example, (B,)."""

    @abstractmethod
    def forward(self, t: Tensor) -> Tensor:
        """γ(t) for t (B,) in [0, 1], in t's dtype: (B,), or (B, *event) if every dimension has its own."""

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor:
        """γ′(t) > 0 in closed form, of γ(t)'s shape."""

    @property
    def learned(self) -> bool:
        """Whether gradients train this schedule."""
        return any(parameter.requires_grad for parameter in self.parameters())

    @property
    def trainable(self) -> bool:
        """Whether training changes this schedule, by gradients or by the losses that it observes."""
        return any(True for _ in self.parameters())

    @property
    def bound_trains_it(self) -> bool:
        """Whether the continuous-time bound depends on what is learned: on the ends, or on one γ(t) for each dimension."""
        return self.learned and (self.learned_ends or self.per_dimension)

    @property
    def variance_trains_path(self) -> bool:
        """Whether the path between the ends is left to the variance of the loss in continuous time (appendix I).

        The continuous-time bound depends on a scalar γ(t) through its ends alone.
        """
        return self.learned and not self.per_dimension


class RestrictedSchedule(NoiseSchedule):
    """A known curve g(τ), cut to the τ for which g lies between the ends: γ(t) = g(τ_0 + (τ_1 − τ_0) t).

    A curve with parameters of its own sets them before it calls this class's ``__init__``, which asks for the inverse.
    """

    def __init__(self, gamma_min: float, gamma_max: float) -> None:
        super().__init__(gamma_min, gamma_max)
        ends = self.inverse(torch.tensor([self.gamma_min, self.gamma_max], dtype=torch.float64))
        self.start, self.end = ends.tolist()

    @abstractmethod
    def curve(self, tau: Tensor) -> Tensor:
        """g(τ), strictly increasing."""

    @abstractmethod
    def curve_rate(self, tau: Tensor) -> Tensor:
        """g′(τ)."""

    @abstractmethod
    def inverse(self, gamma: Tensor) -> Tensor:
        """τ with g(τ) = γ.

        Raises:
            InvalidInput: a γ that the curve never reaches.
        """

    def forward(self, t: Tensor) -> Tensor:
        return self.curve(self._tau(t))

    def rate(self, t: Tensor) -> Tensor:
        return (self.end - self.start) * self.curve_rate(self._tau(t))

    def _tau(self, t: Tensor) -> Tensor:
        return self.start * (1 - t) + self.end * t
