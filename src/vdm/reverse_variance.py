"""The variance of the reverse kernel p_θ(x_s | x_t) as a part: the posterior's, β_t, or the analytically optimal one.

A network's own is ``LearnedVarianceParameterisation``. A reverse kernel with the posterior's variance σ_q² = (1 − ᾱ_s) c
(1.89) is :class:`vdm.denoiser.Denoiser` alone. The others matter at a finite number of steps only: as T → ∞ every one for
which the bound is finite tends to σ_q².
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vdm.bound import Denoise
from vdm.denoiser import with_condition
from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.gamma import event_dims, interpolate, snr_difference, sum_event
from vdm.parameterisations import DISCRETE_ONLY, Prediction, VariedPrediction, large_log_ratio
from vdm.process import q_sample


class ReverseVariance(ABC):
    """σ_p² by the noise levels alone."""

    @abstractmethod
    def log_ratio(self, gamma_s: Tensor, gamma_t: Tensor) -> Tensor:
        """Return log(σ_p²/σ_q²), of γ's shape."""


class PosteriorReverseVariance(ReverseVariance):
    """σ_q² itself: "small"."""

    def log_ratio(self, gamma_s: Tensor, gamma_t: Tensor) -> Tensor:
        return torch.zeros_like(gamma_t)


class LargeReverseVariance(ReverseVariance):
    """β_t, the variance of q(x_t | x_s): the optimum for data of unit variance (Ho et al. 2020, section 3.2)."""

    def log_ratio(self, gamma_s: Tensor, gamma_t: Tensor) -> Tensor:
        return large_log_ratio(gamma_s, gamma_t)


class OptimalReverseVariance(ReverseVariance):
    """σ_q² + ᾱ_s c² E‖x̂_0(x_t) − x_0‖²/D, of all isotropic variances the one with the best bound (Bao et al. 2022).

    Over σ_q² it is 1 + (SNR(s) − SNR(t)) e(γ_t), with e the mean squared error a dimension.

    Args:
        gammas: noise levels, increasing.
        errors: e at these, positive; its log is interpolated linearly, and constant beyond the ends.

    Raises:
        InvalidInput: a table of another form.
    """

    def __init__(self, gammas: Sequence[float], errors: Sequence[float]) -> None:
        self.gammas, self.errors = (torch.tensor(list(values), dtype=torch.float64) for values in (gammas, errors))
        increasing = len(self.gammas) == len(self.errors) > 0 and bool((self.gammas.diff() > 0).all())
        if not (increasing and bool((self.errors > 0).all()) and bool(torch.isfinite(self.errors).all())):
            raise InvalidInput(
                "an optimal variance needs increasing gammas, with one positive error each: measure both again"
            )

    def log_ratio(self, gamma_s: Tensor, gamma_t: Tensor) -> Tensor:
        error = interpolate(self.gammas.to(gamma_t), self.errors.log().to(gamma_t), gamma_t).exp()
        return torch.log1p(snr_difference(gamma_s, gamma_t) * error)

    @classmethod
    def measured(
        cls, denoise: Denoise, gammas: Sequence[Tensor], x_0: Tensor, draws: AbstractDraws
    ) -> "OptimalReverseVariance":
        """Return the variance for the errors of ``denoise`` on encoded examples x_0 (N, *event), not those of the test.

        Args:
            gammas: γ at each latent, (N,) each: ``DiscreteTime.gammas``.
            draws: noise by the names ``x_1`` … ``x_T``.
        """
        errors = []
        for number, gamma_t in enumerate(gammas, 1):
            x_t = q_sample(x_0, draws.normal(f"x_{number}", x_0), gamma_t)
            error = sum_event((denoise(x_t, gamma_t).x_0 - x_0).square()).double().mean() / event_dims(x_0)
            errors.append(error.item())
        return cls([gamma_t[0].item() for gamma_t in gammas], errors)


class VarianceDenoiser(nn.Module):
    """A denoiser with a reverse variance; discrete time only.

    Args:
        denoiser: any ``denoise(x_t, gamma_t) -> Prediction``.
        variance: σ_p².
    """

    discrete_only = DISCRETE_ONLY

    def __init__(self, denoiser: Denoise, variance: ReverseVariance) -> None:
        super().__init__()
        self.denoiser, self.variance = denoiser, variance

    def forward(self, x_t: Tensor, gamma_t: Tensor) -> Prediction:
        return VariedPrediction.of(self.denoiser(x_t, gamma_t), self.variance.log_ratio)

    def with_condition(self, condition: Tensor | None) -> Denoise:
        """Return the denoiser with its condition bound."""
        denoise = with_condition(self.denoiser, condition)
        return lambda x_t, gamma_t: VariedPrediction.of(denoise(x_t, gamma_t), self.variance.log_ratio)
