"""From noise to data: what a sampler is, and the loop, once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from torch import Tensor

from vdm.bound import Denoise
from vdm.draws import AbstractDraws
from vdm.errors import at_least, at_most
from vdm.parameterisations import Prediction
from vdm.samplers.spacing import Spacing, TimeSpacing
from vdm.schedules import NoiseSchedule


class Latent(NamedTuple):
    """x_t (B, *event) on its way from t = 1 to t = 0, with its γ_t, (B,) or (B, *event)."""

    x_t: Tensor
    gamma_t: Tensor


class Seen(NamedTuple):
    """What the denoiser said at a noise level: the memory of a multistep sampler."""

    prediction: Prediction
    gamma_t: Tensor


class Step(NamedTuple):
    """One step from the noisier time t to the cleaner time s.

    x_t: (B, *event). gamma_s, gamma_t: (B,) or (B, *event). prediction: the denoiser's at (x_t, γ_t). noise: draws
    standard normals like x_t; a deterministic sampler does not call it. before: what the step before this one saw; None at
    the first.
    """

    x_t: Tensor
    gamma_s: Tensor
    gamma_t: Tensor
    prediction: Prediction
    noise: Callable[[], Tensor]
    before: Seen | None = None


class Sampler(ABC):
    """A rule that carries x_t to x_s."""

    @abstractmethod
    def step(self, denoise: Denoise, step: Step) -> Tensor:
        """x_s, shape (B, *event); ``denoise`` is for rules that look at a second place."""


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn: a rule, a grid, and how many steps where time is continuous.

    Raises:
        InvalidInput: no steps, or more than anybody takes.
    """

    sampler: Sampler
    spacing: Spacing = field(default_factory=TimeSpacing)
    steps: int = 250

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_most(steps=self.steps)


def trajectory(
    sampling: Sampling, schedule: NoiseSchedule, denoise: Denoise, x_T: Tensor, draws: AbstractDraws
) -> Iterator[Latent]:
    """Yields the latent at t = 1, then after each step down to t = 0: ``sampling.steps`` + 1 latents."""
    grid = sampling.spacing.times(schedule, sampling.steps, x_T.device)
    latent = Latent(x_T, schedule(grid[0].expand(len(x_T))))
    before: Seen | None = None
    yield latent
    for number, s in enumerate(grid[1:], 1):
        x_t, gamma_t = latent
        gamma_s = schedule(s.expand(len(x_t)))
        seen = Seen(denoise(x_t, gamma_t), gamma_t)
        noise = partial(draws.normal, f"step_{number}", x_t)
        x_s = sampling.sampler.step(denoise, Step(x_t, gamma_s, gamma_t, seen.prediction, noise, before))
        latent, before = Latent(x_s, gamma_s), seen
        yield latent
