"""The coordinate γ = −log SNR and its elementary functions.

γ has the shape (B,), one value an example, or (B, *event), one value a dimension. No function subtracts nearly equal
numbers: ᾱ and 1 − ᾱ are two sigmoids, and a step s < t is described by c = 1 − SNR(t)/SNR(s) = −expm1(γ_s − γ_t).
"""

import math

import torch
from torch import Tensor


def event_dims(x: Tensor) -> int:
    """Return D, the number of dimensions of one example of (B, *event)."""
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
    """Shape ``value`` (B,) or (B, *event) to multiply ``x`` (B, *event), and convert it to x's dtype.

    Scalars are computed in float64 and rounded once, here.
    """
    shaped = value.reshape(-1, *[1] * (x.ndim - 1)) if value.ndim == 1 else value
    return shaped.to(x.dtype)


def signal_and_noise(gamma: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (√ᾱ, √(1 − ᾱ)), the scales of (1.72), each aligned with ``x`` (B, *event)."""
    return align(alpha_bar(gamma).sqrt(), x), align(sigma2(gamma).sqrt(), x)


def sum_event(value: Tensor) -> Tensor:
    """Sum over the event dimensions: (B, *event) to (B,)."""
    return value.flatten(1).sum(1)


def event_mean(value: Tensor) -> Tensor:
    """Return one number an example, (B,): ``value`` itself if (B,), its mean over the dimensions if (B, *event)."""
    return value if value.ndim == 1 else value.flatten(1).mean(1)


def interpolate(knots: Tensor, values: Tensor, at: Tensor) -> Tensor:
    """Return the piecewise linear function through (knots, values), (N,) each, knots increasing; constant beyond them."""
    if len(knots) == 1:
        return values.expand_as(at)
    n = torch.searchsorted(knots, at.contiguous()).clamp(1, len(knots) - 1)
    share = ((at - knots[n - 1]) / (knots[n] - knots[n - 1])).clamp(0, 1)
    return values[n - 1] * (1 - share) + values[n] * share
