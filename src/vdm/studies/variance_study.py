"""The variance study: the variance of the two forms of the bound, for one t, for the whole, and in gradients.

Everything is in nats per example and of the T-latent chain; variances are over t and noise with the example fixed, and
the mean over examples is taken of them.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.batch import Batch
from vdm.consistency import consistency_at, literal_consistency, literal_gap
from vdm.denoiser import with_condition
from vdm.divergence import HutchinsonDivergence
from vdm.draws import AbstractDraws, Draws, scalar_dtype
from vdm.elbo import DiscreteTime, one_time_estimate
from vdm.errors import InvalidInput
from vdm.evaluation.estimator import Progress
from vdm.loss_history import LossObserver
from vdm.models import VDM, DiffusionModel
from vdm.schedules import NoiseSchedule
from vdm.times import TimeSampler, UniformTimes


class PerStep(NamedTuple):
    """mean, variance: (T − 1,), of each step's summand. whole: the variance of the bound, all its terms drawn once."""

    mean: Tensor
    variance: Tensor
    whole: float


class OneT(NamedTuple):
    """Of the estimate from one t an example, averaged over a batch and multiplied by the batch's size.

    variance: of the value. gradient: of the gradient, summed over the weights.
    """

    variance: float
    gradient: float


class TermsOverT(NamedTuple):
    """At one T, in nats: what changes with T although the bound hardly does."""

    denoising: float
    consistency: float
    literal: float
    gap: float
    transition_prior: float
    prior_matching: float


class VarianceStudy:
    """Measurements on one model and a few examples.

    Args:
        model: at continuous or discrete time; the chain is made with ``timesteps``.
        data: the examples.
        timesteps: T.
        repeats: R, replicates of every measurement.
        seed: of the draws.

    Raises:
        InvalidInput: a schedule with a γ(t) for each dimension, which the consistency form has not.
    """

    def __init__(self, model: DiffusionModel, data: Batch, timesteps: int, repeats: int, seed: int = 0) -> None:
        self.time = DiscreteTime(timesteps)
        if model.schedule(torch.zeros(1)).ndim > 1:
            raise InvalidInput(
                f"the variance study needs one γ(t) for all dimensions, and {type(model.schedule).__name__} has one "
                "for each: measure a run of another schedule, such as schedule=monotone"
            )
        self.model, self.data, self.repeats, self.seed = model.at(self.time), data, repeats, seed
        self.x = data.x.to(scalar_dtype(data.x.device))

    @torch.no_grad()
    def per_step(self, form: str, progress: Progress) -> PerStep:
        """The summands of ``form`` over t, from whole trajectories or full sums."""
        columns, totals = [], []
        for repeat in range(self.repeats):
            summands, total = FORMS[form].all_times(self, Draws(self.seed, repeat))
            columns.append(summands)
            totals.append(total)
            progress((repeat + 1) / self.repeats)
        values = torch.stack(columns)
        return PerStep(values.mean((0, 1)), values.var(0).mean(0), torch.stack(totals).var(0).mean().item())

    def under(self, schedule: NoiseSchedule) -> "VarianceStudy":
        """The same measurements on the same denoiser, with another path between the same ends."""
        own = self.model
        other = VDM(schedule, own.denoiser, own.likelihood, self.time)
        return VarianceStudy(other, self.data, self.time.timesteps, self.repeats, self.seed)

    @torch.no_grad()
    def fit(self, times: TimeSampler, form: str) -> None:
        """Let ``times`` see the losses of ``form`` at uniform t, where it follows losses; with draws of its own.

        That takes as many batches as there are replicates, and more where it has not seen enough by then.
        """
        if isinstance(times, LossObserver):
            for repeat in itertools.count():
                if repeat >= self.repeats and times.ready:
                    return
                draws = Draws(self.seed + 1, repeat)
                u, _ = UniformTimes().draw(draws, self.x)
                times.update(u, FORMS[form].at(self, u, draws))

    def one_t(self, form: str, times: TimeSampler, progress: Progress) -> OneT:
        """The spread over replicates of the batch's mean loss and of its gradient."""
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
    def growth(self, timesteps: int) -> TermsOverT:
        """One trajectory an example at another T."""
        other = VarianceStudy(self.model, self.data, timesteps, 1, self.seed)
        draws, gammas = Draws(self.seed), other.time.gammas(self.model.schedule, self.x)
        x_0, denoise = self.model.likelihood.encode(self.x), with_condition(self.model.denoiser, self.data.condition)
        closed = other.model.elbo_all_times(self.x, draws, self.data.condition)
        sampled = other.model.consistency_elbo(self.x, draws, self.data.condition)
        literal = literal_consistency(x_0, gammas, draws, denoise).sum(1)
        gap = literal_gap(x_0, gammas, draws, denoise, HutchinsonDivergence()).sum(1)
        parts = (closed.denoising_matching, sampled.consistency, literal, gap, sampled.prior_kl, closed.prior_matching)
        return TermsOverT(*(part.mean().item() for part in parts))


class BoundForm(NamedTuple):
    """One form of the bound. all_times: summands (B, T − 1), and the whole (B,). at: T − 1 times the summand at u (B,)."""

    all_times: Callable[[VarianceStudy, AbstractDraws], tuple[Tensor, Tensor]]
    at: Callable[[VarianceStudy, Tensor, AbstractDraws], Tensor]


def _step(lab: VarianceStudy, u: Tensor) -> Tensor:
    """Number i = 1 … T − 1 of the step, (B,)."""
    return 1 + (u * lab.time.steps).floor().clamp(max=lab.time.steps - 1)


def _denoising(lab: VarianceStudy, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
    bound = lab.model.elbo_all_times(lab.x, draws, lab.data.condition)
    return bound.matching, bound.total


def _consistency(lab: VarianceStudy, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
    bound = lab.model.consistency_elbo(lab.x, draws, lab.data.condition)
    return bound.log_ratios, bound.total


def _denoising_at(lab: VarianceStudy, u: Tensor, draws: AbstractDraws) -> Tensor:
    x_0, denoise = lab.model.likelihood.encode(lab.x), with_condition(lab.model.denoiser, lab.data.condition)
    even = torch.ones_like(u)
    return one_time_estimate(lab.time, lab.model.schedule, x_0, draws.normal("x_t", x_0), u, even, denoise).matching()


def _consistency_at(lab: VarianceStudy, u: Tensor, draws: AbstractDraws) -> Tensor:
    i, schedule = _step(lab, u), lab.model.schedule
    before = torch.where(i > 1, schedule((i - 2).clamp(min=0) / lab.time.steps), -40.0)
    gammas = [before, *lab.time.ends(schedule, i)]
    denoise = with_condition(lab.model.denoiser, lab.data.condition)
    return lab.time.steps * consistency_at(lab.model.likelihood.encode(lab.x), gammas, draws, denoise)


FORMS: Mapping[str, BoundForm] = {
    "denoising": BoundForm(_denoising, _denoising_at),
    "consistency": BoundForm(_consistency, _consistency_at),
}
"""(1.62)'s and (1.46)'s."""


def sentences(steps: Mapping[str, PerStep], single: Mapping[tuple[str, str], OneT], times: Sequence[str]) -> list[str]:
    """Where the chapter's "higher variance" of the consistency form holds, and where not, as measured."""
    lines = []
    for name in times:
        a, b = single["consistency", name], single["denoising", name]
        lines.append(
            f"one t ({name}): the consistency form has {a.variance / b.variance:.3g} × the variance of the denoising form's "
            f"value and {a.gradient / b.gradient:.3g} × that of its gradient"
        )
    whole = steps["consistency"].whole / steps["denoising"].whole
    higher = "higher" if whole > 1 else "not higher"
    lines.append(f"the whole bound, every t drawn: {whole:.3g} × the variance, so {higher} than the denoising form's")
    return lines
