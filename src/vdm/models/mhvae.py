"""The Markovian hierarchical VAE of section 4.1.2: two Markov chains, a prior and a decoder, and the bound (1.32)."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from vdm.bound import Batch, Elbo, Loss, VariationalModel
from vdm.draws import AbstractDraws, Draws, fresh_seed
from vdm.elbo import event_dims
from vdm.errors import InvalidInput
from vdm.process import isotropic


class Chain(nn.Module, ABC):
    """Gaussian kernels from each latent to its neighbour, up (an encoder) or down (a reverse chain)."""

    @abstractmethod
    def forward(self, t: int, z: Tensor, condition: Tensor | None = None) -> Independent:
        """The kernel at level t, given the neighbour z (B, …).

        Up, t = 1 … T: q(z_t | z_{t−1}), where z_0 is the encoded data. Down, t = 2 … T: p(z_{t−1} | z_t).
        """


class Prior(nn.Module, ABC):
    """p(z_T)."""

    @abstractmethod
    def forward(self, like: Tensor) -> Independent:
        """For the rows, dtype and device of the encoded data ``like`` (B, *event)."""


class Decoder(nn.Module, ABC):
    """p(x | z_1), and what the data's values mean."""

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raises InvalidInput, with one line, where ``x`` is not a possible value of the data."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Data (B, *event) in its own units as reals of the same shape: z_0, where the encoder starts."""

    @abstractmethod
    def log_prob(self, x: Tensor, z_1: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(x | z_1), (B,) in nats."""

    @abstractmethod
    def decode(self, z_1: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        """A draw from p(x | z_1), in the data's units."""


class StandardNormal(Prior):
    """p(z_T) = N(0, I) with latents of the data's shape."""

    def forward(self, like: Tensor) -> Independent:
        return isotropic(torch.zeros_like(like), like.new_ones(len(like)))


class MHVAE(VariationalModel):
    """p(z_T) p(x | z_1) Π_{t≥2} p(z_{t−1} | z_t) (1.26), with q(z_1 | x) Π_{t≥2} q(z_t | z_{t−1}) (1.27).

    Nothing is said of the kernels but that they are Gaussian; the restrictions that make it a VDM are parts.

    Args:
        layers: T, the number of latents, at least 1; with T = 1 it is a VAE and ``reverse`` is never called.
        encoder: q, upwards.
        reverse: p(z_{t−1} | z_t), downwards.
        prior: p(z_T).
        decoder: p(x | z_1).
    """

    def __init__(self, layers: int, encoder: Chain, reverse: Chain, prior: Prior, decoder: Decoder) -> None:
        super().__init__()
        if layers < 1:
            raise InvalidInput(f"layers counts the latents z_1 … z_T and must be at least 1, got {layers}")
        self.layers, self.encoder, self.reverse, self.prior, self.decoder = layers, encoder, reverse, prior, decoder

    def check(self, x: Tensor) -> None:
        """Raises InvalidInput for values that the decoder gives no probability."""
        self.decoder.check(x)

    def elbo(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Elbo:
        """The sampled log-ratio (1.32) on one trajectory z_1 … z_T of q, sorted by layer; unbiased.

        reconstruction: log p(x | z_1). prior_matching: log q(z_T | z_{T−1}) − log p(z_T), a draw of (1.49) and not of
        (1.62)'s closed KL. matching (B, T − 1): log q(z_t | z_{t−1}) − log p(z_t | z_{t+1}), t = 1 … T − 1. Each is a
        log-ratio of either sign; ``total`` is the whole.

        Raises:
            InvalidInput: values that are not the data's.
        """
        self.check(x)
        return self._sampled(x, draws or Draws(fresh_seed()), condition)

    def log_weight(self, x: Tensor, draws: AbstractDraws | None = None, condition: Tensor | None = None) -> Tensor:
        """log p(x, z_{1:T}) − log q(z_{1:T} | x) on one trajectory of q, (B,) in nats: the inside of (1.32)."""
        return self.elbo(x, draws, condition).total

    def loss(self, batch: Batch, draws: AbstractDraws) -> Loss:
        """−(1.32) per dimension in nats, (B,), from one trajectory."""
        bound = self._sampled(batch.x, draws, batch.condition)
        return Loss(-bound.total / bound.dims, bound)

    @torch.no_grad()
    def sample(
        self, n: int, event_shape: tuple[int, ...], *, draws: AbstractDraws | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """``n`` ancestral samples in the data's own units, (n, *event_shape)."""
        draws = draws or Draws(fresh_seed())
        parameter = next(self.parameters(), None)
        like = torch.zeros((), device=None if parameter is None else parameter.device).expand(n, *event_shape)
        z = reparameterised(self.prior(like), draws, "prior")
        for t in range(self.layers, 1, -1):
            z = reparameterised(self.reverse(t, z, condition), draws, f"step_{self.layers - t + 1}")
        return self.decoder.decode(z, draws, condition)

    def _sampled(self, x: Tensor, draws: AbstractDraws, condition: Tensor | None) -> Elbo:
        x_0 = self.decoder.encode(x)
        upwards = self.encoder(1, x_0, condition)
        z = reparameterised(upwards, draws, "x_1")
        first = self.decoder.log_prob(x, z, condition)
        matching = x_0.new_zeros(len(x_0), self.layers - 1)
        columns = []
        for t in range(2, self.layers + 1):
            log_q, below = upwards.log_prob(z), z
            upwards = self.encoder(t, below, condition)
            z = reparameterised(upwards, draws, f"x_{t}")
            columns.append(log_q - self.reverse(t, z, condition).log_prob(below))
        if columns:
            matching = torch.stack(columns, 1)
        return Elbo(first, upwards.log_prob(z) - self.prior(x_0).log_prob(z), matching, event_dims(x))


def reparameterised(kernel: Independent, draws: AbstractDraws, name: str) -> Tensor:
    """mean + standard deviation · the normal called ``name``: a draw that gradients pass through."""
    mean = kernel.mean
    return mean + kernel.stddev * draws.normal(name, mean)
