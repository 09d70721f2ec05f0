"""log p(x) along the probability flow: the deterministic twin of the diffusion, as a continuous normalising flow.

x_t = √ᾱ_t x̂_0 + σ_t ε̂ moves, at frozen x̂_0 and ε̂, with

    dx/dt = γ′(t) (½ σ ᾱ ε̂(x, γ) − ½ √ᾱ σ² x̂_0(x, γ)),

which has the marginals of q where the denoiser is ideal (Song et al. 2021), and

    log p(x_1) = log N(x(1); 0, I) + ∫_0^1 ∇·(dx/dt) dt.

It is the density at γ_min of another model than the variational one: no order holds between the two numbers unless the
denoiser is ideal.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from vdm.batch import Batch, chunks
from vdm.bound import Denoise, VariationalModel
from vdm.denoiser import with_condition
from vdm.divergence import Divergence
from vdm.draws import ExampleDraws, scalar_dtype
from vdm.errors import InvalidInput
from vdm.evaluation.dequantisation import Dequantisation
from vdm.evaluation.estimator import Estimator, Progress, Result, diffusion, from_independent, need_two
from vdm.gamma import align, alpha_bar, event_dims, sigma2
from vdm.process import isotropic
from vdm.schedules import NoiseSchedule
from vdm.terms import bits_per_dim


def velocity(schedule: NoiseSchedule, denoise: Denoise, t: Tensor, x_t: Tensor) -> Tensor:
    """dx/dt of the probability flow, (B, *event), at times t (B,)."""
    gamma, rate = schedule(t), schedule.rate(t)
    ahead = denoise(x_t, gamma)
    noise, signal = 0.5 * sigma2(gamma).sqrt() * alpha_bar(gamma), 0.5 * alpha_bar(gamma).sqrt() * sigma2(gamma)
    return align(rate * noise, x_t) * ahead.eps - align(rate * signal, x_t) * ahead.x_0


class FlowDensity(NamedTuple):
    """log_prob: (B,), log density of x_1 in nats. calls: how often the velocity was asked for."""

    log_prob: Tensor
    calls: int


@torch.no_grad()
def flow_log_prob(
    schedule: NoiseSchedule, denoise: Denoise, x_1: Tensor, divergence: Divergence, probes: Tensor, tolerance: float
) -> FlowDensity:
    """The probability flow's log density at x_1 (B, *event), the latent at γ_min, by an adaptive Runge–Kutta method.

    Args:
        probes: of ``divergence``, (P, B, *event).
        tolerance: relative and absolute, on the root mean square over the batch.

    Raises:
        InvalidInput: a flow that cannot be integrated to the tolerance.
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
            f"the probability flow cannot be integrated to tolerance={tolerance} ({solution.message}): raise it"
        )
    end = torch.from_numpy(solution.y[:, -1]).to(x_1)
    prior = isotropic(torch.zeros_like(x_1), x_1.new_ones(n))
    return FlowDensity(prior.log_prob(end[: x_1.numel()].view(shape)) + end[x_1.numel() :], int(solution.nfev))


class FlowLikelihood(Estimator):
    """−log p(x) in bits/dim along the probability flow; for levels a bound on it by dequantisation.

    Runs in float64 but for the network. The first ``rows`` examples are integrated once more at half the tolerance, and the
    change is reported.

    Args:
        divergence: ``ExactDivergence`` for small D, ``HutchinsonDivergence`` otherwise.
        dequantisation: from levels to reals.
        tolerance: of the integration, relative and absolute.
        repeats: independent replicates of dequantisation and probe, at least 2.
        seed: of the draws, keyed by (seed, example, replicate).
        examples: how many examples, from the start of the data set; null for all.
        rows: how many examples are integrated side by side.
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
        self.dequantisation.check(diffusion(model, "the probability flow").likelihood)

    def estimate(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        dims, pieces, columns, calls = event_dims(data.x), list(chunks(data, self.rows)), [], 0
        runs = len(pieces) * self.repeats + 1

        def run(piece: Batch, repeat: int, tolerance: float) -> Tensor:
            nonlocal calls
            log_p, asked = self._log_prob(model, piece, repeat, tolerance)
            calls += asked * len(piece.x)
            return bits_per_dim(-log_p, dims)

        halved = run(pieces[0], 0, self.tolerance / 2)
        for number, piece in enumerate(pieces):
            replicates = []
            for repeat in range(self.repeats):
                progress((1 + number * self.repeats + repeat) / runs)
                replicates.append(run(piece, repeat, self.tolerance))
            columns.append(torch.stack(replicates, 1))
        progress(1.0)
        values = torch.cat(columns)
        change = halved - values[: len(halved), 0]
        trace, bins = type(self.divergence).__name__, type(self.dequantisation).__name__
        facts = {
            "divergence": trace,
            "dequantisation": bins,
            "tolerance": self.tolerance,
            "change_on_halving": {
                "mean": change.mean().item(),
                "largest": change.abs().max().item(),
                "examples": len(change),
            },
            "seed": self.seed,
            "precision": str(values.dtype),
        }
        note = (
            f"{trace}, {bins}; halving the tolerance {self.tolerance:g} changes it by {change.mean():+.5f} bits/dim, one "
            f"example by {change.abs().max():.5f} at most"
        )
        terms = {"bits_per_dim": from_independent(values)}
        return [Result("flow", "probability flow", terms, len(values), self.repeats, calls, facts, note)]

    def _log_prob(self, model: VariationalModel, batch: Batch, repeat: int, tolerance: float) -> FlowDensity:
        vdm = diffusion(model, "the probability flow")
        draws = ExampleDraws(batch.index, self.seed, repeat)
        x = batch.x.to(scalar_dtype(batch.x.device))
        gamma_1 = vdm.schedule(torch.zeros(len(x), dtype=x.dtype, device=x.device))
        x_1, log_q = self.dequantisation(vdm.likelihood, x, gamma_1, draws)
        probes, denoise = self.divergence.probes(draws, x_1), with_condition(vdm.denoiser, batch.condition)
        log_p, calls = flow_log_prob(vdm.schedule, denoise, x_1, self.divergence, probes, tolerance)
        return FlowDensity(log_p - log_q, calls)
