"""log p(x) by the probability flow: the deterministic counterpart of the diffusion, as a continuous normalising flow.

x_t = √ᾱ_t x̂_0 + σ_t ε̂ with x̂_0 and ε̂ held fixed gives the ordinary differential equation

    dx/dt = γ′(t) (½ σ ᾱ ε̂(x, γ) − ½ √ᾱ σ² x̂_0(x, γ)),

which has the marginals of q if the denoiser is ideal (Song et al. 2021, arXiv 2011.13456), and

    log p(x_1) = log N(x(1); 0, I) + ∫_0^1 ∇·(dx/dt) dt.

This is the density at γ_min of a different model from the variational one. Neither number bounds the other unless the
denoiser is ideal.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from vdm.batch import Batch, chunks
from vdm.bound import Denoise, VariationalModel
from vdm.divergence import Divergence, ExactDivergence
from vdm.draws import ExampleDraws, scalar_dtype
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.evaluation.dequantisation import Dequantisation
from vdm.evaluation.estimator import Estimator, Progress, Result, diffusion, need_two
from vdm.evaluation.summary import summarise
from vdm.gamma import align, alpha_bar, event_dims, sigma2
from vdm.given import Given
from vdm.process import standard_normal
from vdm.schedules import NoiseSchedule
from vdm.terms import bits_per_dim


def velocity(schedule: NoiseSchedule, denoise: Denoise, t: Tensor, x_t: Tensor) -> Tensor:
    """Return dx/dt of the probability flow, (B, *event), at times t (B,)."""
    gamma, rate = schedule(t), schedule.rate(t)
    prediction = denoise(x_t, gamma)
    noise, signal = 0.5 * sigma2(gamma).sqrt() * alpha_bar(gamma), 0.5 * alpha_bar(gamma).sqrt() * sigma2(gamma)
    return align(rate * noise, x_t) * prediction.eps - align(rate * signal, x_t) * prediction.x_0


def flow_denoise(given: Given) -> Denoise:
    """Return the denoiser whose x̂_0 and ε̂ make the drift of the flow of ``given.process``."""
    return lambda x_t, gamma: given.process.along(given.denoise(x_t, gamma), None, gamma)


class FlowEnd(NamedTuple):
    """The flow's end: x_T, ``last`` (B, *event), ∫ ∇·(dx/dt) dt over the way, (B,), and the number of evaluations."""

    last: Tensor
    divergence: Tensor
    calls: int


class FlowDensity(NamedTuple):
    """log_prob: log density of x_1 in nats, (B,). calls: number of evaluations of the velocity."""

    log_prob: Tensor
    calls: int


def flow_log_prob(
    schedule: NoiseSchedule, denoise: Denoise, x_1: Tensor, divergence: Divergence, probes: Tensor, tolerance: float
) -> FlowDensity:
    """Return the flow's log density at x_1 (B, *event), the latent at γ_min: ``flow_end``, with p(x_T) = N(0, I)."""
    x_T, change, calls = flow_end(schedule, denoise, x_1, divergence, probes, tolerance)
    return FlowDensity(standard_normal(x_T).log_prob(x_T) + change, calls)


@torch.no_grad()
def flow_end(
    schedule: NoiseSchedule, denoise: Denoise, x_1: Tensor, divergence: Divergence, probes: Tensor, tolerance: float
) -> FlowEnd:
    """Carry x_1 (B, *event) from γ_min to γ_max by an adaptive Runge–Kutta method.

    Args:
        probes: random probes for ``divergence``, (P, B, *event).
        tolerance: relative and absolute, on the root mean square over the batch.

    Raises:
        InvalidInput: the flow cannot be integrated to the tolerance.
    """
    n, shape = len(x_1), x_1.shape

    def rates(t: float, state: np.ndarray) -> np.ndarray:
        x_t = torch.from_numpy(state[: x_1.numel()]).to(x_1).view(shape)
        times = torch.full((n,), t, dtype=scalar_dtype(x_1.device), device=x_1.device)
        dx, trace = divergence(lambda x: velocity(schedule, denoise, times, x), x_t, probes)
        return torch.cat([dx.flatten(), trace]).double().cpu().numpy()

    start = torch.cat([x_1.flatten(), x_1.new_zeros(n)]).double().cpu().numpy()
    solution = solve_ivp(rates, (0.0, 1.0), start, method="RK45", t_eval=[1.0], rtol=tolerance, atol=tolerance)
    if not solution.success:
        raise InvalidInput(
            f"the probability flow cannot be integrated to tolerance={tolerance} ({solution.message}): use a larger one"
        )
    end = torch.from_numpy(solution.y[:, -1]).to(x_1)
    return FlowEnd(end[: x_1.numel()].view(shape), end[x_1.numel() :], int(solution.nfev))


class FlowLikelihood(Estimator):
    """−log p(x) in bits/dim by the probability flow; for integer levels, a bound on it by dequantisation.

    Everything but the network runs in float64. The first ``rows`` examples are integrated a second time at half the
    tolerance, and the change is reported.

    Args:
        divergence: ``ExactDivergence`` for small D, ``HutchinsonDivergence`` otherwise.
        dequantisation: from integer levels to reals.
        tolerance: of the integration, relative and absolute.
        repeats: independent replicates of dequantisation and probe, at least 2.
        seed: of the draws, keyed by (seed, example, replicate).
        examples: how many examples, from the start of the data set; null for all.
        rows: how many examples are integrated together.
    """

    def __init__(
        self,
        divergence: Divergence,
        dequantisation: Dequantisation,
        tolerance: float = 1e-5,
        repeats: int = 2,
        seed: int = 0,
        examples: int | None = None,
        rows: int = 64,
    ) -> None:
        if not 0 < tolerance < 1:
            raise InvalidInput(f"tolerance must be between 0 and 1, got {tolerance}: 1e-5 is usual")
        super().__init__(examples, rows)
        self.divergence, self.dequantisation, self.tolerance = divergence, dequantisation, float(tolerance)
        self.repeats, self.seed = need_two(repeats), seed

    def check(self, model: VariationalModel) -> None:
        vdm = diffusion(model, "the probability flow")
        self.dequantisation.check(vdm.likelihood)
        vdm.at(ContinuousTime())  # refused by a denoiser that knows the steps of a table only
        if self.dequantisation.samples > 1 and not isinstance(self.divergence, ExactDivergence):
            raise InvalidInput(
                "several draws of the dequantisation need divergence=exact: the mean of exponentials of a noisy divergence "
                "is too large, and no bound"
            )

    def estimate(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        pieces = list(chunks(data, self.rows))
        runs = [(pieces[0], 0, self.tolerance / 2)]
        runs += [(piece, repeat, self.tolerance) for piece in pieces for repeat in range(self.repeats)]
        densities = []
        for piece, repeat, tolerance in runs:
            densities.append(self._log_prob(model, piece, repeat, tolerance))
            progress(len(densities) / len(runs))
        halved, *columns = (bits_per_dim(-density.log_prob, event_dims(data.x)) for density in densities)
        values = torch.cat([torch.stack(columns[i : i + self.repeats], 1) for i in range(0, len(columns), self.repeats)])
        calls = sum(density.calls * len(density.log_prob) for density in densities)
        return [self._result(values, halved - values[: len(halved), 0], calls)]

    def _log_prob(self, model: VariationalModel, batch: Batch, repeat: int, tolerance: float) -> FlowDensity:
        """log p(x), or the bound log (1/K) Σ_k p(x_1^k)/q(x_1^k | x) on it, for one replicate."""
        k = self.dequantisation.samples
        weights = [self._log_weight(model, batch, repeat * k + i, tolerance) for i in range(k)]
        log_mean = torch.logsumexp(torch.stack([each.log_prob for each in weights]), 0) - math.log(k)
        return FlowDensity(log_mean, sum(each.calls for each in weights))

    def _log_weight(self, model: VariationalModel, batch: Batch, repeat: int, tolerance: float) -> FlowDensity:
        """log p(x_1) − log q(x_1 | x) at one draw of x_1."""
        vdm = diffusion(model, "the probability flow")
        draws = ExampleDraws(batch.index, self.seed, repeat)
        x = batch.x.to(scalar_dtype(batch.x.device))
        given = vdm.given(x, draws, batch.condition)
        gamma_1 = given.schedule(torch.zeros(len(x), dtype=x.dtype, device=x.device))
        x_1, log_q = self.dequantisation(vdm.likelihood, x, gamma_1, draws)
        probes = self.divergence.probes(draws, x_1)
        log_p, calls = flow_log_prob(given.schedule, flow_denoise(given), x_1, self.divergence, probes, tolerance)
        return FlowDensity(given.log_weight(log_p - log_q), calls)

    def _result(self, values: Tensor, change: Tensor, calls: int) -> Result:
        """From values (n, R), and the change (rows,) of the first replicate at half the tolerance, in bits/dim."""
        trace, bins = type(self.divergence).__name__, type(self.dequantisation).__name__
        mean, largest = change.mean().item(), change.abs().max().item()
        facts = {
            "divergence": trace,
            "dequantisation": bins,
            "samples": self.dequantisation.samples,
            "tolerance": self.tolerance,
            "change_on_halving": {"mean": mean, "largest": largest, "examples": len(change)},
            "seed": self.seed,
            "precision": str(values.dtype),
        }
        note = (
            f"{trace}, {bins}; halving the tolerance {self.tolerance:g} changes it by {mean:+.5f} bits/dim, one "
            f"example by {largest:.5f} at most"
        )
        terms, draws = {"bits_per_dim": summarise(values, independent=True)}, self.repeats * self.dequantisation.samples
        return Result("flow", "probability flow", terms, len(values), draws, calls, facts, note)
