"""Where a codec's T latents lie in γ, so that the bound at T is close to the bound at T = ∞.

The bound at T is the left Riemann sum of ∫ ½ e(γ) dSNR, with e = E‖x̂_0 − x_0‖² at the noisier end of each step. A step of
length Δγ costs ¼ SNR e′(γ) Δγ² more than the integral. With ρ latents per unit of γ the excess is ∫ ¼ SNR e′/ρ dγ, which
for a given T = 1 + ∫ ρ is least at ρ ∝ √(SNR e′), where it is ¼ (∫ √(SNR e′) dγ)²/(T − 1); Cauchy–Schwarz. In terms of
the profile over γ, m = ½ SNR e, the bound per unit of γ: SNR e′ = 2 (m + m′).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vdm.denoiser import with_condition
from vdm.draws import Draws
from vdm.elbo import DiscreteTime
from vdm.errors import at_least, at_most
from vdm.gamma import event_mean, snr
from vdm.models import DiffusionModel
from vdm.process import q_sample
from vdm.schedules import NoiseSchedule, time_of

Density = str
"""Latents per unit of γ in equal parts of its range, up to a common factor: a hexadecimal digit k a part stands for 2^(k/2).
Empty for latents even in t."""

DIGITS = "0123456789abcdef"


class Grid(ABC):
    """A choice of where the latents lie."""

    @abstractmethod
    def density(self, model: DiffusionModel, x: Tensor, condition: Tensor | None) -> Density:
        """Return the density of latents for a prepared model, given examples x (B, *event)."""


class EvenInTime(Grid):
    """The times of the model's own discrete chain."""

    def density(self, model: DiffusionModel, x: Tensor, condition: Tensor | None) -> Density:
        return ""


class EvenInGamma(Grid):
    """The same noise levels for every schedule with the same ends."""

    def density(self, model: DiffusionModel, x: Tensor, condition: Tensor | None) -> Density:
        return "0"


class LeastExcess(Grid):
    """ρ ∝ √(SNR e′), with e(γ) measured on the examples at the edges of equal parts of γ's range.

    Args:
        parts: of γ's range; the file holds a digit for each.
        examples: the most examples that are measured.

    Raises:
        InvalidInput: fewer than one of either.
    """

    def __init__(self, parts: int = 24, examples: int = 32) -> None:
        at_least(1, parts=parts, examples=examples)
        at_most(1000, parts=parts)
        self.parts, self.examples = parts, examples

    @torch.no_grad()
    def density(self, model: DiffusionModel, x: Tensor, condition: Tensor | None) -> Density:
        x_0 = model.likelihood.encode(x[: self.examples].double())
        denoise = with_condition(model.denoiser, None if condition is None else condition[: self.examples])
        times = edges(model.schedule, self.parts)
        eps = Draws(0).normal("x_t", x_0)
        errors, levels = [], []
        for t in times:
            gamma = model.schedule(t.expand(len(x_0)))
            x_hat = denoise(q_sample(x_0, eps, gamma), gamma).x_0
            errors.append((x_hat - x_0).square().mean())
            levels.append(event_mean(gamma)[0])
        e, gamma = torch.stack(errors), torch.stack(levels)
        rate = (snr((gamma[1:] + gamma[:-1]) / 2) * e.diff() / gamma.diff()).clamp(min=0).sqrt()
        digits = 15 + (2 * (rate / rate.max()).log2()).round()
        return "".join(DIGITS[int(digit)] for digit in digits.nan_to_num(15).clamp(0, 15).tolist())


def edges(schedule: NoiseSchedule, parts: int) -> Tensor:
    """Return the times at the edges of ``parts`` equal parts of γ's range, (parts + 1,), from 0 to 1."""
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    low, high = event_mean(schedule(ends))
    inner = low + (high - low) * torch.arange(1, parts, dtype=torch.float64) / parts
    return torch.cat([ends[:1], time_of(schedule, inner), ends[1:]])


@torch.no_grad()
def spaced_time(schedule: NoiseSchedule, timesteps: int, density: Density) -> DiscreteTime:
    """Return T latents with the given density over γ.

    Raises:
        InvalidInput: a T that is not a whole number of at least two latents.
    """
    by_time = DiscreteTime(timesteps)
    if not density:
        return by_time
    part = torch.tensor([DIGITS.index(digit) for digit in density], dtype=torch.float64).div(2).exp2()
    reached = torch.cat([part.new_zeros(1), part.cumsum(0) / part.sum()])
    even = torch.arange(1, timesteps - 1, dtype=torch.float64) / (timesteps - 1)
    k = (torch.searchsorted(reached, even, right=True) - 1).clamp(0, len(part) - 1)
    place = (k + (even - reached[k]) / (reached[k + 1] - reached[k])) / len(part)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    low, high = event_mean(schedule(ends))
    times = torch.cat([ends[:1], time_of(schedule, low + (high - low) * place), ends[1:]])
    return DiscreteTime(timesteps, times.tolist())
