"""Integer levels as reals: the position of level k of K on the (−1, 1) scale, and posteriors of noisy levels."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vdm.gamma import signal_and_noise

NEARBY = 7
"""Levels on either side that ``nearby_level_mean`` sums over, where they are at least a standard deviation apart."""

CACHED = 2**17
"""Numbers in one piece of work on a CPU: as many as fit into its cache."""

ON_DEVICE = 2**26
"""Numbers in one piece of work on an accelerator, whose memory the network needs."""

LARGEST_GAP = 72.0
"""The largest difference between the nearest level's log-likelihood and another's, in nats. e⁻⁷² is negligible beside 1,
and a CPU's exponential is up to ten times slower for numbers below float32's range, e⁻⁸⁷."""


def level_to_real(x: Tensor, levels: int) -> Tensor:
    """Map level k to its centre v_k = 2(k + ½)/K − 1; float32 unless x is a floating type."""
    return 2 * ((x if x.is_floating_point() else x.float()) + 0.5) / levels - 1


def real_to_level(z: Tensor, levels: int) -> Tensor:
    """Return the level whose bin [2k/K − 1, 2(k + 1)/K − 1) contains z; the first and the last bin are unbounded."""
    return ((z + 1) * (levels / 2)).floor().clamp(0, levels - 1).long()


def level_centres(levels: int, like: Tensor) -> Tensor:
    """Return the K centres v_k, in the dtype and on the device of ``like``."""
    return level_to_real(torch.arange(levels, dtype=like.dtype, device=like.device), levels)


def level_logits(x_t: Tensor, gamma_t: Tensor, levels: int) -> Tensor:
    """Return log N(x_t; √ᾱ v_k, 1 − ᾱ) up to a constant, (B, *event, K): the logits of single pixels under equal priors.

    No logit is more than ``LARGEST_GAP`` below the nearest level's.
    """
    z, scale = _in_noise(x_t, gamma_t)
    return -0.5 * _squares(z, scale, _farthest(z, scale, levels), level_centres(levels, x_t))


def level_mean(x_t: Tensor, gamma_t: Tensor, prior: Tensor, evidence: Tensor) -> Tensor:
    """Return E[x_0 | x_t] of single pixels, (B, *event), by Bayes' rule from ``level_logits``.

    Args:
        prior: log p(x = k) up to a constant, (K,).
        evidence: log-likelihood of k from other pixels up to a constant, (B, *event, K).
    """
    z, scale = _in_noise(x_t, gamma_t)
    centres = level_centres(len(prior), x_t)

    def mean(z: Tensor, scale: Tensor, farthest: Tensor, known: Tensor) -> Tensor:
        squares = _squares(z, scale, farthest, centres)
        return torch.softmax(torch.sub(known + prior, squares, alpha=0.5), -1) @ centres

    with torch.autocast(x_t.device.type, enabled=False):
        return _piecewise(mean, len(prior), z, scale, _farthest(z, scale, len(prior)), evidence)


def nearby_level_mean(mean: Tensor, precision: Tensor, levels: int) -> Tensor:
    """Return the mean of the levels under N(``mean``, 1/``precision``), (B, *event).

    The row of levels is continued without end, so that the result is odd about each level. Where the Gaussian is wider than
    the step between levels the result is ``mean``, exact to 10⁻⁸ of a step.
    """
    step = 2 / levels
    first = step * (torch.floor((mean + 1) / step) + 0.5) - 1 - mean
    offsets = first + step * torch.arange(-NEARBY, NEARBY + 1, dtype=mean.dtype, device=mean.device).view(
        -1, *[1] * mean.ndim
    )
    farthest = precision * first.square() + 2 * LARGEST_GAP
    shares = torch.softmax(-0.5 * torch.minimum(precision * offsets.square(), farthest), 0)
    return torch.where(precision * step**2 > 1, mean + (shares * offsets).sum(0), mean)


def level_prior(x: Tensor, levels: int) -> Tensor:
    """Return the log of each level's share in the data x, (K,) in float64, with one added to every count."""
    pieces = [torch.bincount(rows.flatten().long(), minlength=levels) for rows in x.split(1024)]
    counts = torch.stack(pieces).sum(0).double() + 1
    return (counts / counts.sum()).log()


def level_log_prob(x: Tensor, x_t: Tensor, gamma_t: Tensor, levels: int) -> Tensor:
    """Return log p(x | x_t) of the levels x, for single pixels with equal priors, (B, *event).

    On a CPU the sum is over levels near x_t only; the others together are below its rounding error.
    """
    z, scale = _in_noise(x_t, gamma_t)
    count = min(levels, 2 * _reach(scale, levels) + 1)
    neighbours = torch.arange(count, dtype=z.dtype, device=z.device)[:, None]

    def log_prob(z: Tensor, scale: Tensor, level: Tensor) -> Tensor:
        nearest = real_to_level(z / scale, levels).to(z.dtype)
        near = (nearest - count // 2).clamp(0, levels - count) + neighbours
        chosen, others = (level_to_real(k, levels) for k in (level, near))
        own, all_near = (-0.5 * (z - scale * centre).square() for centre in (chosen, others))
        return own - torch.logsumexp(all_near, 0)

    return _piecewise(log_prob, count, z, scale, x.to(z.dtype))


def _reach(scale: Tensor, levels: int) -> int:
    """The distance in levels beyond which logits are below the largest − z²/2, with K e^(−z²/2) half an ulp."""
    if scale.device.type != "cpu":
        return levels
    z = math.sqrt(2 * math.log(2 * levels / torch.finfo(scale.dtype).eps))
    least = scale.min().item()
    return min(levels, math.ceil(z * levels / (2 * least)) + 1) if least > 0 else levels


def _in_noise(x_t: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t/σ, √ᾱ/σ): x_t, and the length of x_0's unit in x_t, in standard deviations of the noise; (B, *event) each."""
    signal, noise = signal_and_noise(gamma_t, x_t)
    return x_t / noise, (signal / noise).expand_as(x_t)


def _farthest(z: Tensor, scale: Tensor, levels: int) -> Tensor:
    """The upper bound on squared distances between x_t and a level, in standard deviations of the noise."""
    nearest = level_to_real(real_to_level(z / scale, levels).to(z.dtype), levels)
    return (z - scale * nearest).square() + 2 * LARGEST_GAP


def _squares(z: Tensor, scale: Tensor, farthest: Tensor, centres: Tensor) -> Tensor:
    """((x_t − √ᾱ v)/σ)² for all K centres v, (…, K), clamped to ``farthest``; computed in place."""
    return (scale[..., None] * centres).sub_(z[..., None]).square_().clamp_(max=farthest[..., None])


def _piecewise(function: Callable[..., Tensor], levels: int, *pixels: Tensor) -> Tensor:
    """Apply ``function`` to pieces of tensors that begin with the same shape, and join the results.

    The K numbers of a piece's pixels fit into a CPU's cache. Pixels are visited in the memory order of the last tensor.
    """
    dims = range(pixels[0].ndim)
    strides = pixels[-1].stride()
    order = sorted(dims, key=lambda dim: -strides[dim])
    ordered = [part.permute(*order, *range(len(dims), part.ndim)) for part in pixels]
    piece = max(1, (CACHED if pixels[0].device.type == "cpu" else ON_DEVICE) // levels)
    pieces = zip(*(part.flatten(0, len(dims) - 1).split(piece) for part in ordered), strict=True)
    found = torch.cat([function(*part) for part in pieces]).view(ordered[0].shape)
    return found.permute([order.index(dim) for dim in dims]).contiguous()
