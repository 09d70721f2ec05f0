"""Densities of the plane with a known log p(x), as mixtures of ``torch.distributions``.

Each has mean 0 and, averaged over the two dimensions, variance 1, so that one setting of a model suits all of them.
"""

import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal, Uniform

from vdm.buildable import buildable
from vdm.errors import InvalidInput


class Density(MixtureSameFamily):
    """A mixture with a name for provenance."""

    def __init__(self, name: str, weights: Categorical, parts: Distribution, validate_args: bool | None = None) -> None:
        super().__init__(weights, parts, validate_args)
        self.name = name


@buildable
def gaussians(means: Tensor, deviation: float, name: str = "gaussians") -> Density:
    """Return equally weighted N(m_k, s² I), moved and scaled to mean 0 and variance 1 per dimension.

    Args:
        means: m_k, (K, 2).
        deviation: s > 0, in the units of ``means``.
        name: for provenance.
    """
    if not deviation > 0:
        raise InvalidInput(f"the deviation of each Gaussian must be positive, got {deviation}")
    centred = means - means.mean(0)
    scale = 1 / math.sqrt(centred.square().mean().item() + deviation**2)
    parts = Normal(scale * centred, torch.full_like(means, scale * deviation))
    return Density(name, Categorical(torch.ones(len(means), dtype=means.dtype)), Independent(parts, 1))


@buildable
def ring(components: int = 8, deviation: float = 0.1) -> Density:
    """Return Gaussians evenly spaced on a circle of radius 1."""
    angle = 2 * math.pi * torch.arange(components, dtype=torch.float64) / components
    return gaussians(torch.stack([angle.cos(), angle.sin()], 1), deviation, f"ring({components=}, {deviation=})")


@buildable
def grid(side: int = 5, deviation: float = 0.15) -> Density:
    """Return Gaussians on a square grid of unit spacing."""
    ticks = torch.arange(side, dtype=torch.float64)
    return gaussians(torch.cartesian_prod(ticks, ticks), deviation, f"grid({side=}, {deviation=})")


@buildable
def moons(components: int = 32, deviation: float = 0.1) -> Density:
    """Return two interleaved half circles of radius 1, each a chain of Gaussians."""
    angle = math.pi * torch.linspace(0, 1, components, dtype=torch.float64)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    return gaussians(torch.cat([upper, lower]), deviation, f"moons({components=}, {deviation=})")


@buildable
def checkerboard(side: int = 4) -> Density:
    """Return the uniform density on the squares of one colour of a ``side`` × ``side`` board, ``side`` even.

    Its edges are at ±√3: every coordinate is uniform with variance 1. log p is −∞ off the squares.
    """
    if side < 2 or side % 2:
        raise InvalidInput(f"a checkerboard needs an even number of squares a side, got {side}")
    ticks = torch.arange(side, dtype=torch.float64)
    corners = torch.cartesian_prod(ticks, ticks)
    low = (2 * corners[corners.sum(1) % 2 == 0] / side - 1) * math.sqrt(3)
    squares = Uniform(low, low + 2 * math.sqrt(3) / side, validate_args=False)
    weights = Categorical(torch.ones(len(low), dtype=low.dtype))
    return Density(f"checkerboard({side=})", weights, Independent(squares, 1, validate_args=False), validate_args=False)
