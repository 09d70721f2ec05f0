"""An auxiliary latent with k of L numbers equal to one, with its exact KL by dynamic programming."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.auxiliary.latent import LatentFamily, latent_uniform
from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput

IMPOSSIBLE = -1e30
"""The log-weight of a set that does not exist; its exponential is zero, and differences of two are finite."""


class SubsetTable(NamedTuple):
    """Sums over subsets of the first j elements with m members, for one distribution a row.

    taken: for each j = 1 … L, the probability that j is in a random one of them, (B, k + 1).
    log_total: log of the sum Z over the subsets of k of all L, (B,).
    mean: E z over those, (B, L): the marginal probabilities.
    """

    taken: list[Tensor]
    log_total: Tensor
    mean: Tensor


def subset_table(logits: Tensor, k: int) -> SubsetTable:
    """Sum Π_{j in S} e^{ℓ_j} over the subsets S of k elements, for logits ℓ (B, L), in O(k L) steps, and the mean of z.

    With A_j(m) the log-sum over the subsets of the first j with m members, A_j(m) = log(e^{A_{j−1}(m)} +
    e^{ℓ_j + A_{j−1}(m−1)}); j is taken with the second's share, and the mean follows the same recursion.
    """
    n, size = logits.shape
    log_sum = logits.new_full((n, k + 1), IMPOSSIBLE)
    log_sum[:, 0] = 0
    mean, taken, unit = logits.new_zeros(n, k + 1, size), [], torch.eye(size, dtype=logits.dtype, device=logits.device)
    for j in range(size):
        with_j = torch.cat([torch.full_like(log_sum[:, :1], IMPOSSIBLE), logits[:, j : j + 1] + log_sum[:, :-1]], 1)
        log_sum = torch.logaddexp(log_sum, with_j)
        taken.append(torch.exp((with_j - log_sum).clamp(max=0)))
        lower = torch.cat([torch.zeros_like(mean[:, :1]), mean[:, :-1] + unit[j]], 1)
        mean = mean + taken[-1][:, :, None] * (lower - mean)
    return SubsetTable(taken, log_sum[:, k], mean[:, k])


class KHotLatent(LatentFamily):
    """q(z | x) ∝ e^{ℓ·z} over the vectors z with k ones among L, and p(z) uniform over these C(L, k).

    KL(q ‖ p) = ℓ·E z − log Z + log C(L, k), exact (``subset_table``). The gradient of a draw is that of E z.

    Args:
        size: L.
        hot: k, from 1 to L − 1.

    Raises:
        InvalidInput: another k.
    """

    def __init__(self, size: int, hot: int) -> None:
        super().__init__(size)
        if not 1 <= hot < size:
            raise InvalidInput(f"hot, the number of ones, must be from 1 to size − 1 = {size - 1}, got {hot}")
        self.hot = int(hot)

    @property
    def parameters(self) -> int:
        return self.size

    @property
    def log_subsets(self) -> float:
        """log C(L, k)."""
        return math.log(math.comb(self.size, self.hot))

    def draw(self, parameters: Tensor, draws: AbstractDraws) -> Tensor:
        """Draw from the last element to the first, each taken with its probability given how many are left to take."""
        table, uniform = subset_table(parameters, self.hot), latent_uniform(draws, parameters)
        left = torch.full((len(parameters), 1), self.hot, device=parameters.device)
        columns = []
        for j in range(self.size - 1, -1, -1):
            chosen = uniform[:, j : j + 1] < table.taken[j].gather(1, left)
            columns.append(chosen)
            left = left - chosen.long()
        z = torch.cat(columns[::-1], 1).to(parameters.dtype)
        return z + (table.mean - table.mean.detach())

    def kl(self, parameters: Tensor) -> Tensor:
        table = subset_table(parameters, self.hot)
        return (parameters * table.mean).sum(1) - table.log_total + self.log_subsets

    def log_ratio(self, parameters: Tensor, z: Tensor) -> Tensor:
        return (parameters * z).sum(1) - subset_table(parameters, self.hot).log_total + self.log_subsets

    def prior(self, like: Tensor, draws: AbstractDraws) -> Tensor:
        return self.draw(like.new_zeros(len(like), self.size), draws)
