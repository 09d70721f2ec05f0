"""Which noise levels the denoising term comes from, and where its one-t estimate varies: its draws, sorted by γ.

The estimate is a mean over draws of t, and a draw falls into one bin of γ. So the bins' shares of all draws give back
the whole: Σ_k share_k mean_k is the estimate itself, and Σ_k share_k (variance_k + mean_k²) minus its square the variance
of a single draw. share_k mean_k/width_k is the bound per unit of γ, ½ E‖ε − ε̂‖² in continuous time: it depends neither on
the schedule nor on where t is drawn. The variance depends on both, which is what a choice of them is about.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Bin(NamedTuple):
    """``draws`` with γ_t in [low, high): how many, their mean and their variance (divisor n), in bits/dim and its square."""

    low: float
    high: float
    draws: int
    mean: float
    variance: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


Profile = Sequence[Bin]
"""The bins that have seen a draw, γ increasing."""


class GammaProfile:
    """Counts, sums and sums of squares in K equal bins between two noise levels; outside values go to the end bins.

    Args:
        ends: (2,), the least and the largest γ.
        sums: (3, K) in float64 where the draws are; zeros to begin with.
    """

    def __init__(self, ends: Tensor, sums: Tensor) -> None:
        self.ends, self.sums = ends, sums

    @classmethod
    def empty(cls, ends: Tensor, bins: int) -> "GammaProfile":
        return cls(ends, torch.zeros(3, bins, dtype=torch.float64, device=ends.device))

    @torch.no_grad()
    def add(self, gamma: Tensor, value: Tensor) -> None:
        """Take in the draws ``value`` (B,), in bits/dim, made at ``gamma`` (B,)."""
        bins, (low, high) = self.sums.shape[1], self.ends
        which = ((gamma - low) / (high - low) * bins).long().clamp(0, bins - 1)
        value = value.double()
        self.sums.index_add_(1, which, torch.stack([torch.ones_like(value), value, value.square()]))

    def bins(self) -> list[Bin]:
        """Those that have seen a draw."""
        low, high = self.ends.tolist()
        width, found = (high - low) / self.sums.shape[1], []
        for k, (count, total, squares) in enumerate(self.sums.T.tolist()):
            if count:
                mean = total / count
                variance = max(0.0, squares / count - mean**2)
                found.append(Bin(low + k * width, low + (k + 1) * width, int(count), mean, variance))
        return found


def per_gamma(profile: Profile) -> list[float]:
    """What each bin adds to the denoising term, per unit of γ, in bits/dim."""
    total = sum(each.draws for each in profile)
    return [each.draws / total * each.mean / (each.high - each.low) for each in profile]


def one_t_variance(profile: Profile) -> float:
    """The variance of the estimate from one draw of t, example and noise, in (bits/dim)²."""
    total = sum(each.draws for each in profile)
    mean = sum(each.draws / total * each.mean for each in profile)
    return sum(each.draws / total * (each.variance + each.mean**2) for each in profile) - mean**2
