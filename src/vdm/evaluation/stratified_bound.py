"""The bound to a stated Monte-Carlo error, with network calls spent where the variance is.

The bound (1.62) of a data set is prior matching, in closed form, and a sum over strata h of E y_h: the reconstruction is
stratum 0, and the times of the denoising term are cut into H others (T − 1 of them, one a step, where T is small). With
v_h = Var y_h over examples, noise and t within the stratum, n_h draws give the variance Σ v_h/n_h. For a given number of
calls that is least at n_h ∝ √v_h (Neyman 1934), where a standard error s costs

    (Σ √v_h)²/s²  calls, against  (H + 1) Σ v_h/s²  for the full sum, which draws every stratum equally often.

Four rounds of independent draws: a small pilot, a larger one where the first says (both thrown away), and two halves of
the estimate. Each round's numbers are fixed by the rounds before it and the halves weigh ½ whatever is drawn, so the
estimate is unbiased; the last half is sized by the error of the first, so the target is met closely.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.batch import Batch
from vdm.bound import VariationalModel
from vdm.denoiser import with_condition
from vdm.draws import Draws, ExampleDraws, scalar_dtype
from vdm.elbo import DiscreteTime, one_time_estimate, prior_matching, reconstruction
from vdm.errors import InvalidInput
from vdm.estimate import Estimate
from vdm.evaluation.estimator import Estimator, Progress, Result, diffusion
from vdm.gamma import event_dims
from vdm.models import DiffusionModel
from vdm.terms import bits_per_dim

MOST_CALLS = 10**9
"""Of one round: more would fill the memory with their numbers alone."""


class StratumSums(NamedTuple):
    """Of the draws y, in bits/dim: over each stratum (H + 1,), and over each example's (n, 2), weighted to its terms."""

    counts: Tensor
    totals: Tensor
    squares: Tensor
    examples: Tensor

    @property
    def variances(self) -> Tensor:
        """v_h, the sample variances of one draw, (H + 1,)."""
        spread = self.squares / self.counts - (self.totals / self.counts).square()
        return spread.clamp(min=0) * self.counts / (self.counts - 1)

    @property
    def error2(self) -> Tensor:
        """Squared standard errors of the strata's means, (H + 1,)."""
        return self.variances / self.counts


def neyman_allocation(known: StratumSums, weight: float, variance: float) -> Tensor:
    """n_h ∝ √v_h with weight² Σ v_h/n_h = ``variance``, and at least 4: (H + 1,).

    Raises:
        InvalidInput: draws that are not finite, or more calls than anybody makes.
    """
    sd = known.variances.sqrt()
    calls = weight**2 * sd.sum().square().item() / variance
    if not math.isfinite(calls):
        raise InvalidInput("the bound's draws are not finite, and no number of them reaches target_se: leave it out")
    if calls > MOST_CALLS:
        raise InvalidInput(f"this target_se would take {calls:.1e} calls of the network: ask for a larger one")
    return (weight**2 * sd * sd.sum() / variance).ceil().clamp(min=4).long()


def spread_over_examples(first: Tensor, second: Tensor) -> float:
    """Standard error over examples, of two independent estimates (n,) of each one's bound.

    An example is drawn too seldom for the spread of either to be that of the bounds; but what the two have in common is.
    """
    if len(first) < 2:
        return math.nan
    covariance = ((first - first.mean()) * (second - second.mean())).sum().item() / (len(first) - 1)
    return math.sqrt(max(covariance, 0.0) / len(first))


class StratifiedBound(Estimator):
    """The bound at the model's own time, to ``mc_se`` = ``target_se``.

    ``mc_se`` holds the choice of examples here, as a call sees one example at one time; ``data_se`` is without any of it,
    and uncertain where the target is loose.

    Args:
        target_se: in bits/dim.
        strata: H at most; a discrete time of fewer steps has one stratum a step.
        pilot: draws in each stratum to measure its variance first, at least 8.
        margin: how much smaller than target_se² the variance is planned, since variances are estimates themselves.
        seed: of the draws, keyed by (seed, stage, number of the draw).
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
        diffusion(model, "a bound to a target")

    @torch.no_grad()
    def estimate(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        vdm = diffusion(model, "a bound to a target")
        strata = min(self.strata, vdm.time.steps) if isinstance(vdm.time, DiscreteTime) else self.strata
        rounds: list[StratumSums] = []
        goal = self.target_se**2 / self.margin

        def draw(counts: Tensor, start: float, end: float) -> StratumSums:
            told = lambda done: progress(start + (end - start) * done)  # noqa: E731
            rounds.append(self._draw(vdm, data, counts, len(rounds), told))
            return rounds[-1]

        pilot = draw(torch.full((strata + 1,), self.pilot), 0.0, 0.04)
        pilot = draw(neyman_allocation(pilot, 1.0, 30 * goal), 0.04, 0.09)
        half = draw(neyman_allocation(pilot, 0.5, goal / 2), 0.09, 0.55)
        draw(neyman_allocation(half, 0.5, max(goal - half.error2.sum().item() / 4, goal / 10)), 0.55, 1.0)
        return [self._conclude(vdm, data, rounds)]

    def _draw(self, vdm: DiffusionModel, data: Batch, counts: Tensor, stage: int, progress: Progress) -> StratumSums:
        """Draws ``counts`` (H + 1,) times in each stratum: t spread evenly over it, the examples in a random order."""
        n, strata, total = len(data.x), len(counts) - 1, int(counts.sum())
        stream, device = Draws(self.seed, stage), data.x.device
        order = stream.uniform("order", torch.empty(n)).argsort()
        turn, offset = (stream.uniform(name, torch.empty(strata + 1)) for name in ("turn", "offset"))
        sums = [torch.zeros(strata + 1, dtype=torch.float64) for _ in range(2)]
        examples = torch.zeros(n, 2, dtype=torch.float64)
        for stratum, numbers, serial in self._blocks(counts):
            chosen = order[((turn[stratum] * n).long() + numbers) % n]
            place = (offset[stratum] + numbers) % counts[stratum] / counts[stratum]
            u = ((stratum - 1 + place) / strata).clamp(max=1 - 1e-12).to(device, scalar_dtype(device))
            draws = ExampleDraws(serial, self.seed, stage)
            batch = Batch(*(None if part is None else part[chosen] for part in data))  # type: ignore[arg-type]
            y = bits_per_dim(self._values(vdm, batch, stratum, u, strata, draws), event_dims(data.x)).double().cpu()
            for power, value in enumerate(sums, 1):
                value.index_add_(0, stratum, y**power)
            examples.index_put_((chosen, (stratum > 0).long()), n * y / counts[stratum], accumulate=True)
            progress((int(serial[-1]) + 1) / total)
        return StratumSums(counts.double(), sums[0], sums[1], examples)

    def _blocks(self, counts: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(stratum, number within it, serial number) of every draw, in blocks; reconstruction and denoising apart."""
        starts = counts.cumsum(0) - counts
        for low, high in ((0, int(counts[0])), (int(counts[0]), int(counts.sum()))):
            for serial in torch.arange(low, high).split(self.rows):
                stratum = torch.searchsorted(starts, serial, right=True) - 1
                yield stratum, serial - starts[stratum], serial

    def _values(
        self, vdm: DiffusionModel, batch: Batch, stratum: Tensor, u: Tensor, strata: int, draws: ExampleDraws
    ) -> Tensor:
        """y in nats, (B,): −log p(x | x_1), or the stratum's share of the denoising term."""
        x_0, denoise = vdm.likelihood.encode(batch.x), with_condition(vdm.denoiser, batch.condition)
        if stratum[0] == 0:
            gamma_1 = vdm.schedule(torch.zeros_like(u))
            return -reconstruction(vdm.likelihood, batch.x, x_0, draws.normal("x_1", x_0), gamma_1, denoise)
        eps, density = draws.normal("x_t", x_0), torch.full_like(u, strata)
        return one_time_estimate(vdm.time, vdm.schedule, x_0, eps, u, density, denoise).matching()

    def _conclude(self, vdm: DiffusionModel, data: Batch, rounds: list[StratumSums]) -> Result:
        x_0, halves = vdm.likelihood.encode(data.x), rounds[2:]
        gamma_T = vdm.schedule(torch.ones(len(x_0), dtype=scalar_dtype(x_0.device), device=x_0.device))
        prior = bits_per_dim(prior_matching(x_0, gamma_T), event_dims(x_0)).double().cpu()
        means = torch.stack([half.totals / half.counts for half in halves]).mean(0)
        error2 = torch.stack([half.error2 for half in halves]).mean(0) / 2
        examples = [torch.cat([half.examples, prior[:, None]], 1) for half in halves]

        def estimate(strata: slice, columns: list[int], closed: float) -> Estimate:
            value, mc_se = means[strata].sum().item() + closed, error2[strata].sum().sqrt().item()
            return Estimate(value, mc_se, spread_over_examples(*(half[:, columns].sum(1) for half in examples)))

        terms = {
            "bits_per_dim": estimate(slice(None), [0, 1, 2], prior.mean().item()),
            "reconstruction": estimate(slice(0, 1), [0], 0.0),
            "prior_matching": estimate(slice(0, 0), [2], prior.mean().item()),
            "denoising_matching": estimate(slice(1, None), [1], 0.0),
        }
        variances = (halves[0].variances + halves[1].variances) / 2
        calls, pilots = (int(sum(done.counts.sum().item() for done in some)) for some in (rounds, rounds[:2]))
        floor = math.ceil(variances.sqrt().sum().square().item() / self.target_se**2)
        full = math.ceil(len(variances) * variances.sum().item() / self.target_se**2)
        facts: dict[str, object] = {
            "target_se": self.target_se,
            "strata": len(variances) - 1,
            "pilot_calls": pilots,
            "floor_calls": floor,
            "calls_over_floor": calls / floor,
            "full_sum_calls": full,
            "seed": self.seed,
        }
        note = f"{calls:,} calls, {calls / floor:.2f} × the floor of {floor:,}; the full sum would take {full:,}"
        label = f"bound, T = {vdm.time}, to {self.target_se:g}"
        return Result("target", label, terms, len(data.x), calls / len(data.x), calls, facts, note)
