"""Learned parts of the hierarchical models: Gaussians whose mean and scale are networks, and a decoder.

``network(in_shapes, out_shape, heads)`` makes a ``FusionNetwork``; ``shapes`` are the shapes of z_1 … z_T, which may
differ from the data's.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from vdm.buildable import buildable
from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.likelihoods import Likelihood
from vdm.models.hvae import BottomUp, ConditionalPrior, TopDown
from vdm.models.latent import Decoder
from vdm.models.mhvae import MarkovKernels
from vdm.networks import FusionNetwork
from vdm.networks.fusion import Shape
from vdm.parameterisations import Prediction
from vdm.process import gaussian

MakeFusion = Callable[[Sequence[Shape], Shape, int], FusionNetwork]


class LearnedGaussian(nn.Module):
    """N(μ(a, b, …), σ²(a, b, …)) with log σ = 7 tanh(r/7) − 1, so that log σ is −1 at first and within ±7 of it.

    Args:
        network: two heads, μ and r.
    """

    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, parents: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        """Return the Gaussian given ``parents``; raise InvalidInput for a condition, which these networks do not take."""
        if condition is not None:
            raise InvalidInput("the learned latents take no condition: use data without labels, or model=vdm")
        mean, raw = self.network(*parents)
        scale = torch.exp(7 * torch.tanh(raw / 7) - 1)
        return gaussian(mean, scale)


class LearnedEncoder(MarkovKernels):
    """q(z_t | z_{t−1}), a network for each t.

    Args:
        event_shape: of the data.
        shapes: of z_1 … z_T.
        network: makes the kernels' networks.
    """

    def __init__(self, event_shape: Shape, shapes: Sequence[Shape], network: MakeFusion) -> None:
        super().__init__()
        below = [event_shape, *shapes]
        self.kernels = nn.ModuleList(LearnedGaussian(network([a], b, 2)) for a, b in pairwise(below))

    def forward(self, t: int, z: Tensor, condition: Tensor | None = None) -> Independent:
        return self.kernels[t - 1]([z], condition)


class LearnedReverse(MarkovKernels):
    """p(z_{t−1} | z_t), a network for each t; arguments as for ``LearnedEncoder``."""

    def __init__(self, shapes: Sequence[Shape], network: MakeFusion) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(LearnedGaussian(network([b], a, 2)) for a, b in pairwise(shapes))

    def forward(self, t: int, z: Tensor, condition: Tensor | None = None) -> Independent:
        return self.kernels[t - 2]([z], condition)


class LearnedBottomUp(BottomUp):
    """q(z_t | z_{t−1}, …, z_1, x), a network for each t; arguments as for ``LearnedEncoder``."""

    def __init__(self, event_shape: Shape, shapes: Sequence[Shape], network: MakeFusion) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(
            LearnedGaussian(network([*reversed(shapes[:t]), event_shape], shapes[t], 2)) for t in range(len(shapes))
        )

    def forward(self, t: int, below: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        return self.kernels[t - 1](below, condition)


class LearnedConditionalPrior(ConditionalPrior):
    """p(z_t | z_{t+1}, …, z_T), a network for each t; arguments as for ``LearnedReverse``."""

    def __init__(self, shapes: Sequence[Shape], network: MakeFusion) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(LearnedGaussian(network(shapes[t:], shapes[t - 1], 2)) for t in range(1, len(shapes)))

    def forward(self, t: int, above: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        return self.kernels[t - 1](above, condition)


class LadderEncoder(TopDown):
    """q(z_t | z_{t+1}, …, z_T, x) ∝ p(z_t | z_{t+1}, …, z_T) N(z_t; μ_t(x), σ_t²(x)) (Sønderby et al. 2016).

    The product has the sum of the precisions, and the mean of the means weighted by them. For a linear Markov model this is
    the form of the true posterior, with N(z_t; …) ∝ p(x | z_t). Arguments as for ``LearnedEncoder``.
    """

    def __init__(self, event_shape: Shape, shapes: Sequence[Shape], network: MakeFusion) -> None:
        super().__init__()
        self.messages = nn.ModuleList(LearnedGaussian(network([event_shape], shape, 2)) for shape in shapes)

    def forward(
        self, t: int, x_0: Tensor, above: Sequence[Tensor], prior: Independent, condition: Tensor | None = None
    ) -> Independent:
        message = self.messages[t - 1]([x_0], condition)
        variance = 1 / (1 / prior.variance + 1 / message.variance)
        mean = variance * (prior.mean / prior.variance + message.mean / message.variance)
        return gaussian(mean, variance.sqrt())


class LearnedDecoder(Decoder):
    """p(x | z) as a ``Likelihood`` with a network's x̂_0(z).

    Args:
        likelihood: one with its mass about x̂_0, such as the discretised Gaussian.
        network: one head, x̂_0 on the (−1, 1) scale.
        log_variance: γ_1 for the likelihood, whose learned variance starts at e^{log_variance}.
    """

    def __init__(self, likelihood: Likelihood, network: FusionNetwork, log_variance: float = 0.0) -> None:
        super().__init__()
        self.likelihood, self.network, self.log_variance = likelihood, network, log_variance

    @classmethod
    @buildable
    def of_shapes(
        cls, likelihood: Likelihood, event_shape: Shape, shapes: Sequence[Shape], network: MakeFusion, log_variance: float
    ) -> "LearnedDecoder":
        """Return a decoder with a network of the latents that p(x | z) depends on, with these ``shapes``."""
        return cls(likelihood, network(shapes, event_shape, 1), log_variance)

    def check(self, x: Tensor) -> None:
        self.likelihood.check(x)

    def encode(self, x: Tensor) -> Tensor:
        return self.likelihood.encode(x)

    def log_prob(self, x: Tensor, z: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        (x_hat,) = self.network(*z)
        return self.likelihood.log_prob(x, x_hat, self._gamma(x_hat), lambda *_: Prediction(x_hat, x_hat))

    def level_log_probs(self, z: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        (x_hat,) = self.network(*z)
        return self.likelihood.level_log_probs(x_hat, self._gamma(x_hat), lambda *_: Prediction(x_hat, x_hat))

    def decode(self, z: Sequence[Tensor], draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        (x_hat,) = self.network(*z)
        return self.likelihood.decode(x_hat, self._gamma(x_hat), lambda *_: Prediction(x_hat, x_hat), draws)

    def _gamma(self, x_hat: Tensor) -> Tensor:
        return x_hat.new_full((len(x_hat),), self.log_variance)
