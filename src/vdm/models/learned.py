"""Learned parts of the hierarchical models: Gaussians whose mean and deviation are networks, and the decoder.

``network(in_shapes, out_shape, heads)`` makes a ``FusionNetwork``; ``shapes`` are those of
z_1 … z_T, which need not be the data's.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.likelihoods import Likelihood
from vdm.models.hvae import BottomUp, ConditionalPrior, TopDown
from vdm.models.latent import Decoder
from vdm.models.mhvae import MarkovKernels
from vdm.networks import FusionNetwork
from vdm.parameterisations import Prediction
from vdm.process import gaussian

Shape = Sequence[int]

MakeJoin = Callable[[Sequence[Shape], Shape, int], FusionNetwork]


class LearnedGaussian(nn.Module):
    """N(μ(a, b, …), σ²(a, b, …)), with log σ from −1 and within ±7 of it.

    Args:
        network: two heads, μ and what becomes log σ.
    """

    def __init__(self, network: FusionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, parents: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        """Raises InvalidInput for a condition, which these networks have no place for."""
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
        network: see above.
    """

    def __init__(self, event_shape: Shape, shapes: Sequence[Shape], network: MakeJoin) -> None:
        super().__init__()
        below = [event_shape, *shapes]
        self.kernels = nn.ModuleList(LearnedGaussian(network([a], b, 2)) for a, b in pairwise(below))

    def forward(self, t: int, z: Tensor, condition: Tensor | None = None) -> Independent:
        return self.kernels[t - 1]([z], condition)


class LearnedReverse(MarkovKernels):
    """p(z_{t−1} | z_t), a network for each t.

    Args:
        shapes: of z_1 … z_T.
        network: see above.
    """

    def __init__(self, shapes: Sequence[Shape], network: MakeJoin) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(LearnedGaussian(network([b], a, 2)) for a, b in pairwise(shapes))

    def forward(self, t: int, z: Tensor, condition: Tensor | None = None) -> Independent:
        return self.kernels[t - 2]([z], condition)


class LearnedBottomUp(BottomUp):
    """q(z_t | z_{t−1}, …, z_1, x), a network for each t; arguments as for ``LearnedEncoder``."""

    def __init__(self, event_shape: Shape, shapes: Sequence[Shape], network: MakeJoin) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(
            LearnedGaussian(network([*reversed(shapes[:t]), event_shape], shapes[t], 2)) for t in range(len(shapes))
        )

    def forward(self, t: int, below: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        return self.kernels[t - 1](below, condition)


class LearnedConditionalPrior(ConditionalPrior):
    """p(z_t | z_{t+1}, …, z_T), a network for each t; arguments as for ``LearnedReverse``."""

    def __init__(self, shapes: Sequence[Shape], network: MakeJoin) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(LearnedGaussian(network(shapes[t:], shapes[t - 1], 2)) for t in range(1, len(shapes)))

    def forward(self, t: int, above: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        return self.kernels[t - 1](above, condition)


class LadderEncoder(TopDown):
    """q(z_t | z_{t+1}, …, z_T, x) ∝ p(z_t | z_{t+1}, …, z_T) N(z_t; μ_t(x), σ_t²(x)): the ladder's.

    Precisions add up, and means in their proportion. Where the model is Markov and linear, this form is the true
    posterior's, with N(z_t; …) ∝ p(x | z_t). Arguments as for ``LearnedEncoder``.
    """

    def __init__(self, event_shape: Shape, shapes: Sequence[Shape], network: MakeJoin) -> None:
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
    """p(x | z) by a ``Likelihood`` that looks at x̂_0, which is a network's.

    Args:
        likelihood: one that puts its mass about x̂_0, such as the discretised Gaussian.
        network: one head, x̂_0 on the (−1, 1) scale.
        log_variance: the γ_1 that the likelihood is told; its learned variance starts at e^{log_variance}.
    """

    def __init__(self, likelihood: Likelihood, network: FusionNetwork, log_variance: float = 0.0) -> None:
        super().__init__()
        self.likelihood, self.network, self.log_variance = likelihood, network, log_variance

    @classmethod
    def of_shapes(
        cls, likelihood: Likelihood, event_shape: Shape, shapes: Sequence[Shape], network: MakeJoin, log_variance: float
    ) -> "LearnedDecoder":
        """With a network of the latents that p(x | z) depends on, of these ``shapes``."""
        return cls(likelihood, network(shapes, event_shape, 1), log_variance)

    def check(self, x: Tensor) -> None:
        self.likelihood.check(x)

    def encode(self, x: Tensor) -> Tensor:
        return self.likelihood.encode(x)

    def log_prob(self, x: Tensor, z: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        (guess,) = self.network(*z)
        return self.likelihood.log_prob(x, guess, self._gamma(guess), lambda *_: Prediction(guess, guess))

    def decode(self, z: Sequence[Tensor], draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        (guess,) = self.network(*z)
        return self.likelihood.decode(guess, self._gamma(guess), lambda *_: Prediction(guess, guess), draws)

    def _gamma(self, guess: Tensor) -> Tensor:
        return guess.new_full((len(guess),), self.log_variance)
