"""The bound to a chosen Monte-Carlo error, with network calls spent where the variance is.

The bound (1.62) of a data set is prior matching, in closed form, plus a sum over strata h of E y_h: the reconstruction is
stratum 0, and the times of the denoising term are divided into H others (T − 1, one for each step, where T is small). With
v_h = Var y_h over examples, noise and t within the stratum, n_h draws give the variance Σ v_h/n_h. For a fixed number of
calls it is smallest at n_h ∝ √v_h (Neyman 1934), where a standard error s costs

    (Σ √v_h)²/s²  calls, against  (H + 1) Σ v_h/s²  for the same number of draws in every stratum.

There are rounds of independent draws: a small pilot, a larger pilot allocated by the first (for the variances alone), and
the two halves of the estimate, with weight ½ each. The second half is sized by what the first left to do. If the error is
then still above the target, because a heavy tail showed itself late, further rounds follow with the weights that make the
most of them, at most ``MORE``. The number of draws of a round depends on earlier rounds only, so that two halves are
unbiased; each further round adds a bias of a small part of mc_se.

mc_se² = Σ_h V_h with V_h = Σ_k w_k² v_hk/n_hk, from the draws of the estimate alone: these variances are unbiased, since the
n_hk are known before, and go up and down with the estimate, as Student's t assumes. mc_se has
(Σ V_h)² / Σ V_h²/(n_h + 1) − 2 degrees of freedom (Welch 1947).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vdm.batch import Batch, chunks
from vdm.bound import VariationalModel
from vdm.draws import Draws
from vdm.elbo import DiscreteTime, prior_matching
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation.estimator import Estimator, Progress, Result, diffusion
from vdm.evaluation.strata import StratumSampler, StratumSums, neyman_allocation
from vdm.gamma import event_dims
from vdm.models import DiffusionModel
from vdm.models.diffusion_model import gamma_at

RECONSTRUCTION = 256
"""Least number of draws of the reconstruction term in each half: if x_1 nearly always determines the level, one draw in
hundreds carries the term and its error bar."""


class WeightedRounds(NamedTuple):
    """Rounds of draws and the weights w_k of their means in the estimate, with sum one; 0 for a pilot."""

    rounds: list[StratumSums]
    weights: list[float]

    def followed_by(self, sums: StratumSums, weight: float) -> "WeightedRounds":
        """Add a round with ``weight``, and scale those of the earlier rounds by 1 − weight."""
        return WeightedRounds([*self.rounds, sums], [*(old * (1 - weight) for old in self.weights), weight])

    @property
    def variances(self) -> Tensor:
        """v_h for planning, from all rounds, (H + 1,)."""
        return StratumSums.pooled(self.rounds).stable_variances

    @property
    def used(self) -> list[tuple[StratumSums, float]]:
        """The rounds of the estimate and their weights, without pilots."""
        return [(sums, weight) for sums, weight in zip(self.rounds, self.weights, strict=True) if weight]

    @property
    def squared_se(self) -> Tensor:
        """V_h = Σ_k w_k² v_hk/n_hk, each stratum's part of the squared standard error, (H + 1,)."""
        return torch.stack([weight**2 * sums.variances / sums.counts for sums, weight in self.used]).sum(0)

    def terms(self, closed: Mapping[str, Tensor]) -> dict[str, Estimate]:
        """The bound term by term in bits/dim, from each example's terms in closed form (n,)."""
        means = torch.stack([weight * sums.means for sums, weight in self.used]).sum(0)
        thirds = torch.stack([w**3 * sums.third_moments / sums.counts.square() for sums, w in self.used]).sum(0)
        variances, counts = self.squared_se, torch.stack([sums.counts for sums, _ in self.used]).sum(0)
        examples = [torch.cat([sums.examples, torch.stack([*closed.values()], 1)], 1) for sums, _ in self.used[:2]]
        place = {name: 2 + i for i, name in enumerate(closed)}

        def estimate(strata: slice, sampled: list[int], names: Sequence[str]) -> Estimate:
            part, total = variances[strata], variances[strata].sum().item()
            df = total**2 / (part.square() / (counts[strata] + 1)).sum().item() - 2 if total else math.inf
            skew = thirds[strata].sum().item() / total**1.5 if total else 0.0
            columns = [*sampled, *(place[name] for name in names)]
            error = data_se_of_halves(*(half[:, columns].sum(1) for half in examples))
            value = means[strata].sum().item() + sum(closed[name].mean().item() for name in names)
            return Estimate(value, math.sqrt(total), error, df, skew)

        exact = {name: estimate(slice(0, 0), [], [name]) for name in closed}
        return {
            "bits_per_dim": estimate(slice(None), [0, 1], [*closed]),
            "reconstruction": estimate(slice(0, 1), [0], []),
            "prior_matching": exact.pop("prior_matching"),
            "denoising_matching": estimate(slice(1, None), [1], []),
            **exact,
        }


MORE = 8
"""Most rounds after the two halves."""


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
        drawn = self._draw_rounds(StratumSampler(vdm, data, self.seed, self.rows), strata, progress)
        terms = drawn.terms(closed_bits(vdm, data, self.seed))
        facts, calls = self._facts(drawn), sum(sums.calls for sums in drawn.rounds)
        reached = terms["bits_per_dim"].mc_se
        missed = "" if reached <= self.target_se else f"asked {self.target_se:g}, reached {reached:.2g}; "
        late = facts["rounds"] - 2
        tail = f"heavy tails took {late} more round{'s' * (late > 1)}; " if late else ""
        note = (
            f"{missed}{tail}{calls:,} calls, {facts['calls_over_floor']:.2f} × the minimum of {facts['floor_calls']:,}; "
            f"equal draws in every stratum would take {facts['full_sum_calls']:,}"
        )
        label = f"bound, T = {vdm.time}, to {reached if missed else self.target_se:.2g}"
        return [Result("target", label, terms, len(data.x), calls / len(data.x), calls, facts, note)]

    def _draw_rounds(self, sampler: StratumSampler, strata: int, progress: Progress) -> WeightedRounds:
        """Draw two pilots, the two halves of the estimate, and further rounds while the target is not met."""
        goal = self.target_se**2 / self.margin
        equal = torch.full((strata + 1,), self.pilot)
        drawn = WeightedRounds([sampler.draw(equal, 0, portion(progress, 0.0, 0.04))], [0.0])
        counts = neyman_allocation(drawn.variances, 30 * goal)
        drawn = drawn.followed_by(sampler.draw(counts, 1, portion(progress, 0.04, 0.09)), 0.0)
        counts = neyman_allocation(drawn.variances, 2 * goal, RECONSTRUCTION)
        drawn = drawn.followed_by(sampler.draw(counts, 2, portion(progress, 0.09, 0.55)), 1.0)
        remaining = max(goal - drawn.squared_se.sum().item() / 4, goal / 10)
        counts = neyman_allocation(drawn.variances, 4 * remaining, RECONSTRUCTION)
        drawn = drawn.followed_by(sampler.draw(counts, 3, portion(progress, 0.55, 0.9)), 0.5)
        for number in range(4, 4 + MORE):
            reached = drawn.squared_se.sum().item()
            if reached <= self.target_se**2:
                break
            missing = goal * reached / (reached - goal)  # the variance of a round that leaves ``goal`` of both
            weight = reached / (reached + missing)
            counts = neyman_allocation(drawn.variances, missing)
            part = portion(progress, *(1 - 0.1 / 2**k for k in (number - 4, number - 3)))
            drawn = drawn.followed_by(sampler.draw(counts, number, part), weight)
        progress(1.0)
        return drawn

    def _facts(self, drawn: WeightedRounds) -> dict[str, Any]:
        """Settings and costs in network calls, as they stand in metrics.json."""
        variances, calls = StratumSums.pooled(drawn.rounds).variances, [sums.calls for sums in drawn.rounds]
        floor = max(1, math.ceil(variances.sqrt().sum().square().item() / self.target_se**2))
        return {
            "target_se": self.target_se,
            "strata": len(variances) - 1,
            "rounds": len(calls) - 2,
            "pilot_calls": sum(calls[:2]),
            "floor_calls": floor,
            "calls_over_floor": sum(calls) / floor,
            "full_sum_calls": math.ceil(len(variances) * variances.sum().item() / self.target_se**2),
            "seed": self.seed,
        }


def portion(progress: Progress, start: float, end: float) -> Progress:
    """Report the progress 0 … 1 of a part of the work as ``start`` … ``end`` of the whole."""
    return lambda done: progress(start + (end - start) * done)


def closed_bits(vdm: DiffusionModel, data: Batch, seed: int) -> dict[str, Tensor]:
    """Return the terms in closed form, prior matching and an auxiliary latent's KL: (n,) each, in bits/dim, on the CPU."""
    if isinstance(data.x, Tensor):
        return _closed_bits(vdm, data, Draws(seed))
    pieces = [_closed_bits(vdm, rows, Draws(seed, number)) for number, rows in enumerate(chunks(data, 512))]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}  # of a split that stays in its file


def _closed_bits(vdm: DiffusionModel, data: Batch, draws: Draws) -> dict[str, Tensor]:
    x_0, given = vdm.likelihood.encode(data.x), vdm.given(data.x, draws, data.condition)
    prior, none = prior_matching(x_0, gamma_at(given, 1.0, x_0), given.process), x_0.new_zeros(len(x_0))
    terms = given.elbo(none, prior, none[:, None], event_dims(x_0)).terms()
    sampled = ("bits_per_dim", "reconstruction", "denoising_matching")
    return {name: value.double().cpu() for name, value in terms.items() if name not in sampled}


def data_se_of_halves(first: Tensor, second: Tensor) -> float:
    """Standard error over examples, from two independent estimates (n,) of each example's bound.

    An example has so few draws that either estimate's variance is mostly Monte-Carlo noise. The noise of the two is
    independent, so their covariance is the variance of the bounds alone.
    """
    if len(first) < 2:
        return math.nan
    covariance = ((first - first.mean()) * (second - second.mean())).sum().item() / (len(first) - 1)
    return math.sqrt(max(covariance, 0.0) / len(first))
