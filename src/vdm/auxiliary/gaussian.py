"""A Gaussian auxiliary latent."""

import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence
from torch.nn import functional as F

from vdm.auxiliary.latent import LatentFamily, latent_noise
from vdm.draws import AbstractDraws
from vdm.process import gaussian, reparameterise, standard_normal


class GaussianLatent(LatentFamily):
    """q(z | x) = N(μ, diag(v)) with v = softplus(r) of the parameters (μ, r), and p(z) = N(0, I)."""

    @property
    def parameters(self) -> int:
        return 2 * self.size

    def draw(self, parameters: Tensor, draws: AbstractDraws) -> Tensor:
        q = self.distribution(parameters)
        return reparameterise(q, latent_noise(draws, q.mean))

    def kl(self, parameters: Tensor) -> Tensor:
        q = self.distribution(parameters)
        return kl_divergence(q, standard_normal(q.mean))

    def log_ratio(self, parameters: Tensor, z: Tensor) -> Tensor:
        return self.distribution(parameters).log_prob(z) - standard_normal(z).log_prob(z)

    def prior(self, like: Tensor, draws: AbstractDraws) -> Tensor:
        return latent_noise(draws, like.new_zeros(len(like), self.size))

    def distribution(self, parameters: Tensor) -> Independent:
        """Return q(z | x)."""
        mean, raw = parameters.chunk(2, 1)
        return gaussian(mean, torch.sqrt(F.softplus(raw)))
