"""The coordinate γ = −log SNR and the few functions of it that all else is made of.

γ has the shape (B,), one value an example, or (B, *event), one value a dimension. Nothing here subtracts numbers that
are nearly equal: ᾱ and 1 − ᾱ are two sigmoids, and a step s < t is carried by the one number
c = 1 − SNR(t)/SNR(s) = −expm1(γ_s − γ_t).
"""

import math

import torch
from torch import Tensor


def event_dims(x: Tensor) -> int:
    """D, the dimensions of one example of (B, *event)."""
    return math.prod(x.shape[1:])


def alpha_bar(gamma: Tensor) -> Tensor:
    """Squared signal scale ᾱ = sigmoid(−γ) of (1.73)."""
    return torch.sigmoid(-gamma)


def sigma2(gamma: Tensor) -> Tensor:
    """Noise variance 1 − ᾱ = sigmoid(γ) of (1.73)."""
    return torch.sigmoid(gamma)


def snr(gamma: Tensor) -> Tensor:
    """Signal-to-noise ratio ᾱ/(1 − ᾱ) = exp(−γ)."""
    return torch.exp(-gamma)


def step_fraction(gamma_s: Tensor, gamma_t: Tensor) -> Tensor:
    """c = 1 − SNR(t)/SNR(s) = −expm1(γ_s − γ_t) for s < t, in (0, 1)."""
    return -torch.expm1(gamma_s - gamma_t)


def snr_difference(gamma_s: Tensor, gamma_t: Tensor) -> Tensor:
    """SNR(s) − SNR(t) = SNR(s) c > 0 for s < t, the weight of (1.104) without its ½."""
    return snr(gamma_s) * step_fraction(gamma_s, gamma_t)


def align(value: Tensor, x: Tensor) -> Tensor:
    """``value`` of shape (B,) or (B, *event), ready to multiply ``x`` of shape (B, *event), in x's dtype.

    Scalars are computed in float64 and rounded once, here.
    """
    shaped = value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim == 1 else value
    return shaped.to(x.dtype)


def signal_and_noise(gamma: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """(√ᾱ, √(1 − ᾱ)), the scales of (1.72), each ready to multiply ``x`` (B, *event)."""
    return align(alpha_bar(gamma).sqrt(), x), align(sigma2(gamma).sqrt(), x)


def sum_event(value: Tensor) -> Tensor:
    """Sum over everything but the batch: (B, *event) to (B,)."""
    return value.flatten(1).sum(1)


def event_mean(value: Tensor) -> Tensor:
    """One number an example: ``value`` itself if (B,), its mean over the dimensions if (B, *event); shape (B,)."""
    return value if value.ndim == 1 else value.flatten(1).mean(1)
