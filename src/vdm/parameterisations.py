"""Parameterisations: the meaning of a network's output y.

Most are linear: y is trained to equal a(γ) x_0 + b(γ) ε. With x_t = √ᾱ x_0 + σ ε (1.72) this is a 2×2 system, solved
once for all of them:

    x̂_0 = (b x_t − σ y) / d,   ε̂ = (√ᾱ y − a x_t) / d,   d = √ᾱ b − σ a.

The rest of the code sees x̂_0 and ε̂ only, so a loss weight means the same for every parameterisation. They differ in floating
point: an error δ in y becomes an error (σ/d) δ in x̂_0, and the bound weighs it by SNR = ᾱ/σ². For ``DataParameterisation``
σ/d = 1, so that the rounding of float32 matters at γ = −13; for the others σ/d decreases with σ.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, sigma2, signal_and_noise, snr
from vdm.levels import level_centres, level_logits, level_mean, level_prior, nearby_level_mean
from vdm.process import q_sample


class Prediction(NamedTuple):
    """Estimates of the data and of the noise in x_t, each (B, *event), with x_t = √ᾱ x_0 + σ eps."""

    x_0: Tensor
    eps: Tensor

    @classmethod
    def from_x_0(cls, x_0: Tensor, x_t: Tensor, gamma_t: Tensor) -> "Prediction":
        """Return the prediction with the data estimate ``x_0``: ε̂ = (x_t − √ᾱ x̂_0)/σ, (1.72) solved for ε."""
        signal, noise = signal_and_noise(gamma_t, x_t)
        return cls(x_0, (x_t - signal * x_0) / noise)

    def moved(self, x_0: Tensor, gamma_t: Tensor) -> "Prediction":
        """Return the prediction at the same x_t with the data estimate ``x_0``: ε̂ moves by √ᾱ/σ times the difference."""
        signal, noise = signal_and_noise(gamma_t, x_0)
        return Prediction(x_0, self.eps + signal / noise * (self.x_0 - x_0))


class DataDependentInit(ABC):
    """A part that is initialised from the training data before the first step."""

    @abstractmethod
    def init_from_data(self, x: Tensor) -> None:
        """Set buffers, which are part of every checkpoint, from training examples (N, *event)."""


class Parameterisation(ABC):
    """The meaning of a network's output: y of x_t's shape (B, *event), or (B, *event, ``outputs``) if that is not 1."""

    outputs: int = 1

    def network_input(self, x_t: Tensor, gamma: Tensor) -> Tensor:
        """Return what the network sees of x_t, (B, *event): x_t itself."""
        return x_t

    @abstractmethod
    def target(self, x_0: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
        """Return the output of a perfect network for x_0 (B, *event)."""

    @abstractmethod
    def predict(self, y: Tensor, x_t: Tensor, gamma: Tensor) -> Prediction:
        """Return x̂_0 and ε̂ for the output y, given x_t (B, *event) and γ, (B,) or (B, *event)."""


class LinearParameterisation(Parameterisation):
    """y = a(γ) x_0 + b(γ) ε."""

    @abstractmethod
    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """Return (a, b), each of γ's shape, with √ᾱ b ≠ σ a for every γ."""

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


class StraightParameterisation(LinearParameterisation):
    """y = (ε − x_0)/√2, from x_t on the straight path between them, α x_0 + (1 − α) ε with the same SNR.

    α = sigmoid(−γ/2), and the network sees x_t/(√ᾱ + σ). The process stays variance-preserving: a path with another scale
    is the same model in other units (Zheng et al. 2023, arXiv 2305.03935; Liu et al. 2023).
    """

    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        half = torch.full_like(gamma, math.sqrt(0.5))
        return -half, half

    def network_input(self, x_t: Tensor, gamma: Tensor) -> Tensor:
        signal, noise = signal_and_noise(gamma, x_t)
        return x_t / (signal + noise)


class ResidualNoiseParameterisation(LinearParameterisation):
    """y = ε − x_t: the official VDM, whose network adds x_t to its output (Kingma et al. 2021)."""

    def coefficients(self, gamma: Tensor) -> tuple[Tensor, Tensor]:
        # 1 − σ = ᾱ/(1 + σ), without subtracting nearly equal numbers
        return -alpha_bar(gamma).sqrt(), alpha_bar(gamma) / (1 + sigma2(gamma).sqrt())


class PreconditionedParameterisation(LinearParameterisation):
    """x̂_0 = c_skip x_t + c_out y with unit-variance y (Karras et al. 2022, in variance-preserving form).

    With s² the data's variance and v = ᾱ s² + σ² the variance of x_t, c_skip = √ᾱ s²/v is the best linear denoiser and
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


def check_levels(levels: int) -> int:
    """Return ``levels``; raise InvalidInput for fewer than two, or None."""
    if levels is None or levels < 2:
        raise InvalidInput(f"this parameterisation needs data with at least two levels, got {levels}: use preconditioned")
    return int(levels)


class RoundedParameterisation(Parameterisation):
    """x̂_0 = E[v_k | N(v_k; m, 1/τ)] over the levels v_k, about the preconditioned estimate m = c_skip x_t + c_out y.

    N(m, 1/τ) is a pixel's Gaussian posterior, with the precision τ = SNR + 1/s² of x_t and the data's variance, and a mean
    that y corrects; the levels are then exact knowledge. They change nothing where the noise is wider than a level, and
    round where it is finer. A linear parameterisation leaves these K steps to the network, or to Fourier features of x_t,
    and costs bits while they are not learned (``docs/results.md``). One output a dimension, and a sum over fifteen levels.
    (This project's own.)

    Args:
        sigma_data: s, as for ``preconditioned``.
        levels: K.

    Raises:
        InvalidInput: fewer than two levels.
    """

    def __init__(self, sigma_data: float, levels: int) -> None:
        self.linear, self.levels = PreconditionedParameterisation(sigma_data), check_levels(levels)

    def target(self, x_0: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
        """Find m for any real x_0 by bisection: x̂_0 increases with m and is within half a step of it."""
        x_t = q_sample(x_0, eps, gamma)
        low, high = x_0 - 1 / self.levels, x_0 + 1 / self.levels
        for _ in range(60):
            middle = (low + high) / 2
            above = self._round(middle, gamma) > x_0
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return self.linear.target(*Prediction.from_x_0((low + high) / 2, x_t, gamma), gamma)

    def predict(self, y: Tensor, x_t: Tensor, gamma: Tensor) -> Prediction:
        return Prediction.from_x_0(self._round(self.linear.predict(y, x_t, gamma).x_0, gamma), x_t, gamma)

    def _round(self, mean: Tensor, gamma: Tensor) -> Tensor:
        return nearby_level_mean(mean, align(snr(gamma) + 1 / self.linear.sigma_data**2, mean), self.levels)


class LevelPosteriorParameterisation(nn.Module, DataDependentInit, Parameterisation):
    """x̂_0 = Σ_k π_k v_k with π_k ∝ p_k N(x_t; √ᾱ v_k, σ²) e^{y_k}: Bayes' rule for a pixel with K levels.

    Given all of x_t, the probability of a pixel's level is N(x_t; √ᾱ v_k, σ²) p(k | all *other* pixels of x_t), up to a
    constant. The first factor is known, and dominates where the noise is finer than the levels; the network gives the log
    ratio of the second to p_k, the share of level k in the training data. This is a smooth function of similar size at every
    γ, and y = 0 is the best denoiser of single pixels. A linear parameterisation leaves the K steps of the first factor to
    the network, and costs bits while they are not learned: see ``docs/results.md``. (This project's own; score
    interpolation, Dieleman et al. 2022, takes the mean of a softmax as well, without the known factor.)

    Cost: a softmax over B · D · K numbers a call. It is slow to learn for photographs, where p(k | other pixels) is narrow
    and y has to become large: a linear parameterisation is ahead for a long time (``docs/results.md``).

    Args:
        levels: K.

    Raises:
        InvalidInput: fewer than two levels.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.outputs = check_levels(levels)
        self.prior: Tensor
        self.register_buffer("prior", torch.full((self.outputs,), -math.log(self.outputs)))

    def init_from_data(self, x: Tensor) -> None:
        self.prior.copy_(level_prior(x[:: -(-len(x) // PRIOR_EXAMPLES)], self.outputs))

    def target(self, x_0: Tensor, eps: Tensor, gamma: Tensor) -> Tensor:
        """Return one of many solutions: weights on the two levels next to x_0, and 10⁻³⁰ on the others."""
        x_t = q_sample(x_0, eps, gamma)
        distance = (x_0.unsqueeze(-1) - level_centres(self.outputs, x_0)).abs() * (self.outputs / 2)
        return (1 - distance).clamp(min=1e-30).log() - level_logits(x_t, gamma, self.outputs) - self.prior.to(x_0)

    def predict(self, y: Tensor, x_t: Tensor, gamma: Tensor) -> Prediction:
        return Prediction.from_x_0(level_mean(x_t, gamma, self.prior.to(x_t), y), x_t, gamma)


PRIOR_EXAMPLES = 10_000
"""The most training examples, evenly spaced in the data set, from which the share of each level is measured."""
