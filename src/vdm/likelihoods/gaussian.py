"""Gaussian densities, for data of real numbers."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.distributions import Independent

from vdm.bound import Denoise
from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, sigma2
from vdm.likelihoods.base import Likelihood
from vdm.likelihoods.discretised import ReconstructionVariance
from vdm.process import gaussian, isotropic, reparameterised_sample


class DensityLikelihood(Likelihood):
    """A density of real numbers, which are encoded as they are."""

    def check(self, x: Tensor) -> None:
        if not x.is_floating_point():
            raise InvalidInput(
                "these data are integer levels, to which a density gives no probability: use likelihood=categorical or "
                "likelihood=discretised_gaussian"
            )
        if not torch.isfinite(x).all():
            raise InvalidInput("the data has NaN or infinite values: remove or replace them")

    def encode(self, x: Tensor) -> Tensor:
        return x if x.is_floating_point() else x.float()

    def nearest(self, x_0: Tensor) -> Tensor:
        return x_0

    @abstractmethod
    def distribution(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Independent:
        """Return p(x | x_1), a Gaussian."""

    def log_prob(self, x: Tensor, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        return self.distribution(x_1, gamma_1, denoise).log_prob(x)

    def decode(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise, draws: AbstractDraws) -> Tensor:
        return reparameterised_sample(self.distribution(x_1, gamma_1, denoise), draws, "decode")

    def mode(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        return self.distribution(x_1, gamma_1, denoise).mean


class GaussianLikelihood(DensityLikelihood):
    """p(x_0 | x_1) = N(x_1/√ᾱ_1, e^{γ_1} I): q(x_1 | x_0) normalised as a function of x_0.

    E log p = −D/2 (1 + log 2π + γ_1), so the bound has no optimum in γ_1: γ_min is a setting and cannot be learned.
    """

    def distribution(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Independent:
        return isotropic(x_1 / align(alpha_bar(gamma_1).sqrt(), x_1), sigma2(gamma_1) / alpha_bar(gamma_1))


class DenoisedGaussianLikelihood(DensityLikelihood):
    """p(x_0 | x_1) = N(x̂_0(x_1), σ² I), which depends on all of x_1 through x̂_0 like the discretised Gaussian.

    Args:
        variance: σ², fixed or learned.
    """

    def __init__(self, variance: ReconstructionVariance) -> None:
        super().__init__()
        self.variance = variance

    def distribution(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Independent:
        prediction = denoise(x_1, gamma_1)
        return gaussian(prediction.x_0, self.variance.of(prediction, gamma_1).sqrt())
