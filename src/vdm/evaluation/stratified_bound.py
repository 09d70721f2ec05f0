"""The bound to a chosen Monte-Carlo error, with network calls spent where the variance is.

The bound (1.62) of a data set is prior matching, in closed form, plus a sum over strata h of E y_h: the reconstruction is
stratum 0, and the times of the denoising term are divided into H others (T − 1, one for each step, where T is small). With
v_h = Var y_h over examples, noise and t within the stratum, n_h draws give the variance Σ v_h/n_h. For a fixed number of
calls it is smallest at n_h ∝ √v_h (Neyman 1934), where a standard error s costs

    (Σ √v_h)²/s²  calls, against  (H + 1) Σ v_h/s²  for the same number of draws in every stratum.

There are four rounds of independent draws: a small pilot, a larger pilot allocated by the first (both discarded), and the
two halves of the estimate. The number of draws of a round depends only on earlier rounds and each half has weight ½, so
the estimate is unbiased. The second half is sized by the measured error of the first, so that mc_se is close to the target.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vdm.batch import Batch
from vdm.bound import VariationalModel
from vdm.draws import scalar_dtype
from vdm.elbo import DiscreteTime, prior_matching
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation.estimator import Estimator, Progress, Result, diffusion
from vdm.evaluation.strata import StratumSampler, StratumSums, neyman_allocation
from vdm.gamma import event_dims
from vdm.models import DiffusionModel
from vdm.terms import bits_per_dim


class StratifiedBound(Estimator):
    """The bound at the model's own time, to ``mc_se`` ≈ ``target_se``.

    ``mc_se`` includes the random choice of examples, since each call evaluates one example at one time. ``data_se``
    excludes all Monte-Carlo error, and is itself uncertain for a large target.

    Args:
        target_se: in bits/dim.
        strata: largest H; a discrete time of fewer steps has one stratum for each step.
        pilot: draws in each stratum of the first pilot, at least 8.
        margin: factor by which the planned variance is below target_se², because variances are estimated.
        seed: of the draws, keyed by (seed, round, number of the draw).
        examples: how many examples, from the start of the data set; null for all.
        rows: how many draws one call of the network may hold.
    """

    def __init__(
        self,
        target_se: float,
        strata: int = 32,
        pilot: int = 16,
        margin: float = 1.04,
        seed: int = 0,
        examples: int | None = None,
        rows: int = 512,
    ) -> None:
        if not 0 < target_se < math.inf:
            raise InvalidInput(f"target_se is a standard error in bits/dim and must be positive and finite, got {target_se}")
        if not 1 <= margin < math.inf:
            raise InvalidInput(f"margin divides the planned variance and must be at least 1 and finite, got {margin}")
        if pilot < 8 or strata < 1:
            raise InvalidInput(f"pilot must be at least 8 and strata at least 1, got pilot={pilot}, strata={strata}")
        super().__init__(examples, rows)
        self.target_se, self.strata, self.pilot = float(target_se), strata, pilot
        self.margin, self.seed = margin, seed

    def check(self, model: VariationalModel) -> None:
        diffusion(model, "target_se")

    @torch.no_grad()
    def estimate(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        vdm = diffusion(model, "target_se")
        strata = min(self.strata, vdm.time.steps) if isinstance(vdm.time, DiscreteTime) else self.strata
        rounds = self._draw_rounds(StratumSampler(vdm, data, self.seed, self.rows), strata, progress)
        terms = bound_terms(rounds[2:], prior_matching_bits(vdm, data.x))
        facts, calls = self._facts(rounds), sum(sums.calls for sums in rounds)
        note = (
            f"{calls:,} calls, {calls / facts['floor_calls']:.2f} × the minimum of {facts['floor_calls']:,}; equal draws in "
            f"every stratum would take {facts['full_sum_calls']:,}"
        )
        label = f"bound, T = {vdm.time}, to {self.target_se:g}"
        return [Result("target", label, terms, len(data.x), calls / len(data.x), calls, facts, note)]

    def _draw_rounds(self, sampler: StratumSampler, strata: int, progress: Progress) -> list[StratumSums]:
        """Draw two pilots and the two halves of the estimate, each allocated by the round before it."""
        goal = self.target_se**2 / self.margin
        equal = torch.full((strata + 1,), self.pilot)
        small = sampler.draw(equal, 0, portion(progress, 0.0, 0.04))
        pilot = sampler.draw(neyman_allocation(small, 1.0, 30 * goal), 1, portion(progress, 0.04, 0.09))
        first = sampler.draw(neyman_allocation(pilot, 0.5, goal / 2), 2, portion(progress, 0.09, 0.55))
        remaining = max(goal - first.squared_se.sum().item() / 4, goal / 10)
        second = sampler.draw(neyman_allocation(first, 0.5, remaining), 3, portion(progress, 0.55, 1.0))
        return [small, pilot, first, second]

    def _facts(self, rounds: Sequence[StratumSums]) -> dict[str, Any]:
        """Settings and costs in network calls, as they stand in metrics.json."""
        *pilots, first, second = rounds
        variances = (first.variances + second.variances) / 2
        floor = math.ceil(variances.sqrt().sum().square().item() / self.target_se**2)
        return {
            "target_se": self.target_se,
            "strata": len(variances) - 1,
            "pilot_calls": sum(sums.calls for sums in pilots),
            "floor_calls": floor,
            "calls_over_floor": sum(sums.calls for sums in rounds) / floor,
            "full_sum_calls": math.ceil(len(variances) * variances.sum().item() / self.target_se**2),
            "seed": self.seed,
        }


def portion(progress: Progress, start: float, end: float) -> Progress:
    """Report the progress 0 … 1 of a part of the work as ``start`` … ``end`` of the whole."""
    return lambda done: progress(start + (end - start) * done)


def prior_matching_bits(vdm: DiffusionModel, x: Tensor) -> Tensor:
    """Prior matching of each example in closed form, (n,), in bits/dim, on the CPU."""
    found = []
    for rows in x.split(512):  # a whole split in float32 may not fit into memory
        x_0 = vdm.likelihood.encode(rows)
        gamma_T = vdm.schedule(torch.ones(len(x_0), dtype=scalar_dtype(x_0.device), device=x_0.device))
        found.append(bits_per_dim(prior_matching(x_0, gamma_T), event_dims(x_0)).double().cpu())
    return torch.cat(found)


def bound_terms(halves: Sequence[StratumSums], prior: Tensor) -> dict[str, Estimate]:
    """The bound term by term from two independent halves and each example's prior matching (n,), in bits/dim."""
    means = torch.stack([half.means for half in halves]).mean(0)
    squared_se = torch.stack([half.squared_se for half in halves]).mean(0) / 2
    examples = [torch.cat([half.examples, prior[:, None]], 1) for half in halves]

    def estimate(strata: slice, columns: list[int], closed: float) -> Estimate:
        value, mc_se = means[strata].sum().item() + closed, squared_se[strata].sum().sqrt().item()
        return Estimate(value, mc_se, data_se_of_halves(*(half[:, columns].sum(1) for half in examples)))

    return {
        "bits_per_dim": estimate(slice(None), [0, 1, 2], prior.mean().item()),
        "reconstruction": estimate(slice(0, 1), [0], 0.0),
        "prior_matching": estimate(slice(0, 0), [2], prior.mean().item()),
        "denoising_matching": estimate(slice(1, None), [1], 0.0),
    }


def data_se_of_halves(first: Tensor, second: Tensor) -> float:
    """Standard error over examples, from two independent estimates (n,) of each example's bound.

    An example has so few draws that either estimate's variance is mostly Monte-Carlo noise. The noise of the two is
    independent, so their covariance is the variance of the bounds alone.
    """
    if len(first) < 2:
        return math.nan
    covariance = ((first - first.mean()) * (second - second.mean())).sum().item() / (len(first) - 1)
    return math.sqrt(max(covariance, 0.0) / len(first))
