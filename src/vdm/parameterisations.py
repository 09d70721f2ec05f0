"""What a network's output y means.

Most are linear: y is trained to equal a(γ) x_0 + b(γ) ε. With x_t = √ᾱ x_0 + σ ε (1.72) this is a 2×2 system, solved
once for all of them:

    x̂_0 = (b x_t − σ y) / d,   ε̂ = (√ᾱ y − a x_t) / d,   d = √ᾱ b − σ a.

The rest of the code sees x̂_0 and ε̂ only, so every loss weight means the same for every parameterisation. Which one is
used matters in floating point: an error δ in y becomes an error (σ/d) δ in x̂_0, and the bound weighs that by
SNR = ᾱ/σ². For ``DataParameterisation`` σ/d = 1, so that float32 rounding alone is felt at γ = −13; for the others
σ/d shrinks with σ.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, sigma2
from vdm.levels import level_centres, level_mean, need_levels


class Prediction(NamedTuple):
    """Estimates of the data and of the noise in x_t, each (B, *event), with x_t = √ᾱ x_0 + σ eps."""

    x_0: Tensor
    eps: Tensor

    @classmethod
    def from_x_0(cls, x_0: Tensor, x_t: Tensor, gamma_t: Tensor) -> "Prediction":
        """The prediction whose data estimate is ``x_0``: ε̂ = (x_t − √ᾱ x̂_0)/σ."""
        signal, noise = align(alpha_bar(gamma_t).sqrt(), x_t), align(sigma2(gamma_t).sqrt(), x_t)
        return cls(x_0, (x_t - signal * x_0) / noise)


class Parameterisation(ABC):
    """The meaning of a network's output."""

    @abstractmethod
    def target(self, x_0: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
        """What a perfect network would emit, (B, *event)."""

    @abstractmethod
    def predict(self, y: Tensor, x_t: Tensor, gamma: Tensor) -> Prediction:
        """x̂_0 and ε̂ from the output y (B, *event), given x_t and γ of shape (B,) or (B, *event)."""


class LinearParameterisation(Parameterisation):
    """y = a(γ) x_0 + b(γ) ε."""

    @abstractmethod
    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """(a, b), each of γ's shape, with √ᾱ b ≠ σ a for every γ."""

    def target(self, x_0: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
        a, b = self.coefficients(gamma)
        return align(a, x_0) * x_0 + align(b, x_0) * eps

    def predict(self, y: Tensor, x_t: Tensor, gamma: Tensor) -> Prediction:
        a, b = self.coefficients(gamma)
        signal, noise = alpha_bar(gamma).sqrt(), sigma2(gamma).sqrt()
        d = signal * b - noise * a
        x_0 = align(b / d, x_t) * x_t - align(noise / d, x_t) * y
        eps = align(signal / d, x_t) * y - align(a / d, x_t) * x_t
        return Prediction(x_0, eps)


class DataParameterisation(LinearParameterisation):
    """y = x_0. Exact in theory, hard in float32 at high SNR: see the module's text."""

    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(gamma), torch.zeros_like(gamma)


class NoiseParameterisation(LinearParameterisation):
    """y = ε (Ho et al. 2020)."""

    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(gamma), torch.ones_like(gamma)


class VelocityParameterisation(LinearParameterisation):
    """y = √ᾱ ε − σ x_0 (Salimans & Ho 2022)."""

    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        return -sigma2(gamma).sqrt(), alpha_bar(gamma).sqrt()


class ResidualNoiseParameterisation(LinearParameterisation):
    """y = ε − x_t: the official VDM, whose network adds its input to its output (Kingma et al. 2021)."""

    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        # 1 − σ = ᾱ/(1 + σ), without a difference of nearly equal numbers
        return -alpha_bar(gamma).sqrt(), alpha_bar(gamma) / (1 + sigma2(gamma).sqrt())


class PreconditionedParameterisation(LinearParameterisation):
    """x̂_0 = c_skip x_t + c_out y with unit-variance y (Karras et al. 2022, in variance-preserving form).

    With s² the data's variance and v = ᾱ s² + σ² that of x_t: c_skip = √ᾱ s²/v is the best linear denoiser and
    c_out = σ s/√v its error, so a = σ/(s √v) and b = −√ᾱ s/√v. For s = 1 this is minus the velocity.

    Args:
        sigma_data: s, the data's standard deviation about its mean, on the (−1, 1) scale; in (0, ∞).
    """

    def __init__(self, sigma_data: float) -> None:
        if not sigma_data > 0:
            raise InvalidInput(f"sigma_data must be positive, got {sigma_data}: state the data's standard deviation")
        self.sigma_data = float(sigma_data)

    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        signal2, noise2, s = alpha_bar(gamma), sigma2(gamma), self.sigma_data
        total = torch.sqrt(signal2 * s**2 + noise2)
        return noise2.sqrt() / (s * total), -signal2.sqrt() * s / total


class LevelPreconditionedParameterisation(Parameterisation):
    """x̂_0 = m(x_t) + s(γ) y, where m knows that the data are K levels (this project's own; cf. ``CategoricalLikelihood``).

    m = E[x_0 | x_t] of a single pixel with equally likely levels, and s² = E (m − x_0)² its error, so that y has about
    unit variance. Where the noise is finer than the levels, x_t gives its pixel away: m is exact and s vanishes, while a
    network under a linear parameterisation would have to learn K steep steps, pixel by pixel. The noise it cannot tell
    from x_0 there costs bits at every such γ: see ``docs/results.md`` for the measured difference.

    Cost: B · D · K exponentials a call.

    Args:
        levels: K.
    """

    def __init__(self, levels: int) -> None:
        self.levels = need_levels(levels, "parameterisation=preconditioned")
        self.gammas = torch.linspace(-20, 20, 121, dtype=torch.float64)
        self.log_errors = self._log_errors()

    def target(self, x_0: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
        x_t = align(alpha_bar(gamma).sqrt(), x_0) * x_0 + align(sigma2(gamma).sqrt(), x_0) * eps
        return (x_0 - level_mean(x_t, gamma, self.levels)) / align(self.scale(gamma), x_0)

    def predict(self, y: Tensor, x_t: Tensor, gamma: Tensor) -> Prediction:
        x_0 = level_mean(x_t, gamma, self.levels) + align(self.scale(gamma), x_t) * y
        return Prediction.from_x_0(x_0, x_t, gamma)

    def scale(self, gamma: Tensor) -> Tensor:
        """s(γ), at least σ/100, of γ's shape: interpolated between values on a grid."""
        grid = self.gammas.to(gamma)
        place = ((gamma - grid[0]) / (grid[1] - grid[0])).clamp(0, len(grid) - 1.001)
        left, log_errors = place.long(), self.log_errors.to(gamma)
        return torch.exp(torch.lerp(log_errors[left], log_errors[left + 1], place - left))

    def _log_errors(self) -> Tensor:
        """½ log E (m − x_0)² on the grid, over ε by the trapezoid rule and over at most 16 levels, with a floor."""
        eps = torch.linspace(-6, 6, 65, dtype=torch.float64)
        density = torch.softmax(-0.5 * eps.square(), 0)
        some = torch.linspace(0, self.levels - 1, min(16, self.levels)).round().long()
        x_0, errors = level_centres(self.levels, eps)[some, None].expand(-1, len(eps)), []
        for gamma in self.gammas:
            column = gamma.expand(len(some))
            x_t = alpha_bar(gamma).sqrt() * x_0 + sigma2(gamma).sqrt() * eps
            square = (level_mean(x_t, column, self.levels) - x_0).square() @ density
            errors.append(0.5 * torch.log(square.mean() + 1e-4 * sigma2(gamma)))
        return torch.stack(errors)
