"""Dequantisation: from the data's values to the latent x_1 at γ_min, whose density the probability flow gives.

The bin of level k reaches to the midpoints between its value and its neighbours', scaled to x_1: √ᾱ_1 v_k ± √ᾱ_1/K. Bins
do not overlap, so P(k) = ∫_bin p(x_1) dx_1 sums to at most one, and for any q(x_1 | k) supported on the bin

    log P(k) ≥ E_q [log p(x_1) − log q(x_1 | k)].
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput, at_least
from vdm.gamma import align, alpha_bar, sigma2, sum_event
from vdm.likelihoods import LevelLikelihood, Likelihood


class Dequantisation(ABC):
    """A distribution q(x_1 | x) of the latent at γ_min given the data, and K, the ``samples`` of it in one estimate."""

    samples: int = 1

    def check(self, likelihood: Likelihood) -> None:
        """Raise InvalidInput if the data are not integer levels."""
        half_bin(likelihood)

    @abstractmethod
    def __call__(self, likelihood: Likelihood, x: Tensor, gamma_1: Tensor, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
        """Return a draw x_1 (B, *event) and log q(x_1 | x) (B,) in nats, for data ``x`` in its own units.

        Raises:
            InvalidInput: see ``check``.
        """


class UniformDequantisation(Dequantisation):
    """Uniform on the bin: log q = −D log(2√ᾱ_1/K). With x̃ = x_1/√ᾱ_1 the bound is E log p(x̃) + D log(2/K)."""

    def __call__(self, likelihood: Likelihood, x: Tensor, gamma_1: Tensor, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
        x_0, half = likelihood.encode(x), half_bin(likelihood)
        signal = align(alpha_bar(gamma_1).sqrt(), x_0)
        offset = 2 * uniform(draws, x_0) - 1
        return signal * (x_0 + half * offset), -sum_event((2 * half * signal).log().expand_as(x_0))


class TruncatedNormalDequantisation(Dequantisation):
    """N(√ᾱ_1 v_k, σ_1²) truncated to the bin: the forward process's own noise, on which the model was trained."""

    def __call__(self, likelihood: Likelihood, x: Tensor, gamma_1: Tensor, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
        x_0, half = likelihood.encode(x), half_bin(likelihood)
        signal, noise = align(alpha_bar(gamma_1).sqrt(), x_0), align(sigma2(gamma_1).sqrt(), x_0)
        mass = torch.erf(half * signal / noise / math.sqrt(2)).expand_as(x_0)
        eps = math.sqrt(2) * torch.erfinv((2 * uniform(draws, x_0) - 1) * mass)
        log_q = -0.5 * eps.square() - 0.5 * math.log(2 * math.pi) - noise.log() - mass.log()
        return signal * x_0 + noise * eps, sum_event(log_q)


class SeveralDequantisations(Dequantisation):
    """K draws of another dequantisation for one estimate: log P(x) ≥ E log (1/K) Σ_k p(x_1^k)/q(x_1^k | x).

    The bound rises with K to log P(x) (Burda et al. 2016; for flows, Zheng et al. 2023, arXiv 2305.03935).

    Args:
        dequantisation: q(x_1 | x).
        samples: K.
    """

    def __init__(self, dequantisation: Dequantisation, samples: int) -> None:
        at_least(1, samples=samples)
        self.dequantisation, self.samples = dequantisation, int(samples)

    def check(self, likelihood: Likelihood) -> None:
        self.dequantisation.check(likelihood)

    def __call__(self, likelihood: Likelihood, x: Tensor, gamma_1: Tensor, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
        return self.dequantisation(likelihood, x, gamma_1, draws)


class NoDequantisation(Dequantisation):
    """For real-valued data: x_1 = √ᾱ_1 x, and log q = −D/2 log ᾱ_1 converts the density of x_1 to that of x_1/√ᾱ_1."""

    def check(self, likelihood: Likelihood) -> None:
        """Raise InvalidInput if the data are integer levels."""
        if isinstance(likelihood, LevelLikelihood):
            raise InvalidInput(
                "the data are levels, whose density is infinite: use dequantisation=truncated_normal or uniform"
            )

    def __call__(self, likelihood: Likelihood, x: Tensor, gamma_1: Tensor, draws: AbstractDraws) -> tuple[Tensor, Tensor]:
        self.check(likelihood)
        x_0 = likelihood.encode(x)
        signal = align(alpha_bar(gamma_1).sqrt(), x_0)
        return signal * x_0, -sum_event(signal.log().expand_as(x_0))


def half_bin(likelihood: Likelihood) -> float:
    """Return half the distance between levels; raise InvalidInput for a likelihood of real numbers."""
    if not isinstance(likelihood, LevelLikelihood):
        raise InvalidInput("the data are real numbers and need no dequantisation: use dequantisation=none")
    return 0.5 / likelihood.scale.density


def uniform(draws: AbstractDraws, like: Tensor) -> Tensor:
    """Draw U(0, 1) for every dimension, shaped like ``like``; the draw is called ``dequantise``."""
    return torch.special.ndtr(draws.normal("dequantise", like))
