"""Integer levels as reals: the one place that knows where level k of K lies on the (−1, 1) scale."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vdm.gamma import signal_and_noise

NEARBY = 7
"""Levels on either side, each a standard deviation from the next or more, that ``nearby_level_mean`` looks at."""

CACHED = 2**17
"""Numbers that are worked on at a time on a CPU, which its cache holds."""

HELD = 2**26
"""… and on an accelerator, whose memory the network needs."""

LEAST = 72.0
"""How far below the nearest level's log-likelihood another's can be, in nats: e⁻⁷² is nothing beside 1, and a CPU's
exponential takes up to ten times as long for what float32 can no longer hold (from e⁻⁸⁷)."""


def level_to_real(x: Tensor, levels: int) -> Tensor:
    """Level k ↦ its centre v_k = 2(k + ½)/K − 1; float32 unless x is a floating type."""
    return 2 * ((x if x.is_floating_point() else x.float()) + 0.5) / levels - 1


def real_to_level(z: Tensor, levels: int) -> Tensor:
    """The level in whose bin the real number z lies: [2k/K − 1, 2(k + 1)/K − 1), the first and the last without end."""
    return ((z + 1) * (levels / 2)).floor().clamp(0, levels - 1).long()


def level_centres(levels: int, like: Tensor) -> Tensor:
    """The K centres v_k, in the dtype and on the device of ``like``."""
    return level_to_real(torch.arange(levels, dtype=like.dtype, device=like.device), levels)


def level_logits(x_t: Tensor, gamma_t: Tensor, levels: int) -> Tensor:
    """log N(x_t; √ᾱ v_k, 1 − ᾱ) up to a constant, (B, *event, K): each level's claim on a noisy pixel, by itself.

    None is more than ``LEAST`` below the nearest level's.
    """
    place, spread = _in_noise(x_t, gamma_t)
    return -0.5 * _squares(place, spread, _farthest(place, spread, levels), level_centres(levels, x_t))


def level_mean(x_t: Tensor, gamma_t: Tensor, prior: Tensor, evidence: Tensor) -> Tensor:
    """E[x_0 | x_t] of single pixels, (B, *event), by Bayes' rule from ``level_logits``; each up to a constant:

    Args:
        prior: log p(x = k), (K,).
        evidence: log of what is known of k from elsewhere, (B, *event, K).
    """
    place, spread = _in_noise(x_t, gamma_t)
    centres = level_centres(len(prior), x_t)

    def mean(place: Tensor, spread: Tensor, farthest: Tensor, known: Tensor) -> Tensor:
        squares = _squares(place, spread, farthest, centres)
        return torch.softmax(torch.sub(known + prior, squares, alpha=0.5), -1) @ centres

    with torch.autocast(x_t.device.type, enabled=False):
        return _piecewise(mean, len(prior), place, spread, _farthest(place, spread, len(prior)), evidence)


def nearby_level_mean(place: Tensor, precision: Tensor, levels: int) -> Tensor:
    """The mean of the levels under a Gaussian about ``place`` of variance 1/``precision``, (B, *event).

    Of an endless row of levels, so that it is odd about each of them. Where the Gaussian is wider than the step from one to
    the next the mean is ``place``, to 10⁻⁸ of a step.
    """
    step = 2 / levels
    first = step * (torch.floor((place + 1) / step) + 0.5) - 1 - place
    offsets = first + step * torch.arange(-NEARBY, NEARBY + 1, dtype=place.dtype, device=place.device).view(
        -1, *[1] * place.ndim
    )
    farthest = precision * first.square() + 2 * LEAST
    shares = torch.softmax(-0.5 * torch.minimum(precision * offsets.square(), farthest), 0)
    return torch.where(precision * step**2 > 1, place + (shares * offsets).sum(0), place)


def level_prior(x: Tensor, levels: int) -> Tensor:
    """The log of the share of each level among the data x, (K,) in float64; a level never seen counts as seen once."""
    counts = torch.bincount(x.flatten().long(), minlength=levels).double() + 1
    return (counts / counts.sum()).log()


def level_log_prob(x: Tensor, x_t: Tensor, gamma_t: Tensor, levels: int) -> Tensor:
    """log p(x | x_t) of the levels x, each pixel by itself and its levels equally likely beforehand, (B, *event).

    On a CPU the sum over levels is over those near x_t only, where the others together are less than its rounding error.
    """
    place, spread = _in_noise(x_t, gamma_t)
    count = min(levels, 2 * _reach(spread, levels) + 1)
    neighbours = torch.arange(count, dtype=place.dtype, device=place.device)[:, None]

    def log_prob(place: Tensor, spread: Tensor, level: Tensor) -> Tensor:
        nearest = real_to_level(place / spread, levels).to(place.dtype)
        near = (nearest - count // 2).clamp(0, levels - count) + neighbours
        chosen, others = (level_to_real(k, levels) for k in (level, near))
        own, all_near = (-0.5 * (place - spread * centre).square() for centre in (chosen, others))
        return own - torch.logsumexp(all_near, 0)

    return _piecewise(log_prob, count, place, spread, x.to(place.dtype))


def _reach(spread: Tensor, levels: int) -> int:
    """How many levels from the nearest one, with logit l, no other's is above l − z²/2, where K e^(−z²/2) is half an ulp."""
    if spread.device.type != "cpu":
        return levels
    z = math.sqrt(2 * math.log(2 * levels / torch.finfo(spread.dtype).eps))
    least = spread.min().item()
    return min(levels, math.ceil(z * levels / (2 * least)) + 1) if least > 0 else levels


def _in_noise(x_t: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
    """x_t and the unit of x_0, √ᾱ, in standard deviations of the noise; (B, *event) each."""
    signal, noise = signal_and_noise(gamma_t, x_t)
    return x_t / noise, (signal / noise).expand_as(x_t)


def _farthest(place: Tensor, spread: Tensor, levels: int) -> Tensor:
    """The square of the distance from x_t, in standard deviations of the noise, that no level counts as more than."""
    nearest = level_to_real(real_to_level(place / spread, levels).to(place.dtype), levels)
    return (place - spread * nearest).square() + 2 * LEAST


def _squares(place: Tensor, spread: Tensor, farthest: Tensor, centres: Tensor) -> Tensor:
    """((x_t − √ᾱ v)/σ)² for all K centres v, (…, K): passes over one buffer, each fast on a CPU."""
    return (spread[..., None] * centres).sub_(place[..., None]).square_().clamp_(max=farthest[..., None])


def _piecewise(function: Callable[..., Tensor], levels: int, *pixels: Tensor) -> Tensor:
    """``function`` of tensors that begin with one shape, pixel by pixel: in pieces of so many pixels that their K numbers
    stay in a CPU's cache, in the order in which the last of the tensors lies in memory."""
    dims = range(pixels[0].ndim)
    strides = pixels[-1].stride()
    order = sorted(dims, key=lambda dim: -strides[dim])
    lying = [part.permute(*order, *range(len(dims), part.ndim)) for part in pixels]
    piece = max(1, (CACHED if pixels[0].device.type == "cpu" else HELD) // levels)
    pieces = zip(*(part.flatten(0, len(dims) - 1).split(piece) for part in lying), strict=True)
    found = torch.cat([function(*part) for part in pieces]).view(lying[0].shape)
    return found.permute([order.index(dim) for dim in dims]).contiguous()
