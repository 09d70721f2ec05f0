"""The interface of a family of auxiliary latents, and a latent inferred by a network."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vdm.draws import AbstractDraws
from vdm.errors import at_least


class LatentFamily(ABC):
    """q(z | x) with its parameters given by a network, and the prior p(z); z is (B, size).

    Args:
        size: L, the numbers in z.
    """

    def __init__(self, size: int) -> None:
        at_least(1, size=size)
        self.size = int(size)

    @property
    @abstractmethod
    def parameters(self) -> int:
        """The numbers that describe one q(z | x)."""

    @abstractmethod
    def draw(self, parameters: Tensor, draws: AbstractDraws) -> Tensor:
        """Draw z ~ q(z | x), (B, size), for parameters (B, parameters); its gradient need not be that of the mean."""

    @abstractmethod
    def kl(self, parameters: Tensor) -> Tensor:
        """Return KL(q(z | x) ‖ p(z)), (B,) in nats: exact, for the z that ``draw`` draws."""

    @abstractmethod
    def log_ratio(self, parameters: Tensor, z: Tensor) -> Tensor:
        """Return log q(z | x) − log p(z), (B,) in nats."""

    @abstractmethod
    def prior(self, like: Tensor, draws: AbstractDraws) -> Tensor:
        """Draw z ~ p(z), (B, size), for the rows of ``like``."""


class AuxiliaryLatent(nn.Module):
    """q(z | x) of a family, with its parameters from a network that sees x.

    Args:
        family: of z.
        network: makes the network x_0 ↦ (B, features) for a number of ``features``.
    """

    def __init__(self, family: LatentFamily, network: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.family, self.network = family, network(features=family.parameters)

    def forward(self, x_0: Tensor) -> Tensor:
        """Return the parameters of q(z | x), (B, parameters), in x_0's dtype."""
        dtype = next(self.parameters(), torch.zeros((), dtype=x_0.dtype)).dtype
        return self.network(x_0.to(dtype)).to(x_0.dtype)


def latent_noise(draws: AbstractDraws, like: Tensor) -> Tensor:
    """Draw the standard normals, called ``latent``, behind z; of the shape of ``like``."""
    return draws.normal("latent", like)


def latent_uniform(draws: AbstractDraws, like: Tensor) -> Tensor:
    """Draw U[0, 1) behind z, of the shape of ``like``."""
    below_one = 1 - torch.finfo(like.dtype).eps
    return torch.special.ndtr(latent_noise(draws, like)).clamp(max=below_one)
