"""The denoising term by noise level: mean and variance of its one-t estimates in bins of γ.

Each draw of t falls into one bin. With share_k the fraction of the draws in bin k, Σ_k share_k mean_k is the estimate of the
whole term, and Σ_k share_k (variance_k + mean_k²) minus its square is the variance of a single draw. share_k mean_k/width_k
is the bound per unit of γ, ½ E‖ε − ε̂‖² in continuous time, which depends neither on the schedule nor on the distribution of
t. The variance depends on both.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Bin(NamedTuple):
    """The draws with γ_t in [low, high): their number, mean in bits/dim and variance (divisor n) in (bits/dim)²."""

    low: float
    high: float
    draws: int
    mean: float
    variance: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


Profile = Sequence[Bin]
"""The non-empty bins, γ increasing."""


class GammaProfile:
    """Counts, sums and sums of squares in K equal bins between two noise levels; values outside go to the end bins.

    Args:
        ends: (2,), the least and the largest γ.
        sums: (3, K) in float64, on the device of the draws; zeros at first.
    """

    def __init__(self, ends: Tensor, sums: Tensor) -> None:
        self.ends, self.sums = ends, sums

    @classmethod
    def empty(cls, ends: Tensor, bins: int) -> "GammaProfile":
        return cls(ends, torch.zeros(3, bins, dtype=torch.float64, device=ends.device))

    @torch.no_grad()
    def add(self, gamma: Tensor, value: Tensor) -> None:
        """Add the draws ``value`` (B,) in bits/dim, made at ``gamma`` (B,)."""
        bins, (low, high) = self.sums.shape[1], self.ends
        which = ((gamma - low) / (high - low) * bins).long().clamp(0, bins - 1)
        value = value.double()
        self.sums.index_add_(1, which, torch.stack([torch.ones_like(value), value, value.square()]))

    def bins(self) -> list[Bin]:
        """Return the non-empty bins."""
        low, high = self.ends.tolist()
        width, found = (high - low) / self.sums.shape[1], []
        for k, (count, total, squares) in enumerate(self.sums.T.tolist()):
            if count:
                mean = total / count
                variance = max(0.0, squares / count - mean**2)
                found.append(Bin(low + k * width, low + (k + 1) * width, int(count), mean, variance))
        return found


def per_gamma(profile: Profile) -> list[float]:
    """Return each bin's part of the denoising term per unit of γ, in bits/dim."""
    total = sum(bin_.draws for bin_ in profile)
    return [bin_.draws / total * bin_.mean / (bin_.high - bin_.low) for bin_ in profile]


def one_t_variance(profile: Profile) -> float:
    """Return the variance of the estimate from one draw of t, example and noise, in (bits/dim)²."""
    total = sum(bin_.draws for bin_ in profile)
    mean = sum(bin_.draws / total * bin_.mean for bin_ in profile)
    return sum(bin_.draws / total * (bin_.variance + bin_.mean**2) for bin_ in profile) - mean**2
