"""The variance study: variances of the two forms of the bound, (1.62) and (1.46), and of their gradients.

Values are in nats per example and belong to the chain of T latents. Variances are over t and noise with the example fixed,
averaged over examples.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.batch import Batch
from vdm.consistency import consistency_at, literal_consistency, literal_gap
from vdm.divergence import HutchinsonDivergence
from vdm.draws import AbstractDraws, Draws, scalar_dtype
from vdm.elbo import DiscreteTime, one_time_estimate
from vdm.errors import InvalidInput
from vdm.evaluation.estimator import Progress
from vdm.loss_history import LossObserver
from vdm.models import VDM, DiffusionModel, RelaxedVDM
from vdm.schedules import NoiseSchedule
from vdm.times import TimeSampler, UniformTimes


class PerStep(NamedTuple):
    """Mean and variance of each step's summand, (T − 1,), and the variance of the whole bound with one draw of each term."""

    mean: Tensor
    variance: Tensor
    whole: float


class OneT(NamedTuple):
    """Variances of a batch's mean one-t estimate and of its gradient, summed over the weights; both times the batch size."""

    variance: float
    gradient: float


class TermsAtT(NamedTuple):
    """Terms of both forms at one T, in nats per example: they depend on T far more than the bound does."""

    denoising: float
    consistency: float
    literal: float
    gap: float
    transition_prior: float
    prior_matching: float


class VarianceStudy:
    """Measurements on one model and a few examples.

    Args:
        model: in continuous or discrete time; its chain is that of ``timesteps``.
        timesteps: T.
        repeats: replicates of every measurement.

    Raises:
        InvalidInput: a schedule with one γ(t) for each dimension, for which there is no consistency form.
    """

    def __init__(self, model: DiffusionModel, data: Batch, timesteps: int, repeats: int, seed: int = 0) -> None:
        self.time = DiscreteTime(timesteps)
        if model.schedule(torch.zeros(1)).ndim > 1:
            raise InvalidInput(
                f"the variance study needs one γ(t) for all dimensions, and {type(model.schedule).__name__} has one "
                "for each: choose a run with another schedule, such as schedule=monotone"
            )
        self.model, self.data, self.repeats, self.seed = model.at(self.time), data, repeats, seed
        self.x = data.x.to(scalar_dtype(data.x.device))
        self.x_0, self.given = model.likelihood.encode(self.x), model.given(self.x, Draws(seed), data.condition)
        self.denoise = self.given.denoise

    @torch.no_grad()
    def per_step(self, form: str, progress: Progress) -> PerStep:
        """Measure the summands of ``form`` at every t."""
        columns, totals = [], []
        for repeat in range(self.repeats):
            summands, total = FORMS[form].all_times(self, Draws(self.seed, repeat))
            columns.append(summands)
            totals.append(total)
            progress((repeat + 1) / self.repeats)
        values = torch.stack(columns)
        return PerStep(values.mean((0, 1)), values.var(0).mean(0), torch.stack(totals).var(0).mean().item())

    def with_schedule(self, schedule: NoiseSchedule) -> "VarianceStudy":
        """Return a study of the same denoiser with another schedule between the same ends."""
        own = self.model
        other = RelaxedVDM(VDM(schedule, own.denoiser, own.likelihood, self.time), own.process)
        return VarianceStudy(other, self.data, self.time.timesteps, self.repeats, self.seed)

    @torch.no_grad()
    def fit(self, times: TimeSampler, form: str) -> None:
        """Update ``times`` with losses of ``form`` at uniform t, if it is a ``LossObserver``, until it is ready.

        At least ``repeats`` batches are used, with draws of another seed than the measurements.
        """
        if isinstance(times, LossObserver):
            for repeat in itertools.count():
                if repeat >= self.repeats and times.ready:
                    return
                draws = Draws(self.seed + 1, repeat)
                u, _ = UniformTimes().draw(draws, self.x)
                times.update(u, FORMS[form].at(self, u, draws))

    def one_t(self, form: str, times: TimeSampler, progress: Progress) -> OneT:
        """Measure the variance of the one-t estimate of ``form`` and of its gradient, with t from ``times``."""
        weights = [p for p in self.model.parameters() if p.requires_grad]
        losses, first, second = [], [torch.zeros_like(p) for p in weights], 0.0
        for repeat in range(self.repeats):
            draws = Draws(self.seed, repeat)
            u, density = times.draw(draws, self.x)
            loss = (FORMS[form].at(self, u, draws) / density).mean()
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            for total, gradient in zip(first, gradients, strict=True):
                if gradient is not None:
                    total += gradient
                    second += gradient.double().square().sum().item()
            losses.append(loss.detach())
            progress((repeat + 1) / self.repeats)
        n, r = len(self.x), self.repeats
        mean2 = sum(total.double().square().sum().item() for total in first) / r
        return OneT(n * torch.stack(losses).var().item(), n * (second - mean2) / (r - 1))

    @torch.no_grad()
    def terms_at(self, timesteps: int) -> TermsAtT:
        """Measure the terms at another T, with one trajectory for each example."""
        other = VarianceStudy(self.model, self.data, timesteps, 1, self.seed)
        draws, gammas = Draws(self.seed), other.time.gammas(self.model.schedule, self.x)
        closed = other.model.elbo_all_times(self.x, draws, self.data.condition)
        sampled = other.model.consistency_elbo(self.x, draws, self.data.condition)
        literal = literal_consistency(self.x_0, gammas, draws, self.denoise).sum(1)
        gap = literal_gap(self.x_0, gammas, draws, self.denoise, HutchinsonDivergence()).sum(1)
        parts = (closed.denoising_matching, sampled.consistency, literal, gap, sampled.prior_kl, closed.prior_matching)
        return TermsAtT(*(part.mean().item() for part in parts))


class BoundForm(NamedTuple):
    """One form of the bound: its summands (B, T − 1) with the whole (B,), and T − 1 times the summand at u, (B,)."""

    all_times: Callable[[VarianceStudy, AbstractDraws], tuple[Tensor, Tensor]]
    at: Callable[[VarianceStudy, Tensor, AbstractDraws], Tensor]


def _denoising(study: VarianceStudy, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
    bound = study.model.elbo_all_times(study.x, draws, study.data.condition)
    return bound.matching, bound.total


def _consistency(study: VarianceStudy, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
    bound = study.model.consistency_elbo(study.x, draws, study.data.condition)
    return bound.log_ratios, bound.total


def _denoising_at(study: VarianceStudy, u: Tensor, draws: AbstractDraws) -> Tensor:
    noise, density = draws.normal("x_t", study.x_0), torch.ones_like(u)
    return one_time_estimate(study.time, study.given, study.x_0, noise, u, density).matching()


def _consistency_at(study: VarianceStudy, u: Tensor, draws: AbstractDraws) -> Tensor:
    steps, schedule = study.time.steps, study.model.schedule
    i = 1 + (u * steps).floor().clamp(max=steps - 1)
    before = torch.where(i > 1, schedule((i - 2).clamp(min=0) / steps), -40.0)
    gammas = [before, *study.time.ends(schedule, i)]
    return steps * consistency_at(study.x_0, gammas, draws, study.denoise, study.given.process)


FORMS: Mapping[str, BoundForm] = {
    "denoising": BoundForm(_denoising, _denoising_at),
    "consistency": BoundForm(_consistency, _consistency_at),
}
"""Equations (1.62) and (1.46)."""


def sentences(steps: Mapping[str, PerStep], single: Mapping[tuple[str, str], OneT], times: Sequence[str]) -> list[str]:
    """Return sentences on the ratio of the forms' variances, for one t and for the whole bound."""
    lines = []
    for name in times:
        a, b = single["consistency", name], single["denoising", name]
        lines.append(
            f"one t ({name}): the consistency form has {a.variance / b.variance:.3g} × the variance of the denoising form's "
            f"value, and {a.gradient / b.gradient:.3g} × the variance of its gradient"
        )
    whole = steps["consistency"].whole / steps["denoising"].whole
    higher = "higher" if whole > 1 else "not higher"
    lines.append(f"the whole bound, every t drawn: {whole:.3g} × the variance, so {higher} than the denoising form's")
    return lines
