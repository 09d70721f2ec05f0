"""The law of samplers: with the ideal denoiser they draw the data."""

import torch
from torch import Tensor

from vdm.draws import AbstractDraws, Draws
from vdm.gamma import align, alpha_bar, sigma2
from vdm.laws.law import require
from vdm.parameterisations import Prediction
from vdm.samplers import Sampler, Sampling, TimeSpacing, trajectory
from vdm.schedules import LinearSchedule

MEAN, VARIANCE = 0.4, 0.25
ENDS = (-4.0, 5.0)
STEPS = 300
TOLERANCE = 0.05
"""Of mean and variance; a rule of order one is within 0.025 at ``STEPS`` steps."""


def check_sampler(sampler: Sampler) -> None:
    """Hold a sampler to mean and variance of the latent x_1 of N(0.4, ¼), with its ideal denoiser, from exact x_T.

    That denoiser is affine, and so is every step in x_t and its noise. One row for each noise, with all others zero, then
    gives mean and variance without Monte-Carlo error. A sampler that brings its own random numbers is held to the moments
    of 4,096 draws.
    """
    ends = torch.tensor(ENDS, dtype=torch.float64)
    due, start = (alpha_bar(gamma) * VARIANCE + sigma2(gamma) for gamma in ends)
    first, zero = alpha_bar(ends[1]).sqrt() * MEAN, torch.zeros(STEPS + 3, 1, dtype=torch.float64)
    one = zero.clone()
    one[2] = start.sqrt()
    rows = _last(sampler, first + one, _OneStepEach())
    if torch.equal(rows[0], rows[1]):
        mean, variance = rows[0].item(), (rows[2:] - rows[0]).square().sum().item()
        slack = 0.0
    else:
        even = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
        rows = _last(sampler, first + start.sqrt() * torch.special.ndtri(even)[:, None], Draws(0))
        mean, variance, slack = rows.mean().item(), rows.var().item(), 0.07
    centre = (alpha_bar(ends[0]).sqrt() * MEAN).item()
    what = "with the ideal denoiser of a Gaussian its samples have the"
    require(abs(mean - centre) <= TOLERANCE + slack, f"{what} mean {mean:.4g}, but the data {centre:.4g}")
    require(
        abs(variance / due.item() - 1) <= TOLERANCE + slack,
        f"{what} variance {variance:.4g}, but the data {due.item():.4g}",
    )


class _OneStepEach(AbstractDraws):
    """Noise one in row k + 2 at step k, and zero elsewhere."""

    def normal(self, name: str, like: Tensor) -> Tensor:
        noise = torch.zeros_like(like)
        noise[int(name.removeprefix("step_")) + 2] = 1
        return noise

    def uniform(self, name: str, like: Tensor) -> Tensor:
        return Draws(0).uniform(name, like)

    stratified = uniform


def _last(sampler: Sampler, x_T: Tensor, draws: AbstractDraws) -> Tensor:
    sampling = Sampling(sampler, TimeSpacing(), STEPS)
    *_, last = trajectory(sampling, LinearSchedule(*ENDS), _ideal, x_T, draws)
    return last.x_t


def _ideal(x_t: Tensor, gamma_t: Tensor) -> Prediction:
    signal2, noise2 = align(alpha_bar(gamma_t), x_t), align(sigma2(gamma_t), x_t)
    gain = signal2.sqrt() * VARIANCE / (signal2 * VARIANCE + noise2)
    return Prediction.from_x_0(MEAN + gain * (x_t - signal2.sqrt() * MEAN), x_t, gamma_t)
