"""The three terms of the bound (1.62), one function each, and discrete and continuous time.

``denoise`` is any function (x_t, γ_t) ↦ Prediction.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from vdm.batch import repeat_batch
from vdm.bound import Denoise
from vdm.draws import AbstractDraws, scalar_dtype
from vdm.errors import InvalidInput, at_most
from vdm.gamma import align, snr, snr_difference, sum_event
from vdm.given import Given
from vdm.likelihoods import Likelihood
from vdm.parameterisations import DISCRETE_ONLY, Prediction, VariedPrediction
from vdm.process import FORWARD, ForwardProcess, q_sample, standard_normal
from vdm.schedules import NoiseSchedule, endpoint_gradients_only, path_variance_loss


def prior_matching(x_0: Tensor, gamma_T: Tensor, process: ForwardProcess = FORWARD) -> Tensor:
    """Return KL(q(x_T | x_0) ‖ N(0, I)), the second term of (1.62), (B,) in nats."""
    return kl_divergence(process.marginal(x_0, gamma_T), standard_normal(x_0))


def reconstruction(
    likelihood: Likelihood,
    x: Tensor,
    x_0: Tensor,
    eps: Tensor,
    gamma_1: Tensor,
    denoise: Denoise,
    process: ForwardProcess = FORWARD,
) -> Tensor:
    """Return log p(x | x_1) at x_1 = q_sample(x_0, eps, γ_1), one draw of the first term of (1.62), (B,) in nats.

    Args:
        x: (B, *event), the data in its own units.
        x_0: ``likelihood.encode(x)``.
    """
    return likelihood.log_prob(x, q_sample(x_0, eps, gamma_1, process), gamma_1, denoise)


def weighted_error(x_0: Tensor, x_hat: Tensor, weight: Tensor) -> Tensor:
    """Return ½ Σ_dims weight · (x̂_0 − x_0)², (B,), a sum of squares without a root; weight is (B,) or (B, *event)."""
    error = (x_hat - x_0).square()
    if weight.ndim == 1:
        return 0.5 * weight * sum_event(error)
    return 0.5 * sum_event(weight * error)


def denoising_kl(x_0: Tensor, x_hat: Tensor, gamma_s: Tensor, gamma_t: Tensor, log_ratio: Tensor | None = None) -> Tensor:
    """Return KL(q(x_s | x_t, x_0) ‖ p_θ(x_s | x_t)), (B,) in nats.

    It is ½ (SNR(s) − SNR(t)) ‖x̂_0 − x_0‖², (1.104), if p_θ has the posterior's variance; see ``variance_kl`` otherwise.
    """
    weight = snr_difference(gamma_s, gamma_t)
    if log_ratio is None:
        return weighted_error(x_0, x_hat, weight)
    return sum_event(variance_kl(x_0, x_hat, weight, log_ratio))


def variance_kl(x_0: Tensor, x_hat: Tensor, weight: Tensor, log_ratio: Tensor, steps: int = 1) -> Tensor:
    """Return ½ [e^{−ρ} weight (x̂_0 − x_0)² + steps (ρ + e^{−ρ} − 1)], (B, *event): a denoising KL with another variance.

    ρ = ``log_ratio`` = log(σ_p²/σ_q²), (B,) or (B, *event), is the log of p_θ's variance over the posterior's (1.89); weight
    is ``steps`` (SNR(s) − SNR(t)), ``steps`` times the squared distance of the two means for x̂_0 − x_0 = 1 over σ_q².
    """
    error = align(torch.exp(-log_ratio), x_0) * align(weight, x_0) * (x_hat - x_0).square()
    return 0.5 * (error + align(steps * (log_ratio + torch.expm1(-log_ratio)), x_0))


class GammaAndWeight(NamedTuple):
    """γ_t at one time for each row, the weight of ½ ‖x̂_0 − x_0‖² there, and γ_s; each (B,) or (B, *event).

    γ_s is that of the latent before, None in continuous time.
    """

    gamma_t: Tensor
    weight: Tensor
    gamma_s: Tensor | None = None


class Time(ABC):
    """The distribution of the denoising term over time; ``str`` gives the number of latents."""

    @abstractmethod
    def gamma_and_weight(self, schedule: NoiseSchedule, u: Tensor) -> GammaAndWeight:
        """Return γ_t and a weight for u ~ U[0, 1), (B,): E ½ weight ‖x̂_0(x_t) − x_0‖² is the third term of (1.62)."""

    def spread(self, prediction: Prediction, gamma_s: Tensor | None, gamma_t: Tensor) -> "Spread | None":
        """Return the reverse variance of a step of discrete time, None if it is the posterior's.

        Raises:
            InvalidInput: another variance in continuous time.
        """
        if isinstance(prediction, VariedPrediction):
            raise InvalidInput(DISCRETE_ONLY)
        return None

    @abstractmethod
    def variance_loss(self, schedule: NoiseSchedule, u: Tensor, estimate: Tensor) -> Tensor:
        """Return zero, (B,), with the loss variance's gradient for a learned path; ``estimate`` (B,) is the loss at u.

        Kingma et al. 2021, appendix I.
        """


class DiscreteTime(Time):
    """T latents x_1 … x_T, at t = 0, 1/(T−1), …, 1; the denoising term has T − 1 summands.

    The bound depends on γ at all of these times, and trains a learned γ there. Kingma et al. (2021) count the steps between
    latents: their "T = 1000" is ``timesteps=1001``.

    Args:
        timesteps: T, from 2 to ten million.
        times: of the latents, T numbers that increase from 0 to 1; even by default.

    Raises:
        InvalidInput: another T, or times that are not T increasing ones from 0 to 1.
    """

    def __init__(self, timesteps: int, times: Sequence[float] | None = None) -> None:
        if timesteps < 2 or timesteps != int(timesteps):
            raise InvalidInput(
                f"timesteps counts the latents x_1 … x_T and must be a whole number of at least 2, got {timesteps}: with "
                "one latent there is no denoising step"
            )
        at_most(timesteps=timesteps)
        self.timesteps = int(timesteps)
        self.times = None if times is None else torch.tensor([*times], dtype=torch.float64)
        if self.times is not None and not (
            len(self.times) == timesteps and self.times[0] == 0 and self.times[-1] == 1 and (self.times.diff() > 0).all()
        ):
            raise InvalidInput(f"times must be {timesteps} numbers that increase from 0 to 1: leave them out for even times")

    def __str__(self) -> str:
        return str(self.timesteps)

    @property
    def steps(self) -> int:
        """T − 1, the steps between latents."""
        return self.timesteps - 1

    def ends(self, schedule: NoiseSchedule, i: Tensor) -> tuple[Tensor, Tensor]:
        """Return (γ_s, γ_t) of step i = 1 … T − 1, from latent i to latent i + 1."""
        return schedule(self._time(i - 1)), schedule(self._time(i))

    def gammas(self, schedule: NoiseSchedule, like: Tensor) -> list[Tensor]:
        """Return γ at the latents x_1 … x_T for the rows of ``like``, each (B,) or (B, *event)."""
        return [self.gamma(schedule, i, like) for i in range(1, self.timesteps + 1)]

    def gamma(self, schedule: NoiseSchedule, i: int, like: Tensor) -> Tensor:
        """Return γ at latent x_i, i = 1 … T, for the rows of ``like``: (B,) or (B, *event)."""
        number = torch.full((len(like),), i - 1, dtype=scalar_dtype(like.device), device=like.device)
        return schedule(self._time(number))

    def _time(self, step: Tensor) -> Tensor:
        """Return the time after ``step`` = 0 … T − 1 steps."""
        if self.times is None:
            return step / self.steps
        return self.times.to(step)[step.long()]

    def gamma_and_weight(self, schedule: NoiseSchedule, u: Tensor) -> GammaAndWeight:
        i = 1 + (u * self.steps).floor().clamp(max=self.steps - 1)
        gamma_s, gamma_t = self.ends(schedule, i)
        return GammaAndWeight(gamma_t, self.steps * snr_difference(gamma_s, gamma_t), gamma_s)

    def spread(self, prediction: Prediction, gamma_s: Tensor | None, gamma_t: Tensor) -> "Spread | None":
        log_ratio = None if gamma_s is None else prediction.log_variance_ratio(gamma_s, gamma_t)
        return None if log_ratio is None else Spread(log_ratio, self.steps)

    def variance_loss(self, schedule: NoiseSchedule, u: Tensor, estimate: Tensor) -> Tensor:
        return torch.zeros_like(estimate)


class ContinuousTime(Time):
    """T → ∞: the denoising term is ½ ∫ γ′(t) SNR(t) E‖x̂_0 − x_0‖² dt (Kingma et al. 2021, section 5).

    The bound trains the ends of a learned scalar γ, and the variance of the loss trains the path between them.
    """

    def __str__(self) -> str:
        return "∞"

    def gamma_and_weight(self, schedule: NoiseSchedule, u: Tensor) -> GammaAndWeight:
        gamma_t, rate = endpoint_gradients_only(schedule, u)
        return GammaAndWeight(gamma_t, rate * snr(gamma_t))

    def variance_loss(self, schedule: NoiseSchedule, u: Tensor, estimate: Tensor) -> Tensor:
        return path_variance_loss(schedule, u, estimate)


class OneTimeEstimate(NamedTuple):
    """The denoising term of (1.62) at one time for each example.

    u, density: (B,), the uniform number behind the time, and its density. gamma_t, weight: see ``GammaAndWeight``.
    x_0, x_hat: (B, *event), the data and x̂_0(x_t), as the process compares them.
    """

    u: Tensor
    density: Tensor
    gamma_t: Tensor
    weight: Tensor
    x_0: Tensor
    x_hat: Tensor
    spread: "Spread | None" = None

    def matching(self, w: Tensor | None = None) -> Tensor:
        """Return w times the KL at this time over its probability, (B,) in nats: one draw of (1.62)'s third term for w = 1.

        It is ½ w weight ‖x̂_0 − x_0‖² / density, and ``variance_kl`` for another reverse variance than the posterior's.
        """
        if self.spread is None:
            return self.squared_error(w)
        kl = variance_kl(self.x_0, self.x_hat, self.weight, self.spread.log_ratio, self.spread.steps)
        return sum_event(kl if w is None else align(w, kl) * kl) / self.density

    def squared_error(self, w: Tensor | None = None) -> Tensor:
        """Return ½ w weight ‖x̂_0 − x_0‖² / density, (B,): what ``matching`` is with the posterior's variance."""
        weight = self.weight if w is None else w * self.weight
        return weighted_error(self.x_0, self.x_hat, weight) / self.density

    def without_mean_gradient(self) -> "OneTimeEstimate":
        """Return the same estimate, with gradients to the reverse variance only."""
        return self._replace(x_hat=self.x_hat.detach())


class Spread(NamedTuple):
    """log(σ_p²/σ_q²) of the reverse variance over the posterior's, (B,) or (B, *event), and the number of steps T − 1."""

    log_ratio: Tensor
    steps: int


def one_time_estimate(time: Time, given: Given, x_0: Tensor, eps: Tensor, u: Tensor, density: Tensor) -> OneTimeEstimate:
    """Call the denoiser once an example, at the time of ``u`` (B,) and at x_t made with ``eps`` by (1.72)."""
    (gamma_t, weight, gamma_s), q = time.gamma_and_weight(given.schedule, u), given.process
    prediction = given.denoise(q_sample(x_0, eps, gamma_t, q), gamma_t)
    target, estimate = q.target(x_0, gamma_s, gamma_t), q.estimate(prediction.x_0, gamma_s, gamma_t)
    return OneTimeEstimate(u, density, gamma_t, weight, target, estimate, time.spread(prediction, gamma_s, gamma_t))


def all_timestep_kls(time: DiscreteTime, given: Given, x_0: Tensor, draws: AbstractDraws, rows: int) -> Tensor:
    """Return all summands of (1.62)'s third term, t = 2 … T, from one draw of x_t for each: (B, T − 1) in nats.

    Args:
        rows: the most (example, t) pairs in one call of the denoiser.
    """
    several = max(1, rows // len(x_0))
    columns = []
    for first in range(1, time.timesteps, several):
        numbers = range(first, min(first + several, time.timesteps))
        i = torch.tensor(numbers, dtype=scalar_dtype(x_0.device), device=x_0.device).repeat_interleave(len(x_0))
        several_given = given.copies(len(numbers))
        (gamma_s, gamma_t), q = time.ends(several_given.schedule, i), given.process
        eps = torch.cat([draws.normal(f"x_{number + 1}", x_0) for number in numbers])
        copies = repeat_batch(x_0, len(numbers))
        prediction = several_given.denoise(q_sample(copies, eps, gamma_t, q), gamma_t)
        target, estimate = q.target(copies, gamma_s, gamma_t), q.estimate(prediction.x_0, gamma_s, gamma_t)
        kls = denoising_kl(target, estimate, gamma_s, gamma_t, prediction.log_variance_ratio(gamma_s, gamma_t))
        columns.append(kls.view(len(numbers), len(x_0)).T)
    return torch.cat(columns, 1)
