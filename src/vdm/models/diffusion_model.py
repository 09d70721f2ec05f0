"""The base of diffusion models: sampling and the chain of latents, which need no bound."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from typing import Self

import torch
from torch import Tensor

from vdm.augmentation import Augmentation
from vdm.bound import Denoise, Elbo, VariationalModel
from vdm.consistency import ConsistencyElbo
from vdm.draws import AbstractDraws, Draws, fresh_seed, scalar_dtype
from vdm.elbo import DiscreteTime, Time
from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, event_mean
from vdm.given import Given
from vdm.likelihoods import Likelihood
from vdm.models.compatibility import check_time
from vdm.models.diffusion_chain import DenoisingReverse, DiffusionDecoder, DiffusionEncoder
from vdm.models.latent import StandardNormal
from vdm.models.mhvae import MHVAE
from vdm.process import FORWARD, ForwardProcess
from vdm.samplers import Latent, Sampler, Sampling, Spacing, trajectory
from vdm.schedules import NoiseSchedule
from vdm.times import TimeSampler


class DiffusionModel(VariationalModel, ABC):
    """A variational model whose latents x_t ~ q(x_t | x_0) follow a noise schedule γ(t).

    Evaluation, images and callbacks ask for this class. Its fields are set by the final class, and described there.
    """

    schedule: NoiseSchedule
    denoiser: Denoise
    likelihood: Likelihood
    time: Time
    times: TimeSampler
    sampling: Sampling
    process: ForwardProcess
    augmentation: Augmentation

    @abstractmethod
    def elbo_all_times(
        self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None, rows: int = 1024
    ) -> Elbo:
        """Estimate (1.62) with the full sum over t = 2 … T: ``matching`` is (B, T − 1), one entry a KL.

        ``rows`` is the most (example, t) pairs in one call of the denoiser. Raises InvalidInput in continuous time.
        """

    @abstractmethod
    def consistency_elbo(
        self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None
    ) -> ConsistencyElbo:
        """Estimate (1.46), the other unbiased form of the same bound, from one joint trajectory x_1 … x_T.

        Raises InvalidInput in continuous time.
        """

    def given(self, x: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Given:
        """Return the parts with all that is held fixed for the examples ``x`` (B, *event) bound.

        Raises:
            InvalidInput: a condition for a denoiser that takes none.
        """
        return Given(self.schedule, self.denoiser, self.process, condition)

    def imagined(self, like: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Given:
        """Return the parts for samples in the place of ``like`` (B, *event); the same draws give the same parts."""
        return Given(self.schedule, self.denoiser, self.process, condition)

    def noise_level(self, x: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        """Return γ_t of the one-t estimate that ``elbo`` makes of x (B, *event) with the same draws, (B,).

        The mean over dimensions.
        """
        u, _ = self.times.draw(draws, self.likelihood.encode(x))
        return event_mean(self.time.gamma_and_weight(self.given(x, draws, condition).schedule, u).gamma_t)

    @property
    def independent_draws(self) -> bool:
        return self.times.independent

    @property
    def depends_on_path(self) -> bool:
        """Whether the bound in continuous time depends on a scalar γ(t) between its ends: if the mean of q moves with γ."""
        return self.process is not FORWARD

    @property
    def default_steps(self) -> int:
        """Sampling steps where the call does not say: T − 1 in discrete time, those of ``sampling`` in continuous time."""
        return self.time.steps if isinstance(self.time, DiscreteTime) else self.sampling.steps

    def at(self, time: Time) -> Self:
        """Return the same model, sharing every part, with its bound at another ``time``.

        Raises:
            InvalidInput: continuous time for a denoiser that has none.
        """
        check_time(self.denoiser, time)
        other = copy(self)
        other.time = time
        return other

    def as_mhvae(self) -> MHVAE:
        """Return the chain x_1 … x_T as a Markovian hierarchical VAE with the same parts.

        Raises:
            InvalidInput: continuous time, which has no chain; a q that is not Markovian.
        """
        time = self.discrete("as_mhvae")
        self.process.check_markov()
        return MHVAE(
            layers=time.timesteps,
            encoder=DiffusionEncoder(self.schedule, time),
            reverse=DenoisingReverse(self.schedule, time, self.denoiser),
            prior=StandardNormal(),
            decoder=DiffusionDecoder(self.schedule, time, self.likelihood, self.denoiser),
        )

    @torch.no_grad()
    def sample(
        self,
        n: int,
        event_shape: tuple[int, ...],
        sampler: Sampler | None = None,
        steps: int | None = None,
        spacing: Spacing | None = None,
        draws: AbstractDraws | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Draw ``n`` samples in the data's own units, (n, *event_shape).

        Args:
            sampler, spacing: the rule and the grid of times; those of ``sampling`` by default.
            steps: ``default_steps`` by default.
        """
        draws = draws or Draws(fresh_seed())
        for latent in self.trajectory(n, event_shape, sampler, steps, spacing, draws, condition):
            x_1 = latent.x_t
        return self.decode(x_1, draws, condition)

    def trajectory(
        self,
        n: int,
        event_shape: tuple[int, ...],
        sampler: Sampler | None = None,
        steps: int | None = None,
        spacing: Spacing | None = None,
        draws: AbstractDraws | None = None,
        condition: Tensor | None = None,
    ) -> Iterator[Latent]:
        """Return the latents of ``sample`` from pure noise x_T down to x_1: steps + 1 of (n, *event_shape)."""
        draws = draws or Draws(fresh_seed())
        like = torch.zeros((), device=next(self.parameters(), torch.zeros(())).device).expand(n, *event_shape)
        own = self.sampling
        chosen = Sampling(sampler or own.sampler, spacing or own.spacing, self.default_steps if steps is None else steps)
        given = self.imagined(like, draws, condition)
        return trajectory(chosen, given.schedule, own.guidance(given), draws.normal("prior", like), draws, given.process)

    def decode(self, x_1: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        """Draw the data from p(x_0 | x_1)."""
        given = self.imagined(x_1, draws, condition)
        return self.likelihood.decode(x_1, gamma_at(given, 0.0, x_1), given.denoise, draws)

    def predict_data(self, latent: Latent, condition: Tensor | None = None, draws: AbstractDraws | None = None) -> Tensor:
        """Return the most probable data given x̂_0(x_t), in the data's own units, (B, *event); draws: ``trajectory``'s."""
        return self.most_probable(latent, self.imagined(latent.x_t, draws or Draws(fresh_seed()), condition))

    def most_probable(self, latent: Latent, given: Given) -> Tensor:
        """Return the most probable data given x̂_0(x_t) and the held parts, in the data's own units, (B, *event)."""
        x_hat, gamma_1 = given.denoise(*latent).x_0, gamma_at(given, 0.0, latent.x_t)
        return self.likelihood.mode(align(alpha_bar(gamma_1).sqrt(), x_hat) * x_hat, gamma_1, given.denoise)

    def discrete(self, what: str) -> DiscreteTime:
        """Return the model's time; raise InvalidInput in continuous time, which ``what`` has no use for."""
        if not isinstance(self.time, DiscreteTime):
            raise InvalidInput(
                f"{what} needs discrete time, and this model has continuous time: use time=discrete, or "
                "model.at(DiscreteTime(timesteps=T))"
            )
        return self.time


def gamma_at(given: Given, t: float, like: Tensor) -> Tensor:
    """Return γ(t) for the rows of ``like``, (B,) or (B, *event)."""
    return given.schedule(torch.full((len(like),), t, dtype=scalar_dtype(like.device), device=like.device))
