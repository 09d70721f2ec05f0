"""The base of the hierarchical models: latents z_1 … z_T with any dependence between them.

A trajectory of q carries one conditional of q and one of p for every latent, and the bound is

    log p(x | z) − Σ_t [log q(z_t | …) − log p(z_t | …)],

which is (1.32) for a Markov chain. Models differ in how they infer a trajectory and in what each latent is generated from.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Independent, kl_divergence

from vdm.batch import Batch
from vdm.bound import Elbo, Loss, VariationalModel
from vdm.buildable import buildable
from vdm.draws import AbstractDraws, Draws, fresh_seed
from vdm.errors import InvalidInput
from vdm.gamma import event_dims
from vdm.models.coding import CodingStep
from vdm.models.loading import Loadable
from vdm.models.warmup import KLWarmup, NoWarmup
from vdm.process import isotropic, reparameterised_sample


class Prior(nn.Module, ABC):
    """p(z_T)."""

    @abstractmethod
    def forward(self, like: Tensor) -> Independent:
        """Return p(z_T) with the rows, dtype and device of the encoded data ``like`` (B, *event)."""


class StandardNormal(Prior):
    """p(z_T) = N(0, I).

    Args:
        shape: of z_T; the data's by default.
    """

    def __init__(self, shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.shape = None if shape is None else tuple(shape)

    @classmethod
    @buildable
    def at_the_top(cls, shapes: Sequence[Sequence[int]]) -> "StandardNormal":
        """Return the prior of latents z_1 … z_T with these shapes."""
        return cls(shapes[-1])

    def forward(self, like: Tensor) -> Independent:
        shape = like.shape[1:] if self.shape is None else self.shape
        return isotropic(like.new_zeros(len(like), *shape), like.new_ones(len(like)))


class Decoder(nn.Module, ABC):
    """p(x | z), and the encoding of the data's values. z is (z_1,) in a Markov model, else (z_1, …, z_T)."""

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raise InvalidInput, with one line, if ``x`` is not a possible value of the data."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return data (B, *event) in its own units as reals of the same shape, from which inference starts."""

    @abstractmethod
    def log_prob(self, x: Tensor, z: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        """Return log p(x | z), (B,) in nats."""

    def level_log_probs(self, z: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        """Return log p(x = k | z) of every level k, (B, *event, K) in nats.

        Raises:
            InvalidInput: a decoder of real numbers.
        """
        raise InvalidInput(f"{type(self).__name__} has no probabilities of levels: use one with a likelihood of levels")

    @abstractmethod
    def decode(self, z: Sequence[Tensor], draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        """Draw from p(x | z), in the data's units."""


class Trajectory(NamedTuple):
    """z_1 … z_T ~ q(z_{1:T} | x), with the conditional of q that each was drawn from and that of p."""

    z: list[Tensor]
    q: list[Independent]
    p: list[Independent]

    def log_ratios(self) -> list[Tensor]:
        """log q(z_t | …) − log p(z_t | …) at the drawn z_t, (B,) each; of either sign."""
        return [q.log_prob(z) - p.log_prob(z) for z, q, p in zip(*self, strict=True)]

    def kls(self, layers: slice) -> list[Tensor]:
        """KL(q(z_t | …) ‖ p(z_t | …)), (B,) each: the mean of the log-ratio, if neither depends on z_t's children."""
        return [kl_divergence(q, p) for q, p in zip(self.q[layers], self.p[layers], strict=True)]


class LatentModel(Loadable, VariationalModel, ABC):
    """A model of latents z_1 … z_T with Gaussian conditionals; the final class describes its arguments."""

    def __init__(self, layers: int, prior: Prior, decoder: Decoder, warmup: KLWarmup | None) -> None:
        super().__init__()
        if layers < 1:
            raise InvalidInput(f"layers counts the latents z_1 … z_T and must be at least 1, got {layers}")
        self.layers, self.prior, self.decoder, self.warmup = layers, prior, decoder, warmup or NoWarmup()

    @abstractmethod
    def infer(self, x_0: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Trajectory:
        """Draw one trajectory of q for the encoded data x_0 (B, *event)."""

    @abstractmethod
    def layer_terms(self, trajectory: Trajectory) -> list[Tensor]:
        """Return T estimates (B,) of E [log q(z_t | …) − log p(z_t | …)], t = 1 … T: closed KLs where these are exact."""

    @abstractmethod
    def generative_conditional(self, t: int, above: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        """Return p(z_t | z_{t+1}, …, z_T), t = 1 … T − 1; ``above`` is (z_{t+1}, …, z_T), the nearest first."""

    @abstractmethod
    def decoder_inputs(self, z: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the part of (z_1, …, z_T) that p(x | …) depends on."""

    @abstractmethod
    def coding_steps(self, condition: Tensor | None = None) -> list[CodingStep]:
        """Return the order in which bits-back coding draws and stores z_1 … z_T and x; see ``CodingStep``."""

    @property
    def independent_draws(self) -> bool:
        return True

    @property
    def matching_entries(self) -> int:
        """T − 1: the layers below the prior's."""
        return self.layers - 1

    def check(self, x: Tensor) -> None:
        """Raise InvalidInput for values that the decoder gives no probability."""
        self.decoder.check(x)

    def elbo(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Elbo:
        """Estimate the bound from one trajectory z_1 … z_T of q, by layer; unbiased.

        reconstruction: log p(x | z). prior_matching: layer T of ``layer_terms``. matching (B, T − 1): layers 1 … T − 1.

        Raises:
            InvalidInput: values that are not the data's.
        """
        self.check(x)
        return self._bound(x, draws or Draws(fresh_seed()), condition)

    def log_weight(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Tensor:
        """log p(x, z_{1:T}) − log q(z_{1:T} | x) on one trajectory of q, (B,) in nats: the inside of (1.32)."""
        self.check(x)
        trajectory = self.infer(self.decoder.encode(x), draws or Draws(fresh_seed()), condition)
        return self._reconstruction(x, trajectory.z, condition) - sum(trajectory.log_ratios())

    def loss(self, batch: Batch, draws: AbstractDraws) -> Loss:
        """Estimate −bound per dimension in nats, (B,), from one trajectory, its KL terms weighted by the warm-up."""
        bound = self._bound(batch.x, draws, batch.condition)
        kl = self.warmup() * (bound.prior_matching + bound.denoising_matching)
        return Loss((kl - bound.reconstruction) / bound.dims, bound)

    @torch.no_grad()
    def sample(
        self, n: int, event_shape: tuple[int, ...], *, draws: AbstractDraws | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Draw ``n`` ancestral samples in the data's own units, (n, *event_shape)."""
        draws = draws or Draws(fresh_seed())
        parameter = next(self.parameters(), None)
        like = torch.zeros((), device=None if parameter is None else parameter.device).expand(n, *event_shape)
        return self.generate([reparameterised_sample(self.prior(like), draws, "prior")], draws, condition)

    @torch.no_grad()
    def generate(self, z: Sequence[Tensor], draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        """Generate data (B, *event) from given upper latents ``z`` = (z_t, …, z_T), the lower ones drawn from p."""
        z = list(z)
        for t in range(self.layers - len(z), 0, -1):
            conditional = self.generative_conditional(t, z, condition)
            z.insert(0, reparameterised_sample(conditional, draws, f"step_{self.layers - t}"))
        return self.decoder.decode(self.decoder_inputs(z), draws, condition)

    @torch.no_grad()
    def latents(self, x: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> list[Tensor]:
        """Draw z_1 … z_T ~ q(z_{1:T} | x); ``generate`` makes a reconstruction of x from them."""
        self.check(x)
        return self.infer(self.decoder.encode(x), draws, condition).z

    @torch.no_grad()
    def traverse(self, x: Tensor, t: int, offsets: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        """Generate data with one coordinate of z_t moved, from B copies of one example x (B, *event): (B, *event).

        The coordinate is the one with the largest KL of q(z_t | …) to p(z_t | …). Row i has it at p's mean plus offsets[i]
        standard deviations. Latents above keep their values, latents below are drawn from p.
        """
        trajectory = self.infer(self.decoder.encode(x), draws, condition)
        q, p = (kernels[t - 1].base_dist for kernels in (trajectory.q, trajectory.p))
        coordinate = kl_divergence(q, p)[0].argmax()
        moved = trajectory.z[t - 1].flatten(1).clone()
        moved[:, coordinate] = p.mean.flatten(1)[:, coordinate] + offsets * p.stddev.flatten(1)[:, coordinate]
        return self.generate([moved.view_as(trajectory.z[t - 1]), *trajectory.z[t:]], draws, condition)

    def _bound(self, x: Tensor, draws: AbstractDraws, condition: Tensor | None) -> Elbo:
        x_0 = self.decoder.encode(x)
        trajectory = self.infer(x_0, draws, condition)
        *below, top = self.layer_terms(trajectory)
        matching = torch.stack(below, 1) if below else top.new_zeros(len(top), 0)
        return Elbo(self._reconstruction(x, trajectory.z, condition), top, matching, event_dims(x))

    def _reconstruction(self, x: Tensor, z: Sequence[Tensor], condition: Tensor | None) -> Tensor:
        return self.decoder.log_prob(x, self.decoder_inputs(z), condition)
