"""Random draws of the bound by stratum, and how many draws each stratum needs (Neyman allocation).

Stratum 0 is the reconstruction term. Stratum h = 1 … H is the denoising term at u in [(h − 1)/H, h/H).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.batch import Batch
from vdm.draws import AbstractDraws, Draws, ExampleDraws, scalar_dtype
from vdm.elbo import one_time_estimate, reconstruction
from vdm.errors import InvalidInput
from vdm.evaluation.estimator import Progress
from vdm.gamma import event_dims
from vdm.models import DiffusionModel
from vdm.terms import bits_per_dim

MOST_CALLS = 10**9
"""Largest number of network calls in one round; the index tensors of a larger round would not fit in memory."""


LEAST = 8
"""Least number of draws of a stratum in one round, since fewer tell nothing of their variance."""

NEIGHBOURS = 16
"""Weight of the neighbouring strata in ``stable_variances``, in draws."""

DEFENSIVE = 0.05
"""Least number of draws of a stratum as a share of an equal number in each: a guard against a variance that was missed."""


class Block(NamedTuple):
    """The draws of one network call, (b,) each: stratum, example index, u that gives the time, number in the round."""

    stratum: Tensor
    example: Tensor
    u: Tensor
    serial: Tensor


class StratumSums(NamedTuple):
    """Sums over the draws y of one round, in bits/dim.

    counts, totals, squares, cubes: number of the draws in each stratum, and sums of their powers, (H + 1,).
    examples: estimate of each example's reconstruction and denoising term, (n, 2).
    """

    counts: Tensor
    totals: Tensor
    squares: Tensor
    cubes: Tensor
    examples: Tensor

    @classmethod
    def zeros(cls, counts: Tensor, n: int) -> "StratumSums":
        """Return empty sums for ``counts`` (H + 1,) draws over n examples, to be filled by ``add``."""
        counts = counts.double()
        totals, squares, cubes = torch.zeros(3, len(counts), dtype=torch.float64)
        return cls(counts, totals, squares, cubes, torch.zeros(n, 2, dtype=torch.float64))

    @classmethod
    def pooled(cls, rounds: Sequence["StratumSums"]) -> "StratumSums":
        """Return the sums over the draws of several rounds; ``examples`` is then their mean."""
        counts, totals, squares, cubes, examples = (torch.stack(parts) for parts in zip(*rounds, strict=True))
        return cls(counts.sum(0), totals.sum(0), squares.sum(0), cubes.sum(0), examples.mean(0))

    def add(self, block: Block, y: Tensor) -> None:
        """Add the draws y (b,) of one block, in place."""
        self.totals.index_add_(0, block.stratum, y)
        self.squares.index_add_(0, block.stratum, y.square())
        self.cubes.index_add_(0, block.stratum, y.pow(3))
        weighted = len(self.examples) * y / self.counts[block.stratum]
        self.examples.index_put_((block.example, (block.stratum > 0).long()), weighted, accumulate=True)

    @property
    def calls(self) -> int:
        """Number of network calls."""
        return int(self.counts.sum().item())

    @property
    def means(self) -> Tensor:
        """Mean of y in each stratum, (H + 1,)."""
        return self.totals / self.counts

    @property
    def variances(self) -> Tensor:
        """v_h, the sample variance of one draw in each stratum, (H + 1,)."""
        spread = self.squares / self.counts - self.means.square()
        return spread.clamp(min=0) * self.counts / (self.counts - 1)

    @property
    def third_moments(self) -> Tensor:
        """The third central moment of one draw in each stratum, (H + 1,)."""
        means = self.means
        return self.cubes / self.counts - 3 * means * self.squares / self.counts + 2 * means.pow(3)

    @property
    def stable_variances(self) -> Tensor:
        """v_h for planning, (H + 1,): drawn towards the mean of the neighbouring times, as if by ``NEIGHBOURS`` draws.

        A heavy tail hides from a few draws, and a stratum that happened to see none of it would get too few draws for ever.
        """
        known, own = self.variances[1:], self.counts[1:]
        near = [known.roll(shift) for shift in (1, -1)]
        if len(known) < 3:
            return self.variances
        near[0][0], near[1][-1] = known[1], known[-2]
        return torch.cat([self.variances[:1], (own * known + NEIGHBOURS * (near[0] + near[1]) / 2) / (own + NEIGHBOURS)])


def neyman_allocation(variances: Tensor, variance: float, reconstruction: int = LEAST) -> Tensor:
    """Return the numbers of draws n_h ∝ √v_h with Σ v_h/n_h ≤ ``variance``, (H + 1,).

    At least ``LEAST`` each, and ``reconstruction`` in stratum 0, whose draws are zero but for rare events.

    Raises:
        InvalidInput: variances that are not finite; more than ``MOST_CALLS`` network calls.
    """
    sd = variances.sqrt()
    calls = sd.sum().square().item() / variance
    if not math.isfinite(calls):
        raise InvalidInput("the bound's draws are not finite, so no number of draws reaches target_se: set target_se=null")
    if calls > MOST_CALLS:
        raise InvalidInput(f"this target_se would take {calls:.1e} calls of the network: ask for a larger one")
    least = max(LEAST, math.ceil(DEFENSIVE * calls / len(sd)))
    counts = (sd * sd.sum() / variance).ceil().clamp(min=least).long()
    counts[0] = max(int(counts[0]), reconstruction)
    return counts


class StratumSampler:
    """Draws of the bound of ``data`` at the model's own time, keyed by (seed, round, serial number).

    Args:
        rows: how many draws one network call may hold.
    """

    def __init__(self, vdm: DiffusionModel, data: Batch, seed: int, rows: int) -> None:
        self.vdm, self.data, self.seed, self.rows = vdm, data, seed, rows

    def draw(self, counts: Tensor, number: int, progress: Progress) -> StratumSums:
        """Draw round ``number``: ``counts`` (H + 1,) times in the strata."""
        sums, total = StratumSums.zeros(counts, len(self.data.x)), int(counts.sum())
        for block in self._blocks(counts, Draws(self.seed, number)):
            draws = ExampleDraws(block.serial, self.seed, number)
            nats = self._nats(block, len(counts) - 1, draws)
            sums.add(block, bits_per_dim(nats, event_dims(self.data.x)).double().cpu())
            progress((int(block.serial[-1]) + 1) / total)
        return sums

    def _blocks(self, counts: Tensor, stream: Draws) -> Iterator[Block]:
        """All draws of a round: u evenly spaced over each stratum, examples in a random order."""
        n, strata = len(self.data.x), len(counts) - 1
        order = stream.uniform("order", torch.empty(n)).argsort()
        turn, offset = (stream.uniform(name, torch.empty(strata + 1)) for name in ("turn", "offset"))
        starts, denoising = counts.cumsum(0) - counts, int(counts[0])
        for low, high in ((0, denoising), (denoising, int(counts.sum()))):
            for serial in torch.arange(low, high).split(self.rows):
                stratum = torch.searchsorted(starts, serial, right=True) - 1
                within = serial - starts[stratum]
                example = order[((turn[stratum] * n).long() + within) % n]
                fraction = (offset[stratum] + within) % counts[stratum] / counts[stratum]
                yield Block(stratum, example, ((stratum - 1 + fraction) / strata).clamp(max=1 - 1e-12), serial)

    def _nats(self, block: Block, strata: int, draws: AbstractDraws) -> Tensor:
        """y in nats, (b,): −log p(x | x_1), or the stratum's share of the denoising term."""
        x = self.data.x[block.example]
        condition = None if self.data.condition is None else self.data.condition[block.example]
        u = block.u.to(self.data.x.device, scalar_dtype(self.data.x.device))
        vdm, x_0, given = self.vdm, self.vdm.likelihood.encode(x), self.vdm.given(x, draws, condition)
        if block.stratum[0] == 0:
            gamma_1, eps = given.schedule(torch.zeros_like(u)), draws.normal("x_1", x_0)
            return -reconstruction(vdm.likelihood, x, x_0, eps, gamma_1, given.denoise, given.process)
        eps, density = draws.normal("x_t", x_0), torch.full_like(u, strata)
        return one_time_estimate(vdm.time, given, x_0, eps, u, density).matching()
