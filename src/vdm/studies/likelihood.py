"""All estimates of −log p(x) of one model on the same examples, and the orderings between them that must hold."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vdm.batch import Batch, chunks
from vdm.divergence import ExactDivergence, HutchinsonDivergence
from vdm.draws import ExampleDraws, scalar_dtype
from vdm.elbo import ContinuousTime, DiscreteTime, Time
from vdm.errors import InvalidInput
from vdm.evaluation import (
    BoundEvaluation,
    Dequantisation,
    FlowLikelihood,
    ImportanceWeighted,
    NoDequantisation,
    TruncatedNormalDequantisation,
    UniformDequantisation,
    importance,
)
from vdm.evaluation.estimator import Progress
from vdm.evaluation.orderings import (
    Check,
    always_at_most,
    at_most,
    best_of,
    categorical_reconstruction,
    equal,
    known,
    not_below,
)
from vdm.evaluation.stratified_bound import portion
from vdm.gamma import alpha_bar, event_dims
from vdm.likelihoods import CategoricalLikelihood, LevelLikelihood
from vdm.models import DiffusionModel
from vdm.terms import TERMS

DIVERGENCES = {"exact": ExactDivergence, "hutchinson": HutchinsonDivergence}


class Settings(NamedTuple):
    """What is estimated; see configs/likelihood_page.yaml."""

    timesteps: Sequence[int] = (10, 100, 1000)
    repeats: int = 64
    trajectories: Sequence[int] = (1, 4, 16, 64)
    trajectory_timesteps: int = 50
    trajectory_repeats: int = 2
    flow_samples: Sequence[int] = (1,)
    flow_repeats: int = 2
    tolerance: float = 1e-4
    divergence: str = "hutchinson"
    seed: int = 3
    rows: int = 64


class Estimates(NamedTuple):
    """values: bits/dim of each example and replicate, (n, R), by label. checks: the orderings."""

    values: dict[str, np.ndarray]
    checks: list[Check]


class LikelihoodStudy:
    """The estimates of ``model`` on ``data``.

    Raises:
        InvalidInput: no T or K; several flow samples with a random divergence, whose noise would enter the mean of
            exponentials, so that it bounds nothing.
    """

    def __init__(self, model: DiffusionModel, data: Batch, settings: Settings) -> None:
        if not settings.timesteps or not settings.trajectories or not settings.flow_samples:
            raise InvalidInput("timesteps, trajectories and flow_samples need at least one number each")
        if settings.divergence not in DIVERGENCES:
            raise InvalidInput(f"divergence={settings.divergence} is unknown: use exact or hutchinson")
        if max(settings.flow_samples) > 1 and settings.divergence != "exact":
            raise InvalidInput("flow_samples above 1 need divergence=exact: the mean of noisy exponentials bounds nothing")
        self.model, self.data, self.settings = model, data, settings
        self.dims = event_dims(data.x)
        self.levels = model.likelihood.levels if isinstance(model.likelihood, LevelLikelihood) else 0
        self.largest = math.lcm(*settings.trajectories), math.lcm(*settings.flow_samples)

    @property
    def dequantisations(self) -> dict[str, Dequantisation]:
        if not self.levels:
            return {"no dequantisation": NoDequantisation()}
        return {"uniform": UniformDequantisation(), "truncated normal": TruncatedNormalDequantisation()}

    def run(self, progress: Progress, entropy: float | None = None) -> Estimates:
        """Estimate everything; ``entropy`` is the mean of −log p of the same examples in bits/dim, if it is known."""
        values: dict[str, np.ndarray] = {}
        bounds = self._bounds(portion(progress, 0.0, 0.2))
        values |= {f"bound, T = {time}": terms["bits_per_dim"] for time, terms in bounds.items()}
        log_w = self._log_weights(portion(progress, 0.2, 0.6))
        weighted = {k: self._bits(log_w, k) for k in sorted(self.settings.trajectories)}
        T = self.settings.trajectory_timesteps
        values |= {f"importance-weighted, K = {k}, T = {T}": bits for k, bits in weighted.items()}
        flows = self._flows(portion(progress, 0.6, 1.0))
        for name, nats in flows.items():
            values |= {f"flow, {name}, K = {k}": self._bits(nats, k) for k in sorted(self.settings.flow_samples)}
        checks = [*self._bound_checks(bounds), *self._weighted_checks(bounds, log_w, weighted), *self._flow_checks(flows)]
        floor = max(0.0, entropy or 0.0) if self.levels else entropy
        if floor is not None:
            name = "−log p" if entropy is not None else "0"
            checks += [not_below(f"{label} ≥ {name}", bits, floor) for label, bits in values.items()]
        return Estimates(values, checks)

    def _bounds(self, progress: Progress) -> dict[str, dict[str, np.ndarray]]:
        """Return the bound at every T by term, (n, R) each; the trajectories' T is among them."""
        numbers = sorted({*self.settings.timesteps, self.settings.trajectory_timesteps})
        times: list[Time] = [*map(DiscreteTime, numbers), ContinuousTime()]
        evaluation, found = BoundEvaluation(self.settings.repeats, self.settings.seed), {}
        for number, time in enumerate(times):
            timed = self.model.at(time)
            columns = torch.cat([evaluation(timed, chunk) for chunk in chunks(self.data, self.settings.rows)], 1)
            found[str(time)] = {name: columns[i].cpu().numpy() for i, name in enumerate(TERMS)}
            progress((number + 1) / len(times))
        return found

    def _log_weights(self, progress: Progress) -> np.ndarray:
        """Return log w of whole trajectories in nats, (n, R·K)."""
        settings = self.settings
        estimator = ImportanceWeighted(
            self.largest[0], settings.trajectory_timesteps, settings.trajectory_repeats, settings.seed, rows=settings.rows
        )
        timed = self.model.at(DiscreteTime(settings.trajectory_timesteps))
        with torch.no_grad():
            return estimator.log_weights(timed, self.data, progress).cpu().numpy()

    def _flows(self, progress: Progress) -> dict[str, np.ndarray]:
        """Return log p(x_1) − log q(x_1 | x) in nats of each dequantisation, (n, R·K)."""
        settings, found = self.settings, {}
        for number, (name, dequantisation) in enumerate(self.dequantisations.items()):
            repeats = max(2, settings.flow_repeats) * self.largest[1]
            divergence = DIVERGENCES[settings.divergence]()
            flow = FlowLikelihood(divergence, dequantisation, settings.tolerance, repeats, settings.seed, rows=settings.rows)
            share = portion(progress, number / len(self.dequantisations), (number + 1) / len(self.dequantisations))
            (result,) = flow(self.model, self.data, share)
            assert result.values is not None
            found[name] = -result.values.double().cpu().numpy() * self.dims * math.log(2)
        return found

    def _bits(self, nats: np.ndarray, samples: int) -> np.ndarray:
        """Return −log (1/K) Σ exp over each K log-weights in bits/dim, (n, R)."""
        grouped = torch.from_numpy(nats).view(len(nats), -1, samples)
        return -importance.log_mean_exp(grouped).numpy() / (self.dims * math.log(2))

    def _best(self, nats: np.ndarray, samples: int) -> np.ndarray:
        """Return the bits/dim of the best of each K samples, (n, R)."""
        return -best_of(nats, samples) / (self.dims * math.log(2))

    def _bound_checks(self, bounds: dict[str, dict[str, np.ndarray]]) -> list[Check]:
        """The bound improves with T, for a denoiser whose error grows with the noise; the reconstruction is known."""
        pairs = zip(list(bounds.items())[1:], bounds.items(), strict=False)
        checks = [
            at_most(f"bound at T = {more} ≤ at T = {fewer}", better["bits_per_dim"], worse["bits_per_dim"])
            for (more, better), (fewer, worse) in pairs
        ]
        likelihood = self.model.likelihood
        if isinstance(likelihood, CategoricalLikelihood) and not self.model.schedule.per_dimension:
            costs = categorical_reconstruction(self.levels, self._gamma_1())
            exact = float(costs[self.data.x.cpu().long().numpy()].mean()) / math.log(2)
            own = next(reversed(bounds.values()))["reconstruction"]
            checks.append(known("reconstruction = its value by quadrature", own, exact))
        return checks

    def _weighted_checks(
        self, bounds: dict[str, dict[str, np.ndarray]], log_w: np.ndarray, weighted: dict[int, np.ndarray]
    ) -> list[Check]:
        """K = 1 is the bound; it improves with K, and no log-mean-exp exceeds its largest term."""
        T = str(self.settings.trajectory_timesteps)
        bound, ks = bounds[T]["bits_per_dim"], list(weighted)
        single = self._bits(log_w, 1)
        checks = [equal(f"K = 1 = bound at T = {T}", single, bound)]
        checks += [at_most(f"K = {more} ≤ K = {fewer}", weighted[more], weighted[fewer]) for fewer, more in pairwise(ks)]
        checks.append(at_most(f"K = {ks[-1]} ≤ bound at T = {T}", weighted[ks[-1]], bound))
        return checks + [
            always_at_most(f"best of K = {k} trajectories ≤ mean", self._best(log_w, k), bits)
            for k, bits in weighted.items()
            if k > 1
        ]

    def _flow_checks(self, flows: dict[str, np.ndarray]) -> list[Check]:
        """Each flow improves with K; no noise on a bin has more entropy than the uniform. Other orders do not exist."""
        ks, checks = sorted(self.settings.flow_samples), []
        for name, nats in flows.items():
            bits = {k: self._bits(nats, k) for k in ks}
            checks += [
                at_most(f"flow, {name}: K = {more} ≤ K = {fewer}", bits[more], bits[fewer]) for fewer, more in pairwise(ks)
            ]
            checks += [
                always_at_most(f"flow, {name}: best of K = {k} ≤ mean", self._best(nats, k), bits[k]) for k in ks if k > 1
            ]
        if self.levels:
            checks += [self._entropy_check(name, each) for name, each in self.dequantisations.items()]
        return checks

    def _entropy_check(self, name: str, dequantisation: Dequantisation) -> Check:
        """E −log q(x_1 | x) ≤ log of the bin's volume, D log(2√ᾱ_1/K): the uniform has it, any other less."""
        x = self.data.x.to(scalar_dtype(self.data.x.device))
        gamma = self.model.schedule(torch.zeros(len(x), dtype=x.dtype, device=x.device))
        repeats = range(max(2, self.settings.flow_repeats))
        draws = [ExampleDraws(self.data.index, self.settings.seed, repeat) for repeat in repeats]
        log_q = torch.stack([dequantisation(self.model.likelihood, x, gamma, each)[1] for each in draws], 1)
        bits = -log_q.cpu().numpy() / (self.dims * math.log(2))
        volume = (2 * alpha_bar(gamma).sqrt() / self.levels).log2()
        most = np.broadcast_to(_rows(volume)[:, None], bits.shape)
        return at_most(f"entropy of {name} noise ≤ its bin's", bits, most)

    def _gamma_1(self) -> float:
        device = self.data.x.device
        return self.model.schedule(torch.zeros(1, dtype=scalar_dtype(device), device=device)).item()


def _rows(value: Tensor) -> np.ndarray:
    """Return the mean over dimensions of (B,) or (B, *event): (B,)."""
    return (value if value.ndim == 1 else value.flatten(1).mean(1)).cpu().numpy()
