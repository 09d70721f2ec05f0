"""The discretised Gaussian: DDPM's decoder (Ho et al. 2020, section 3.3).

:class:`DiscretisedNormal` is the distribution, for any mean and variance; the likelihood has the mean x̂_0(x_1).
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vdm.bound import Denoise
from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, sigma2
from vdm.levels import Levels, scale_of
from vdm.likelihoods.base import LevelLikelihood
from vdm.parameterisations import Prediction


def log_ndtr(z: Tensor) -> Tensor:
    """Return log Φ(z), from erfcx below zero and erfc above.

    ``torch.special.log_ndtr`` has the same values, but its gradient is exp of a difference of numbers like z²/2: in float32
    it has an error of 5 % at z = −10³, and is wrong in all digits or infinite below −10⁴.
    """
    below, above = z.clamp(max=0), z.clamp(min=0)
    lower = torch.log(0.5 * torch.special.erfcx(-below * math.sqrt(0.5))) - 0.5 * below.square()
    upper = torch.log1p(-0.5 * torch.special.erfc(above * math.sqrt(0.5)))
    return torch.where(z < 0, lower, upper)


class DiscretisedNormal(Distribution):
    """P(k) = Φ((e_{k+1} − μ)/σ) − Φ((e_k − μ)/σ) over levels k = 0 … K − 1.

    The bins are those of the levels' scale, by default K equal parts of [−1, 1] with edges e_k = 2k/K − 1; the first and
    the last reach to ∓∞, so the P(k) add up to one whatever μ and σ are.

    Args:
        mean, variance: μ and σ², of one shape, on the data's scale.
        levels: K, or the scale.
    """

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, mean: Tensor, variance: Tensor, levels: Levels) -> None:
        self.loc, self.scale, self.bins = mean, variance.sqrt(), scale_of(levels)
        super().__init__(mean.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(value), elementwise; finite with finite gradients at any distance of the level from μ.

        With b the edge nearer to the bulk, after a reflection that puts both edges a < b into the lower half:
        log(Φ(b) − Φ(a)) = log Φ(b) + log(−expm1(log Φ(a) − log Φ(b))). An open bin is log Φ(b) alone.
        """
        level = value.to(self.loc.dtype)
        lower = (self.bins.to_real(level - 0.5) - self.loc) / self.scale
        upper = (self.bins.to_real(level + 0.5) - self.loc) / self.scale
        first, last = level == 0, level == self.bins.levels - 1
        reflect = last | (~first & (lower + upper > 0))
        near = log_ndtr(torch.where(reflect, -lower, upper))
        far = log_ndtr(torch.where(reflect, -upper, lower))
        between = (far - near).clamp(max=-torch.finfo(near.dtype).tiny)
        return near + torch.where(first | last, 0.0, torch.log(-torch.expm1(between)))

    @property
    def mode(self) -> Tensor:
        """The most probable level: the one whose bin contains μ, or an open bin where σ is large."""
        middle = self.bins.to_level(self.loc)
        candidates = torch.stack([middle, torch.zeros_like(middle), torch.full_like(middle, self.bins.levels - 1)])
        best = torch.stack([self.log_prob(level) for level in candidates]).argmax(0, keepdim=True)
        return candidates.gather(0, best).squeeze(0)


class ReconstructionVariance(nn.Module, ABC):
    """σ², the variance of x_0 about x̂_0(x_1)."""

    @abstractmethod
    def forward(self, gamma_1: Tensor) -> Tensor:
        """Return σ² > 0, of γ_1's shape."""

    def of(self, prediction: Prediction, gamma_1: Tensor) -> Tensor:
        """Return σ² at x_1, (B, *event), for the denoiser's ``prediction`` there; of γ_1 alone unless a class says more."""
        return align(self(gamma_1), prediction.x_0).expand_as(prediction.x_0)


class PosteriorVariance(ReconstructionVariance):
    """σ² = s² σ_1²/(ᾱ_1 s² + σ_1²): the posterior variance given x_1 of Gaussian data with standard deviation s.

    It is below e^{γ_1}, which it approaches for large s; s = 1 gives 1 − ᾱ_1, the β_1 of DDPM.

    Args:
        sigma_data: s, on the (−1, 1) scale; positive.
    """

    def __init__(self, sigma_data: float) -> None:
        super().__init__()
        if not sigma_data > 0:
            raise InvalidInput(f"sigma_data must be positive, got {sigma_data}: state the data's standard deviation")
        self.sigma_data = float(sigma_data)

    def forward(self, gamma_1: Tensor) -> Tensor:
        s2, noise2 = self.sigma_data**2, sigma2(gamma_1)
        return s2 * noise2 / (alpha_bar(gamma_1) * s2 + noise2)


class LearnedVariance(ReconstructionVariance):
    """σ² = e^{ℓ + γ_1} with one learned number ℓ, 0 at first: a good denoiser's error is below the noise of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.log_ratio = nn.Parameter(torch.zeros(()))

    def forward(self, gamma_1: Tensor) -> Tensor:
        return torch.exp(self.log_ratio + gamma_1)


class FixedVariance(ReconstructionVariance):
    """σ² as a number, whatever γ_1 is.

    Args:
        variance: σ², positive.
    """

    def __init__(self, variance: float) -> None:
        super().__init__()
        if not (variance > 0 and math.isfinite(variance)):
            raise InvalidInput(f"variance must be a positive number, got {variance}")
        self.variance = float(variance)

    def forward(self, gamma_1: Tensor) -> Tensor:
        return torch.full_like(gamma_1, self.variance)


class InterpolatedVariance(FixedVariance):
    """log σ² = f log large + (1 − f) log variance, with f a network's own: ``LearnedVarianceParameterisation``'s at x_1.

    Args:
        variance, large: the variances for f = 0 and f = 1.
    """

    def __init__(self, variance: float, large: float) -> None:
        super().__init__(variance)
        self.large = FixedVariance(large).variance

    def of(self, prediction: Prediction, gamma_1: Tensor) -> Tensor:
        fraction = getattr(prediction, "fraction", None)
        if fraction is None:
            raise InvalidInput("this variance is learned by the denoiser: give it LearnedVarianceParameterisation")
        return (fraction * math.log(self.large) + (1 - fraction) * math.log(self.variance)).exp()


class DiscretisedGaussianLikelihood(LevelLikelihood):
    """p(x = k | x_1): the mass of N(x̂_0(x_1), σ² I) in each level's bin, with the two outer bins open.

    It depends on all of x_1 through x̂_0, so it suits schedules whose γ_1 is too large for the factorised categorical, such
    as DDPM's −9.2 with 256 levels. It costs one more call of the denoiser.

    Args:
        levels: K, or the scale.
        variance: σ², fixed or learned.
    """

    def __init__(self, levels: Levels, variance: ReconstructionVariance) -> None:
        super().__init__(levels)
        self.variance = variance

    def log_prob(self, x: Tensor, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        return Independent(self._distribution(x_1, gamma_1, denoise), x_1.ndim - 1, validate_args=False).log_prob(x)

    def decode(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise, draws: AbstractDraws) -> Tensor:
        normal = self._distribution(x_1, gamma_1, denoise)
        return self.scale.to_level(normal.loc + normal.scale * draws.normal("decode", x_1))

    def level_log_probs(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        normal = self._distribution(x_1, gamma_1, denoise)
        return torch.stack([normal.log_prob(x_1.new_full(x_1.shape, k)) for k in range(self.levels)], -1)

    def mode(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        return self._distribution(x_1, gamma_1, denoise).mode

    def _distribution(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> DiscretisedNormal:
        prediction = denoise(x_1, gamma_1)
        return DiscretisedNormal(prediction.x_0, self.variance.of(prediction, gamma_1), self.scale)
