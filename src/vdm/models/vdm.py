"""The variational diffusion model of section 4.1.3: an MHVAE with three restrictions."""

import torch
from torch import Tensor

from vdm.augmentation import Augmentation
from vdm.batch import Batch
from vdm.bound import Denoise, Elbo, Loss
from vdm.consistency import ConsistencyElbo, consistency_elbo
from vdm.draws import AbstractDraws, Draws, fresh_seed
from vdm.elbo import OneTimeEstimate, Time, all_timestep_kls, one_time_estimate, prior_matching, reconstruction
from vdm.gamma import event_dims
from vdm.given import Given
from vdm.likelihoods import Likelihood
from vdm.loss_history import LossObserver
from vdm.models.compatibility import check_likelihood, check_scale, check_time, check_training
from vdm.models.diffusion_model import DiffusionModel, gamma_at
from vdm.models.loading import Loadable
from vdm.objectives import ElboObjective, Objective
from vdm.process import FORWARD
from vdm.samplers import AncestralSampler, Sampling
from vdm.schedules import NoiseSchedule
from vdm.times import TimeSampler, UniformTimes


class VDM(Loadable, DiffusionModel):
    """A variational diffusion model (Kingma et al. 2021, arXiv:2107.00630), with the bound (1.62).

    Args:
        schedule: γ(t).
        denoiser: any ``denoise(x_t, gamma_t) -> Prediction``; for conditions it needs ``with_condition(condition)`` as well.
        likelihood: p(x_0 | x_1).
        time: ``DiscreteTime(T)`` or ``ContinuousTime()``; says what the bound is.
        times: where a one-t estimate draws t; independent and uniform by default.
        objective: what ``loss`` minimises; the bound by default, which is reported in any case.
        sampling: how ``sample`` draws, unless the call says; ancestral, even in t, 250 steps by default.

    Raises:
        InvalidInput: parts that do not go together; see ``vdm.models.compatibility``.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        denoiser: Denoise,
        likelihood: Likelihood,
        time: Time,
        times: TimeSampler | None = None,
        objective: Objective | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.denoiser = denoiser
        self.likelihood = likelihood
        self.time = time
        self.times = times or UniformTimes()
        self.objective = objective or ElboObjective()
        self.sampling = sampling or Sampling(AncestralSampler())
        self.process, self.augmentation = FORWARD, Augmentation()
        check_likelihood(schedule, likelihood)
        check_scale(denoiser, likelihood)
        check_time(denoiser, time)
        check_training(schedule, time, self.times, self.objective)

    def check(self, x: Tensor) -> None:
        """Raise InvalidInput for values that the likelihood gives no probability."""
        self.likelihood.check(x)

    def elbo(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Elbo:
        """Estimate (1.62) from one draw of t and of each noise for every example; unbiased.

        Args:
            x: (B, *event), the data in its own units: integer levels, or reals.
            draws: where t and the noise come from; fresh ones by default.
            condition: (B, …), for a denoiser that takes one.

        Raises:
            InvalidInput: values that are not levels.
        """
        self.check(x)
        draws = draws or Draws(fresh_seed())
        bound, _ = self._one_time(x, draws, self.given(x, draws, condition))
        return bound

    def loss(self, batch: Batch, draws: AbstractDraws) -> Loss:
        """Estimate −ELBO per dimension in nats, (B,), with the objective's w(γ) on the denoising term; one t an example.

        Carries the gradient of a learned schedule's path, and updates the parts that follow the loss.
        """
        batch = self.augmentation(batch, draws)
        given = self.given(batch.x, draws, batch.condition)
        bound, estimate = self._one_time(batch.x, draws, given)
        matching = self.objective.loss(estimate) / bound.dims
        ends = bound.ends / bound.dims
        path = self.time.variance_loss(given.schedule, estimate.u, matching)
        if self.training and torch.is_grad_enabled():  # a replayed step must not update the loss history
            observed = (matching * estimate.density).detach()
            for observer in (part for part in self.modules() if isinstance(part, LossObserver)):
                observer.update(estimate.u, observed)
        return Loss(ends + matching + path, bound, estimate.gamma_t)

    def elbo_all_times(
        self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None, rows: int = 1024
    ) -> Elbo:
        time = self.discrete("elbo_all_times")
        self.check(x)
        draws = draws or Draws(fresh_seed())
        given, x_0 = self.given(x, draws, condition), self.likelihood.encode(x)
        matching = all_timestep_kls(time, given, x_0, draws, rows)
        return self._bound(x, x_0, matching, draws, given)

    def consistency_elbo(
        self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None
    ) -> ConsistencyElbo:
        draws = draws or Draws(fresh_seed())
        bound, given = self._trajectory(x, draws, condition)
        return given.consistency(bound)

    def log_weight(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Tensor:
        """log p(x_0, x_{1:T}) − log q(x_{1:T} | x_0) on one whole trajectory, (B,) in nats: (1.46)'s total.

        Raises:
            InvalidInput: continuous time, which has no trajectory; values that are not levels.
        """
        bound, given = self._trajectory(x, draws or Draws(fresh_seed()), condition)
        return given.log_weight(bound.total)

    def _trajectory(self, x: Tensor, draws: AbstractDraws, condition: Tensor | None) -> tuple[ConsistencyElbo, Given]:
        """(1.46) on one trajectory, for held parts that are returned as well."""
        time = self.discrete("consistency_elbo")
        self.check(x)
        given = self.given(x, draws, condition)
        gammas = time.gammas(given.schedule, x)
        return consistency_elbo(self.likelihood, x, gammas, draws, given.denoise, given.process), given

    def _one_time(self, x: Tensor, draws: AbstractDraws, given: Given) -> tuple[Elbo, OneTimeEstimate]:
        """The bound with its denoising term at one t an example, and that term's estimate."""
        x_0 = self.likelihood.encode(x)
        u, density = self.times.draw(draws, x_0)
        estimate = one_time_estimate(self.time, given, x_0, draws.normal("x_t", x_0), u, density)
        return self._bound(x, x_0, estimate.matching()[:, None], draws, given), estimate

    def _bound(self, x: Tensor, x_0: Tensor, matching: Tensor, draws: AbstractDraws, given: Given) -> Elbo:
        """The bound with the given denoising terms (B, L), and the terms at the two ends of time."""
        gamma_1, gamma_T = gamma_at(given, 0.0, x_0), gamma_at(given, 1.0, x_0)
        first = reconstruction(self.likelihood, x, x_0, draws.normal("x_1", x_0), gamma_1, given.denoise, given.process)
        return given.elbo(first, prior_matching(x_0, gamma_T, given.process), matching, event_dims(x))
