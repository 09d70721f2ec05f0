"""The sampler interface, and the loop from noise to data."""

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
from vdm.process import FORWARD, ForwardProcess
from vdm.samplers.guidance import Guidance, NoGuidance
from vdm.samplers.spacing import Spacing, TimeSpacing
from vdm.schedules import NoiseSchedule


class Latent(NamedTuple):
    """x_t (B, *event) on its way from t = 1 to t = 0, with its γ_t, (B,) or (B, *event)."""

    x_t: Tensor
    gamma_t: Tensor


class PreviousStep(NamedTuple):
    """The denoiser's output one step earlier: the memory of a multistep sampler."""

    prediction: Prediction
    gamma_t: Tensor


class Step(NamedTuple):
    """One step from the noisier time t to the cleaner time s.

    x_t: (B, *event). gamma_s, gamma_t: (B,) or (B, *event). prediction: the denoiser's output at (x_t, γ_t). noise: draws
    standard normals like x_t; a deterministic sampler does not call it. previous: None at the first step. process: q.
    """

    x_t: Tensor
    gamma_s: Tensor
    gamma_t: Tensor
    prediction: Prediction
    noise: Callable[[], Tensor]
    previous: PreviousStep | None = None
    process: ForwardProcess = FORWARD


class Sampler(ABC):
    """A rule that takes x_t to x_s."""

    @abstractmethod
    def step(self, denoise: Denoise, step: Step) -> Tensor:
        """Return x_s, (B, *event); ``denoise`` is for rules that call the denoiser a second time."""


@dataclass(frozen=True)
class Sampling:
    """Sampling settings: a rule, a grid of times, the number of steps in continuous time, and guidance.

    Raises:
        InvalidInput: ``steps`` below 1 or above ten million.
    """

    sampler: Sampler
    spacing: Spacing = field(default_factory=TimeSpacing)
    steps: int = 250
    guidance: Guidance = field(default_factory=NoGuidance)

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_most(steps=self.steps)


def trajectory(
    sampling: Sampling,
    schedule: NoiseSchedule,
    denoise: Denoise,
    x_T: Tensor,
    draws: AbstractDraws,
    process: ForwardProcess = FORWARD,
) -> Iterator[Latent]:
    """Yield the latent at t = 1, then one after each step down to t = 0: ``sampling.steps`` + 1 latents."""
    grid = sampling.spacing.times(schedule.shared, sampling.steps, x_T.device)
    latent = Latent(x_T, schedule(grid[0].expand(len(x_T))))
    previous: PreviousStep | None = None
    yield latent
    for number, s in enumerate(grid[1:], 1):
        x_t, gamma_t = latent
        gamma_s = schedule(s.expand(len(x_t)))
        prediction = denoise(x_t, gamma_t)
        noise = partial(draws.normal, f"step_{number}", x_t)
        x_s = sampling.sampler.step(denoise, Step(x_t, gamma_s, gamma_t, prediction, noise, previous, process))
        latent, previous = Latent(x_s, gamma_s), PreviousStep(prediction, gamma_t)
        yield latent
