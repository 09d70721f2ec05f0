"""The forward process q of (1.33)–(1.34) and the reverse kernel p_θ of (1.96), as values of ``torch.distributions``.

All conditionals hold for any s < t, neighbours or not. c = −expm1(γ_s − γ_t) is ``gamma.step_fraction``. γ has the shape
(B,), one value an example, or (B, *event), one value a dimension.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from vdm.draws import AbstractDraws
from vdm.gamma import align, alpha_bar, sigma2, signal_and_noise, step_fraction

if TYPE_CHECKING:
    from vdm.parameterisations import Prediction


def gaussian(mean: Tensor, scale: Tensor) -> Independent:
    """Return N(mean, diag(scale²)) over the event dimensions of ``mean`` (B, *event); scale has mean's shape."""
    return Independent(Normal(mean, scale, validate_args=False), mean.ndim - 1, validate_args=False)


def isotropic(mean: Tensor, variance: Tensor) -> Independent:
    """Return N(mean, variance I) over the event dimensions of ``mean`` (B, *event); variance (B,) or (B, *event)."""
    return gaussian(mean, align(variance.sqrt(), mean).expand_as(mean))


def standard_normal(like: Tensor) -> Independent:
    """Return N(0, I) for the rows of ``like`` (B, *event)."""
    return isotropic(torch.zeros_like(like), like.new_ones(len(like)))


def reparameterise(kernel: Independent, noise: Tensor) -> Tensor:
    """Return mean + standard deviation · ``noise``: a draw that gradients pass through (Kingma & Welling 2014)."""
    return kernel.mean + kernel.stddev * noise


def reparameterised_sample(kernel: Independent, draws: AbstractDraws, name: str) -> Tensor:
    """Draw from ``kernel`` with the standard normals called ``name``."""
    return reparameterise(kernel, draws.normal(name, kernel.mean))


class ForwardProcess:
    """q(x_t | x_0), q(x_t | x_s) and q(x_s | x_t, x_0), given values of γ, and what a model makes of them.

    The last three methods are for processes whose mean is not √ᾱ x_0 (``vdm.encoders``); here they return what they get.
    """

    def marginal(self, x_0: Tensor, gamma_t: Tensor) -> Independent:
        """q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I): (1.73), derived in (1.64)–(1.72)."""
        signal, noise = signal_and_noise(gamma_t, x_0)
        return gaussian(signal * x_0, noise.expand_as(x_0))

    def transition(self, x_s: Tensor, gamma_s: Tensor, gamma_t: Tensor, x_0: Tensor | None = None) -> Independent:
        """q(x_t | x_s) = N(√α x_s, (1 − α) I), (1.34) and (1.63), with α = ᾱ_t/ᾱ_s and 1 − α = (1 − ᾱ_t) c.

        It does not depend on ``x_0`` here.
        """
        signal = (alpha_bar(gamma_t) / alpha_bar(gamma_s)).sqrt()
        return isotropic(align(signal, x_s) * x_s, sigma2(gamma_t) * step_fraction(gamma_s, gamma_t))

    def posterior(self, x_0: Tensor, x_t: Tensor, gamma_s: Tensor, gamma_t: Tensor) -> Independent:
        """q(x_s | x_t, x_0) with the mean (1.88) and the variance (1.89), in stable form.

        mean = √(ᾱ_s/ᾱ_t) (1 − c) x_t + √ᾱ_s c x_0, variance = (1 − ᾱ_s) c.
        """
        return _towards(self.target(x_0, gamma_s, gamma_t), x_t, gamma_s, gamma_t)

    def reverse(self, x_hat: Tensor, x_t: Tensor, gamma_s: Tensor, gamma_t: Tensor) -> Independent:
        """p_θ(x_s | x_t) = q(x_s | x_t, x_0 = x̂_0), (1.96), with ``x_hat`` = x̂_0(x_t) the denoiser's estimate."""
        return _towards(self.estimate(x_hat, gamma_s, gamma_t), x_t, gamma_s, gamma_t)

    def check_markov(self) -> None:
        """Raise InvalidInput if q(x_t | x_s, x_0) depends on x_0."""

    def target(self, x_0: Tensor, gamma_s: Tensor | None, gamma_t: Tensor) -> Tensor:
        """Return what stands in the place of x_0 in (1.88), (B, *event); γ_s is None for the limit s → t."""
        return x_0

    def estimate(self, x_hat: Tensor, gamma_s: Tensor | None, gamma_t: Tensor) -> Tensor:
        """Return the model's ``target`` for the denoiser's x̂_0, (B, *event)."""
        return x_hat

    def along(self, prediction: "Prediction", gamma_s: Tensor | None, gamma_t: Tensor, eta: float = 0.0) -> "Prediction":
        """Return x̂_0 and ε̂ for a step of DDIM with η, which keeps the marginals; None and η = 0: for the flow's drift."""
        return prediction


FORWARD = ForwardProcess()
"""The VDM's process: the default of every function that takes one."""


def q_sample(x_0: Tensor, eps: Tensor, gamma_t: Tensor, process: ForwardProcess = FORWARD) -> Tensor:
    """Return x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε, (1.72): a draw of ``ForwardProcess.marginal`` with the noise ``eps``."""
    marginal = process.marginal(x_0, gamma_t).base_dist
    return marginal.loc + marginal.scale * eps


def _towards(x_0: Tensor, x_t: Tensor, gamma_s: Tensor, gamma_t: Tensor) -> Independent:
    """N(√(ᾱ_s/ᾱ_t) (1 − c) x_t + √ᾱ_s c x_0, (1 − ᾱ_s) c I)."""
    c = step_fraction(gamma_s, gamma_t)
    from_x_t = (alpha_bar(gamma_s) / alpha_bar(gamma_t)).sqrt() * (1 - c)
    from_x_0 = alpha_bar(gamma_s).sqrt() * c
    mean = align(from_x_t, x_t) * x_t + align(from_x_0, x_0) * x_0
    return isotropic(mean, sigma2(gamma_s) * c)


def widened(kernel: Independent, log_ratio: Tensor | None) -> Independent:
    """Return N(μ, e^ρ σ²) for a kernel N(μ, σ²) and ρ = ``log_ratio``, (B,) or (B, *event); None stands for 0."""
    if log_ratio is None:
        return kernel
    return gaussian(kernel.mean, kernel.stddev * align((log_ratio / 2).exp(), kernel.mean))
