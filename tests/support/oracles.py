"""Exact answers that need no network: Gaussian data, mixtures of Gaussians, a finite training set.

Each oracle is a value with its ideal denoiser, a pure function (x_t, γ_t) ↦ Prediction; everything else about it is a
closed form in nats. Event shapes are free; means and variances broadcast against the event.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vdm.gamma import align, alpha_bar, sigma2, snr, snr_difference, step_fraction, sum_event
from vdm.parameterisations import Prediction

LOG_2PI = math.log(2 * math.pi)


def gaussian_denoiser(mean, variance):
    """Data N(m, s² I): x̂(x_t) = m + √ᾱ s²/(ᾱ s² + 1 − ᾱ) (x_t − √ᾱ m)."""

    def denoise(x_t: Tensor, gamma_t: Tensor) -> Prediction:
        signal2, noise2 = align(alpha_bar(gamma_t), x_t), align(sigma2(gamma_t), x_t)
        gain = signal2.sqrt() * variance / (signal2 * variance + noise2)
        x_hat = mean + gain * (x_t - signal2.sqrt() * mean)
        return Prediction.from_x_0(x_hat.to(x_t.dtype), x_t, gamma_t)

    return denoise


def mixture_denoiser(weights, means, variance):
    """Data Σ_k w_k N(m_k, s² I), weights (K,), means (K, *event): the posterior mean; at s² = 0, of a finite set."""
    mixture = Mixture(weights, means, variance)

    def denoise(x_t: Tensor, gamma_t: Tensor) -> Prediction:
        signal2, noise2 = align(alpha_bar(gamma_t), x_t), align(sigma2(gamma_t), x_t)
        share = torch.softmax(mixture.joint_log_prob(x_t, gamma_t), 1).reshape(len(x_t), -1, *[1] * (x_t.ndim - 1))
        mean = (share * mixture.means.to(x_t.dtype)).sum(1)
        gain = signal2.sqrt() * variance / (signal2 * variance + noise2)
        x_hat = mean + gain * (x_t - signal2.sqrt() * mean)
        return Prediction.from_x_0(x_hat.to(x_t.dtype), x_t, gamma_t)

    return denoise


def training_set_denoiser(points):
    """A finite training set (N, *event): the softmax-weighted mean of its points."""
    return mixture_denoiser(torch.full((len(points),), 1 / len(points), dtype=points.dtype), points, 0.0)


@dataclass(frozen=True)
class Mixture:
    """Σ_k w_k N(m_k, s² I), with weights (K,) and means (K, *event)."""

    weights: Tensor
    means: Tensor
    variance: float

    @property
    def denoiser(self):
        return mixture_denoiser(self.weights, self.means, self.variance)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        stream = torch.Generator().manual_seed(seed)
        mean = self.means[torch.multinomial(self.weights, n, replacement=True, generator=stream)]
        return mean + self.variance**0.5 * torch.randn(mean.shape, dtype=mean.dtype, generator=stream)

    def joint_log_prob(self, x_t: Tensor, gamma_t: Tensor) -> Tensor:
        """(B, K): log w_k + log N(x_t; √ᾱ m_k, (ᾱ s² + 1 − ᾱ) I)."""
        columns = []
        for weight, mean in zip(self.weights, self.means, strict=True):
            signal2, noise2 = align(alpha_bar(gamma_t), x_t), align(sigma2(gamma_t), x_t)
            columns.append(weight.log() + _log_normal(x_t, signal2.sqrt() * mean, signal2 * self.variance + noise2))
        return torch.stack(columns, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of the data, (B,)."""
        columns = [
            w.log() + _log_normal(x, m, x.new_tensor(self.variance)) for w, m in zip(self.weights, self.means, strict=True)
        ]
        return torch.stack(columns, 1).logsumexp(1)

    def smoothed_log_prob(self, x_t: Tensor, gamma_t: Tensor) -> Tensor:
        """log density of x_t ~ q(x_t | x_0), x_0 from the data: smoothed at γ_t, (B,)."""
        return self.joint_log_prob(x_t, gamma_t).logsumexp(1)


@dataclass(frozen=True)
class GaussianData:
    """N(m, s²) in each dimension; mean and variance are float64 tensors of the event's shape.

    Terms are means over the data, or for one x where x (B, *event) is given; reconstruction is the GaussianLikelihood's.
    """

    mean: Tensor
    variance: Tensor

    @classmethod
    def isotropic(cls, mean: float, variance: float, event_shape: tuple[int, ...]) -> "GaussianData":
        full = torch.ones(event_shape, dtype=torch.float64)
        return cls(mean * full, variance * full)

    @property
    def dims(self) -> int:
        return self.mean.numel()

    @property
    def denoiser(self):
        return gaussian_denoiser(self.mean, self.variance)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        stream = torch.Generator().manual_seed(seed)
        return self.mean + self.variance.sqrt() * torch.randn((n, *self.mean.shape), dtype=torch.float64, generator=stream)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of the data, (B,)."""
        return _log_normal(x, self.mean, self.variance)

    @property
    def expected_log_prob(self) -> float:
        """E log p(x): minus the entropy."""
        return float(-0.5 * (1 + LOG_2PI + self.variance.log()).sum())

    def smoothed_log_prob(self, x_t: Tensor, gamma_t: Tensor) -> Tensor:
        """log density of x_t ~ q(x_t | x_0), x_0 from the data, (B,)."""
        signal2, noise2 = align(alpha_bar(gamma_t), x_t), align(sigma2(gamma_t), x_t)
        return _log_normal(x_t, signal2.sqrt() * self.mean, signal2 * self.variance + noise2)

    def reconstruction(self, gamma_1: float) -> float:
        """E log N(x_0; x_1/√ᾱ_1, e^{γ_1} I) = −D/2 (1 + log 2π + γ_1), for every x_0."""
        return -0.5 * self.dims * (1 + LOG_2PI + gamma_1)

    def prior_matching(self, gamma_T: float, x: Tensor | None = None) -> Tensor:
        """KL(q(x_T | x_0) ‖ N(0, I)) = ½ Σ_dims [ᾱ x_0² + σ² − 1 − log σ²], over the data or for each x."""
        gamma = torch.tensor([gamma_T], dtype=torch.float64)
        square = (self.mean.square() + self.variance)[None] if x is None else x.square()
        return 0.5 * sum_event(alpha_bar(gamma) * (square - 1) - torch.nn.functional.logsigmoid(gamma))

    def error(self, gamma: Tensor, x: Tensor | None = None) -> Tensor:
        """E ‖x̂(x_t) − x_0‖² at each γ (N,): (N,) over the data, or (B, N) for each x."""
        shaped = gamma.reshape(-1, *[1] * self.mean.ndim)
        signal2, noise2, s2 = alpha_bar(shaped), sigma2(shaped), self.variance
        total = signal2 * s2 + noise2
        if x is None:
            return sum_event(s2 * noise2 / total)
        bias2 = (noise2 / total).square() * (x - self.mean).square()[:, None]
        return (bias2 + signal2 * s2.square() * noise2 / total.square()).flatten(2).sum(2)

    def denoising_matching(self, gammas: Tensor, x: Tensor | None = None) -> Tensor:
        """½ Σ_t (SNR(s) − SNR(t)) E ‖x̂ − x_0‖² over neighbours in ``gammas`` (T,): a scalar, or (B,) for each x."""
        return 0.5 * (snr_difference(gammas[:-1], gammas[1:]) * self.error(gammas[1:], x)).sum(-1)

    def denoising_integral(self, gamma_min: float, gamma_max: float) -> float:
        """T = ∞: ½ Σ_dims [log(1 + s² SNR(0)) − log(1 + s² SNR(1))], over the data."""
        ends = snr(torch.tensor([gamma_min, gamma_max], dtype=torch.float64))
        return float(0.5 * (torch.log1p(self.variance * ends[0]) - torch.log1p(self.variance * ends[1])).sum())

    def elbo(self, gammas: Tensor, x: Tensor | None = None) -> Tensor:
        """(1.62) at the latents' ``gammas`` (T,): (1,) over the data, or (B,) for each x."""
        ends = self.reconstruction(float(gammas[0])) - self.prior_matching(float(gammas[-1]), x)
        return ends - self.denoising_matching(gammas, x)

    def continuous_elbo(self, gamma_min: float, gamma_max: float) -> float:
        """(1.62) at T = ∞, over the data."""
        ends = self.reconstruction(gamma_min) - float(self.prior_matching(gamma_max))
        return ends - self.denoising_integral(gamma_min, gamma_max)

    def chain_moments(self, gammas: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the T-latent model itself with the ideal denoiser: every kernel is affine and Gaussian.

        p(x_T) = N(0, I), then (1.96) at each step, then the GaussianLikelihood.
        """
        mean, variance = torch.zeros_like(self.mean), torch.ones_like(self.variance)
        for gamma_s, gamma_t in zip(gammas[:-1].flip(0), gammas[1:].flip(0), strict=True):
            slope, offset, noise = self._reverse(gamma_s, gamma_t)
            mean, variance = slope * mean + offset, slope.square() * variance + noise
        scale = alpha_bar(gammas[0])
        return mean / scale.sqrt(), variance / scale + gammas[0].exp()

    def chain_log_prob(self, x: Tensor, gammas: Tensor) -> Tensor:
        """log p_θ(x) of that model, (B,): what the importance-weighted bound converges to as K → ∞."""
        return _log_normal(x, *self.chain_moments(gammas))

    def _reverse(self, gamma_s: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """p_θ(x_s | x_t) = N(slope x_t + offset, noise), each of the event's shape."""
        c, s2 = step_fraction(gamma_s, gamma_t), self.variance
        root_s, root_t = alpha_bar(gamma_s).sqrt(), alpha_bar(gamma_t).sqrt()
        gain = root_t * s2 / (root_t.square() * s2 + sigma2(gamma_t))
        slope = root_s / root_t * (1 - c) + root_s * c * gain
        return slope, root_s * c * self.mean * (1 - gain * root_t), sigma2(gamma_s) * c * torch.ones_like(s2)


def _log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """log N(x; mean, variance), summed over the event, (B,)."""
    return sum_event(-0.5 * ((x - mean).square() / variance + torch.log(variance) + LOG_2PI).expand_as(x))
