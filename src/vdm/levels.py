"""Integer levels as reals: the position of level k of K on the data scale, and posteriors of noisy levels.

Two scales are in use, and a model fed the other one gives a wrong number: :class:`CentredScale` is the VDM's and this
project's, :class:`EndpointScale` that of DDPM, OpenAI's models and diffusers. Functions take a scale, or the number K for
the first one.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vdm.errors import InvalidInput
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


@dataclass(frozen=True)
class LevelScale(ABC):
    """Where K levels lie on the real line, evenly spaced, each in the middle of its bin; the outer bins are unbounded.

    Args:
        levels: K, at least 2.

    Raises:
        InvalidInput: fewer than two levels.
    """

    levels: int

    def __post_init__(self) -> None:
        if not isinstance(self.levels, int) or self.levels < 2:
            raise InvalidInput(f"levels must be at least 2, got {self.levels}: 256 for 8-bit images, 17 for the digits")

    @property
    @abstractmethod
    def density(self) -> float:
        """Levels per unit of length; neighbours are 1/density apart."""

    @abstractmethod
    def to_real(self, x: Tensor) -> Tensor:
        """Map level k to its centre v_k; float32 unless x is a floating type."""

    @abstractmethod
    def to_level(self, z: Tensor) -> Tensor:
        """Return the level whose bin contains z."""

    @abstractmethod
    def nearest_centre(self, z: Tensor) -> Tensor:
        """Return the centre nearest to z in the row of levels continued without end."""


class CentredScale(LevelScale):
    """v_k = 2(k + ½)/K − 1, the middle of bin [2k/K − 1, 2(k + 1)/K − 1): K equal parts of [−1, 1] (Kingma et al. 2021)."""

    @property
    def density(self) -> float:
        return self.levels / 2

    def to_real(self, x: Tensor) -> Tensor:
        return 2 * ((x if x.is_floating_point() else x.float()) + 0.5) / self.levels - 1

    def to_level(self, z: Tensor) -> Tensor:
        return ((z + 1) * (self.levels / 2)).floor().clamp(0, self.levels - 1).long()

    def nearest_centre(self, z: Tensor) -> Tensor:
        step = 2 / self.levels
        return step * (torch.floor((z + 1) / step) + 0.5) - 1


class EndpointScale(LevelScale):
    """v_k = 2k/(K − 1) − 1, with bins v_k ± 1/(K − 1): the outer levels at −1 and 1 (Ho et al. 2020, section 3.3)."""

    @property
    def density(self) -> float:
        return (self.levels - 1) / 2

    def to_real(self, x: Tensor) -> Tensor:
        return 2 * (x if x.is_floating_point() else x.float()) / (self.levels - 1) - 1

    def to_level(self, z: Tensor) -> Tensor:
        return ((z + 1) * self.density + 0.5).floor().clamp(0, self.levels - 1).long()

    def nearest_centre(self, z: Tensor) -> Tensor:
        return torch.floor((z + 1) * self.density + 0.5) / self.density - 1


Levels = int | LevelScale
"""A scale, or K for the ``CentredScale`` of K levels."""


def scale_of(levels: Levels) -> LevelScale:
    """Return ``levels`` if it is a scale, else the ``CentredScale`` of so many levels."""
    return levels if isinstance(levels, LevelScale) else CentredScale(levels)


def check_same_scale(model: object, other: object) -> None:
    """Raise InvalidInput if two parts that know the data's levels have them on different scales."""
    one, two = (getattr(part, "scale", None) for part in (model, other))
    if isinstance(one, LevelScale) and isinstance(two, LevelScale) and one != two:
        raise InvalidInput(
            f"{type(model).__name__} has the data on {one}, and {type(other).__name__} on {two}: give both the same scale"
        )


def level_to_real(x: Tensor, levels: Levels) -> Tensor:
    """Map level k to its centre v_k; float32 unless x is a floating type."""
    return scale_of(levels).to_real(x)


def real_to_level(z: Tensor, levels: Levels) -> Tensor:
    """Return the level whose bin contains z; the first and the last bin are unbounded."""
    return scale_of(levels).to_level(z)


def level_centres(levels: Levels, like: Tensor) -> Tensor:
    """Return the K centres v_k, in the dtype and on the device of ``like``."""
    scale = scale_of(levels)
    return scale.to_real(torch.arange(scale.levels, dtype=like.dtype, device=like.device))


def level_logits(x_t: Tensor, gamma_t: Tensor, levels: Levels) -> Tensor:
    """Return log N(x_t; √ᾱ v_k, 1 − ᾱ) up to a constant, (B, *event, K): the logits of single pixels under equal priors.

    No logit is more than ``LARGEST_GAP`` below the nearest level's.
    """
    z, scale = _in_noise(x_t, gamma_t)
    return -0.5 * _squares(z, scale, _farthest(z, scale, levels), level_centres(levels, x_t))


def level_mean(x_t: Tensor, gamma_t: Tensor, prior: Tensor, evidence: Tensor, levels: Levels | None = None) -> Tensor:
    """Return E[x_0 | x_t] of single pixels, (B, *event), by Bayes' rule from ``level_logits``.

    Args:
        prior: log p(x = k) up to a constant, (K,).
        evidence: log-likelihood of k from other pixels up to a constant, (B, *event, K).
        levels: the scale; that of K levels in the middle of their bins by default.
    """
    z, scale = _in_noise(x_t, gamma_t)
    levels = len(prior) if levels is None else levels
    centres = level_centres(levels, x_t)

    def mean(z: Tensor, scale: Tensor, farthest: Tensor, known: Tensor) -> Tensor:
        squares = _squares(z, scale, farthest, centres)
        return torch.softmax(torch.sub(known + prior, squares, alpha=0.5), -1) @ centres

    with torch.autocast(x_t.device.type, enabled=False):
        return _piecewise(mean, len(prior), z, scale, _farthest(z, scale, levels), evidence)


def nearby_level_mean(mean: Tensor, precision: Tensor, levels: Levels) -> Tensor:
    """Return the mean of the levels under N(``mean``, 1/``precision``), (B, *event).

    The row of levels is continued without end, so that the result is odd about each level. Where the Gaussian is wider than
    the step between levels the result is ``mean``, exact to 10⁻⁸ of a step.
    """
    scale = scale_of(levels)
    step = 1 / scale.density
    first = scale.nearest_centre(mean) - mean
    offsets = first + step * torch.arange(-NEARBY, NEARBY + 1, dtype=mean.dtype, device=mean.device).view(
        -1, *[1] * mean.ndim
    )
    farthest = precision * first.square() + 2 * LARGEST_GAP
    shares = torch.softmax(-0.5 * torch.minimum(precision * offsets.square(), farthest), 0)
    return torch.where(precision * step**2 > 1, mean + (shares * offsets).sum(0), mean)


def level_prior(x: Tensor, levels: int) -> Tensor:
    """Return the log of each level's share in the data x, (K,) in float64, with one added to every count."""
    counts = torch.bincount(x.flatten().long(), minlength=levels).double() + 1
    return (counts / counts.sum()).log()


def level_log_prob(x: Tensor, x_t: Tensor, gamma_t: Tensor, levels: Levels) -> Tensor:
    """Return log p(x | x_t) of the levels x, for single pixels with equal priors, (B, *event).

    On a CPU the sum is over levels near x_t only; the others together are below its rounding error.
    """
    z, scale = _in_noise(x_t, gamma_t)
    known = scale_of(levels)
    count = min(known.levels, 2 * _reach(scale, known) + 1)
    neighbours = torch.arange(count, dtype=z.dtype, device=z.device)[:, None]

    def log_prob(z: Tensor, scale: Tensor, level: Tensor) -> Tensor:
        nearest = known.to_level(z / scale).to(z.dtype)
        near = (nearest - count // 2).clamp(0, known.levels - count) + neighbours
        chosen, others = (known.to_real(k) for k in (level, near))
        own, all_near = (-0.5 * (z - scale * centre).square() for centre in (chosen, others))
        return own - torch.logsumexp(all_near, 0)

    return _piecewise(log_prob, count, z, scale, x.to(z.dtype))


def _reach(scale: Tensor, known: LevelScale) -> int:
    """The distance in levels beyond which logits are below the largest − z²/2, with K e^(−z²/2) half an ulp."""
    levels = known.levels
    if scale.device.type != "cpu":
        return levels
    z = math.sqrt(2 * math.log(2 * levels / torch.finfo(scale.dtype).eps))
    least = scale.min().item()
    return min(levels, math.ceil(z * known.density / least) + 1) if least > 0 else levels


def _in_noise(x_t: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t/σ, √ᾱ/σ): x_t, and the length of x_0's unit in x_t, in standard deviations of the noise; (B, *event) each."""
    signal, noise = signal_and_noise(gamma_t, x_t)
    return x_t / noise, (signal / noise).expand_as(x_t)


def _farthest(z: Tensor, scale: Tensor, levels: Levels) -> Tensor:
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
