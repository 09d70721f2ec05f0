"""The hierarchical VAE of section 4.1.1: every latent is generated from all latents above it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.distributions import Independent

from vdm.draws import AbstractDraws
from vdm.models.coding import DATA_LIKE, CodingStep, Conditional
from vdm.models.latent import Decoder, LatentModel, Prior, Trajectory
from vdm.models.warmup import KLWarmup
from vdm.process import reparameterised_sample


class ConditionalPrior(nn.Module, ABC):
    """p(z_t | z_{t+1}, …, z_T)."""

    @abstractmethod
    def forward(self, t: int, above: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        """t = 1 … T − 1; ``above`` is (z_{t+1}, …, z_T), the nearest first."""


class BottomUp(nn.Module, ABC):
    """q(z_t | z_{t−1}, …, z_1, x)."""

    @abstractmethod
    def forward(self, t: int, below: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        """t = 1 … T; ``below`` is (z_{t−1}, …, z_1, x_0), the nearest first, with x_0 the encoded data."""


class TopDown(nn.Module, ABC):
    """q(z_t | z_{t+1}, …, z_T, x)."""

    @abstractmethod
    def forward(
        self, t: int, x_0: Tensor, above: Sequence[Tensor], prior: Independent, condition: Tensor | None = None
    ) -> Independent:
        """t = T … 1; ``above`` is (z_{t+1}, …, z_T), the nearest first; prior = p(z_t | z_{t+1}, …, z_T)."""


class HierarchicalModel(LatentModel, ABC):
    """p(x, z_{1:T}) = p(z_T) Π_{t<T} p(z_t | z_{t+1}, …, z_T) p(x | z_1, …, z_T)."""

    generator: ConditionalPrior

    def generative_conditional(self, t: int, above: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        return self.generator(t, above, condition)

    def coding_steps(self, condition: Tensor | None = None) -> list[CodingStep]:
        """Draw all latents, then store x and the latents from the bottom up: p(z_t | …) sees every latent above."""
        T = self.layers

        def generator(t: int) -> Conditional:
            return lambda z: self._generated(t, z, condition)

        x = CodingStep(False, 0, lambda z: self.decoder.level_log_probs([z[i] for i in range(1, T + 1)], condition))
        return [*self.inference_steps(condition), x, *(CodingStep(False, t, generator(t)) for t in range(1, T + 1))]

    @abstractmethod
    def inference_steps(self, condition: Tensor | None) -> list[CodingStep]:
        """Return the draws of z_1 … z_T ~ q in the order of inference."""

    def _generated(self, t: int, z: Mapping[int, Tensor], condition: Tensor | None) -> Independent:
        """p(z_t | z_{t+1}, …, z_T) for t < T, and the prior for t = T."""
        if t == self.layers:
            return self.prior(z[DATA_LIKE])
        return self.generator(t, [z[i] for i in range(t + 1, self.layers + 1)], condition)

    def decoder_inputs(self, z: Sequence[Tensor]) -> Sequence[Tensor]:
        return z


class HVAE(HierarchicalModel):
    """The hierarchical VAE with bottom-up inference, q(z_{1:T} | x) = q(z_1 | x) Π_{t≥2} q(z_t | z_{t−1}, …, z_1, x).

    Args:
        layers: T, at least 1; with T = 1 it is a VAE and ``generator`` is never called.
        encoder: q(z_t | z_{t−1}, …, z_1, x).
        generator: p(z_t | z_{t+1}, …, z_T).
        prior: p(z_T).
        decoder: p(x | z_1, …, z_T).
        warmup: the weight of the KL terms in training; 1 by default.

    Raises:
        InvalidInput: no layers.
    """

    def __init__(
        self,
        layers: int,
        encoder: BottomUp,
        generator: ConditionalPrior,
        prior: Prior,
        decoder: Decoder,
        warmup: KLWarmup | None = None,
    ) -> None:
        super().__init__(layers, prior, decoder, warmup)
        self.generator, self.encoder = generator, encoder

    def infer(self, x_0: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Trajectory:
        below, q = [x_0], []
        for t in range(1, self.layers + 1):
            q.append(self.encoder(t, below, condition))
            below.insert(0, reparameterised_sample(q[-1], draws, f"x_{t}"))
        z = below[-2::-1]
        p = [self.generator(t, z[t:], condition) for t in range(1, self.layers)]
        return Trajectory(z, q, [*p, self.prior(x_0)])

    def inference_steps(self, condition: Tensor | None) -> list[CodingStep]:
        def encoder(t: int) -> Conditional:
            return lambda z: self.encoder(t, [z[i] for i in range(t - 1, -1, -1)], condition)

        return [CodingStep(True, t, encoder(t)) for t in range(1, self.layers + 1)]

    def layer_terms(self, trajectory: Trajectory) -> list[Tensor]:
        """Log-ratios below the top, since p(z_t | …) sees latents drawn after z_t; at the top the closed KL."""
        return [*trajectory.log_ratios()[:-1], *trajectory.kls(slice(-1, None))]


class TopDownHVAE(HierarchicalModel):
    """The hierarchical VAE with top-down inference, q(z_{1:T} | x) = q(z_T | x) Π_{t<T} q(z_t | z_{t+1}, …, z_T, x).

    Sønderby et al. 2016, arXiv:1602.02282.

    Args:
        layers: T, at least 1.
        encoder: q(z_t | z_{t+1}, …, z_T, x).
        generator, prior, decoder, warmup: as in ``HVAE``.

    Raises:
        InvalidInput: no layers.
    """

    def __init__(
        self,
        layers: int,
        encoder: TopDown,
        generator: ConditionalPrior,
        prior: Prior,
        decoder: Decoder,
        warmup: KLWarmup | None = None,
    ) -> None:
        super().__init__(layers, prior, decoder, warmup)
        self.generator, self.encoder = generator, encoder

    def infer(self, x_0: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Trajectory:
        z: list[Tensor] = []
        q: list[Independent] = []
        p: list[Independent] = []
        for t in range(self.layers, 0, -1):
            p.insert(0, self.generator(t, z, condition) if z else self.prior(x_0))
            q.insert(0, self.encoder(t, x_0, z, p[0], condition))
            z.insert(0, reparameterised_sample(q[0], draws, f"x_{t}"))
        return Trajectory(z, q, p)

    def inference_steps(self, condition: Tensor | None) -> list[CodingStep]:
        def encoder(t: int) -> Conditional:
            def posterior(z: Mapping[int, Tensor]) -> Independent:
                above = [z[i] for i in range(t + 1, self.layers + 1)]
                return self.encoder(t, z[0], above, self._generated(t, z, condition), condition)

            return posterior

        return [CodingStep(True, t, encoder(t)) for t in range(self.layers, 0, -1)]

    def layer_terms(self, trajectory: Trajectory) -> list[Tensor]:
        """Closed KLs: both conditionals of z_t see the same latents."""
        return trajectory.kls(slice(None))
