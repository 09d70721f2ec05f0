"""The interface of diffusion models for evaluation, images and callbacks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from vdm.bound import Denoise, Elbo, VariationalModel
from vdm.consistency import ConsistencyElbo
from vdm.draws import AbstractDraws, Draws, fresh_seed
from vdm.elbo import DiscreteTime, Time
from vdm.likelihoods import Likelihood
from vdm.models.mhvae import MHVAE
from vdm.samplers import Latent, Sampler, Sampling, Spacing
from vdm.schedules import NoiseSchedule
from vdm.times import TimeSampler


class DiffusionModel(VariationalModel, ABC):
    """A variational model whose latents x_t ~ q(x_t | x_0) follow a noise schedule γ(t).

    Attributes:
        schedule: γ(t).
        denoiser: ``denoise(x_t, gamma_t) -> Prediction``.
        likelihood: p(x_0 | x_1).
        time: discrete or continuous; says what the bound is.
        times: where a one-t estimate draws t.
        sampling: how ``sample`` draws by default.
    """

    schedule: NoiseSchedule
    denoiser: Denoise
    likelihood: Likelihood
    time: Time
    times: TimeSampler
    sampling: Sampling

    @property
    def default_steps(self) -> int:
        """Sampling steps where the call does not say: T − 1 in discrete time, those of ``sampling`` in continuous time."""
        return self.time.steps if isinstance(self.time, DiscreteTime) else self.sampling.steps

    @abstractmethod
    def at(self, time: Time) -> Self:
        """Return the same model, sharing every part, with its bound at another ``time``."""

    @abstractmethod
    def elbo_all_times(
        self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None, rows: int = 1024
    ) -> Elbo:
        """Estimate (1.62) with the full sum over t = 2 … T: ``matching`` is (B, T − 1), one entry a KL.

        Args:
            rows: how many (example, t) pairs one call of the denoiser may hold.

        Raises:
            InvalidInput: continuous time; values that are not the data's.
        """

    @abstractmethod
    def consistency_elbo(
        self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None
    ) -> ConsistencyElbo:
        """Estimate (1.46), the other unbiased form of the same bound, from one joint trajectory x_1 … x_T.

        Raises:
            InvalidInput: continuous time; values that are not the data's.
        """

    @abstractmethod
    def as_mhvae(self) -> MHVAE:
        """Return the chain x_1 … x_T as a Markovian hierarchical VAE with the same parts.

        Raises:
            InvalidInput: continuous time, which has no chain.
        """

    @abstractmethod
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
        """Yield the latents of ``sample`` from pure noise x_T down to x_1: steps + 1 of (n, *event_shape)."""

    @abstractmethod
    def decode(self, x_1: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        """Draw the data from p(x_0 | x_1)."""

    @abstractmethod
    def predict_data(self, latent: Latent, condition: Tensor | None = None) -> Tensor:
        """Return the most probable data given x̂_0(x_t), in the data's own units, (B, *event)."""

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
