"""Training objectives: L = ½ E_t[γ′(t) w(γ_t) ‖ε − ε̂‖²] with t uniform, and the same w for every parameterisation.

Since SNR ‖x̂_0 − x_0‖² = ‖ε − ε̂‖², w multiplies each denoising KL of the bound, in discrete time as well. Published weights
are per t; p(γ) = 1/γ′ converts them, the density of γ at uniform t under a *named reference schedule*, which need not be
the model's own. SNR = e^{−γ}.
"""

import math
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput, finite
from vdm.gamma import snr
from vdm.schedules import NoiseSchedule, time_of


class Estimate(Protocol):
    """The denoising term at one time for each example: ``vdm.elbo.OneTimeEstimate``."""

    @property
    def gamma_t(self) -> Tensor:
        """(B,) or (B, *event)."""

    def matching(self, w: Tensor | None = None) -> Tensor:
        """Return w times the KL over the density of its time, (B,)."""

    def squared_error(self, w: Tensor | None = None) -> Tensor:
        """Return the same for the posterior's variance."""

    def without_mean_gradient(self) -> "Estimate":
        """Return the same estimate, with gradients to the reverse variance only."""


class Objective(nn.Module, ABC):
    """A weight w(γ) ≥ 0 on the bound's denoising term; the reconstruction and the prior term keep weight 1."""

    def loss(self, estimate: Estimate) -> Tensor:
        """Return what is minimised of the denoising term, (B,), from its estimate at one t."""
        return estimate.matching(self.weight(estimate.gamma_t))

    @abstractmethod
    def weight(self, gamma: Tensor) -> Tensor:
        """Return w(γ), elementwise; gamma is (B,) or (B, *event)."""


class ElboObjective(Objective):
    """w = 1: training minimises the bound that is reported."""

    def weight(self, gamma: Tensor) -> Tensor:
        return torch.ones_like(gamma)


class ReferencedObjective(Objective):
    """w(γ) = p(γ) factor(γ), with p = 1/γ′ at the time at which the reference schedule reaches γ.

    Beyond the reference's ends p has its value at the nearer end.

    Args:
        reference: a fixed schedule with one γ for all dimensions.

    Raises:
        InvalidInput: a learned reference.
    """

    def __init__(self, reference: NoiseSchedule) -> None:
        super().__init__()
        if reference.learned:
            raise InvalidInput(
                f"the reference schedule of an objective must be fixed, got {type(reference).__name__}: use linear or cosine"
            )
        self.reference = reference

    @abstractmethod
    def factor(self, gamma: Tensor) -> Tensor:
        """Return the weight of ‖ε − ε̂‖² at a uniform t of the reference."""

    def weight(self, gamma: Tensor) -> Tensor:
        t = time_of(self.reference, gamma.detach().flatten())
        return self.factor(gamma) / self.reference.rate(t).view_as(gamma)


class SimpleObjective(ReferencedObjective):
    """The unweighted ‖ε − ε̂‖² at a uniform t of the reference (Ho et al. 2020)."""

    def factor(self, gamma: Tensor) -> Tensor:
        return torch.ones_like(gamma)


class HybridObjective(SimpleObjective):
    """The simple objective for the mean, plus ``share`` times the bound for the variance alone (Nichol & Dhariwal 2021).

    The gradient of the bound's part is stopped at x̂_0, so that a learned reverse variance is trained and the mean is not.

    Args:
        share: λ, 0.001 in the paper.
    """

    def __init__(self, reference: NoiseSchedule, share: float = 0.001) -> None:
        super().__init__(reference)
        if not (share > 0 and math.isfinite(share)):
            raise InvalidInput(f"share must be a positive number, got {share}: 0.001 is the published value")
        self.share = float(share)

    def loss(self, estimate: Estimate) -> Tensor:
        return (
            estimate.squared_error(self.weight(estimate.gamma_t)) + self.share * estimate.without_mean_gradient().matching()
        )


class MinSNRObjective(ReferencedObjective):
    """min(SNR, cap) on ‖x̂_0 − x_0‖², that is min(1, cap/SNR) on ‖ε − ε̂‖² (Hang et al. 2023).

    Args:
        cap: the published "γ"; positive.
    """

    def __init__(self, reference: NoiseSchedule, cap: float = 5.0) -> None:
        super().__init__(reference)
        if not cap > 0:
            raise InvalidInput(f"cap must be positive, got {cap}: 5 is the published value")
        self.cap = float(cap)

    def factor(self, gamma: Tensor) -> Tensor:
        return (self.cap / snr(gamma)).clamp(max=1)


class P2Objective(ReferencedObjective):
    """(k + SNR)^{−power} on ‖ε − ε̂‖² (Choi et al. 2022).

    Args:
        k: positive.
        power: the published "γ"; 0 is the simple objective.
    """

    def __init__(self, reference: NoiseSchedule, k: float = 1.0, power: float = 1.0) -> None:
        super().__init__(reference)
        if not k > 0:
            raise InvalidInput(f"k must be positive, got {k}: 1 is the published value")
        finite(power=power)
        self.k, self.power = float(k), float(power)

    def factor(self, gamma: Tensor) -> Tensor:
        return (self.k + snr(gamma)) ** -self.power


class SigmoidObjective(Objective):
    """w = sigmoid(γ + bias): falls off as 1/SNR where there is little noise (Kingma & Gao 2023, with bias 2).

    Args:
        bias: larger values weigh lower noise levels more.
    """

    def __init__(self, bias: float = 2.0) -> None:
        super().__init__()
        finite(bias=bias)
        self.bias = float(bias)

    def weight(self, gamma: Tensor) -> Tensor:
        return torch.sigmoid(gamma + self.bias)


class EDMObjective(Objective):
    """½ E (σ̃² + s²)/(σ̃ s)² ‖x̂_0 − x_0‖² over log σ̃ ~ N(mean, std²), cut to the schedule's range (Karras et al. 2022).

    σ̃ = e^{γ/2} is the noise scale relative to unscaled data, so ‖x̂_0 − x_0‖² = σ̃² ‖ε − ε̂‖² and dlog σ̃ = ½ dγ. The density
    of σ̃ is part of w = ½ N(log σ̃; mean, std²) (1 + σ̃²/s²), and t stays uniform.

    Args:
        sigma_data: s, the data's standard deviation on the (−1, 1) scale; positive.
        mean, std: of log σ̃.
    """

    def __init__(self, sigma_data: float, mean: float = -1.2, std: float = 1.2) -> None:
        super().__init__()
        if not (sigma_data > 0 and std > 0):
            raise InvalidInput(f"sigma_data and std must be positive, got sigma_data={sigma_data} std={std}")
        finite(sigma_data=sigma_data, mean=mean, std=std)
        self.sigma_data, self.mean, self.std = float(sigma_data), float(mean), float(std)

    def weight(self, gamma: Tensor) -> Tensor:
        z = (gamma / 2 - self.mean) / self.std
        density = torch.exp(-0.5 * z.square()) / (self.std * math.sqrt(2 * math.pi))
        return 0.5 * density * (1 + torch.exp(gamma) / self.sigma_data**2)
