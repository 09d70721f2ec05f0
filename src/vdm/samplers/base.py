"""From noise to data: what a sampler is, and the loop, once."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.bound import Denoise
from vdm.draws import AbstractDraws, scalar_dtype
from vdm.errors import InvalidInput
from vdm.schedules import NoiseSchedule


class Step(NamedTuple):
    """One step from the noisier time t to the cleaner time s: x_t (B, *event), γ's (B,), ``noise`` like x_t."""

    x_t: Tensor
    gamma_s: Tensor
    gamma_t: Tensor
    noise: Tensor


class Sampler(ABC):
    """A rule that carries x_t to x_s."""

    @abstractmethod
    def step(self, denoise: Denoise, step: Step) -> Tensor:
        """x_s, shape (B, *event)."""


def trajectory(
    sampler: Sampler, schedule: NoiseSchedule, denoise: Denoise, x_T: Tensor, steps: int, draws: AbstractDraws
) -> Iterator[Tensor]:
    """Yields x_t at t = 1, then after each of ``steps`` equal steps in t down to t = 0: ``steps`` + 1 tensors.

    Raises:
        InvalidInput: steps < 1.
    """
    if steps < 1:
        raise InvalidInput(f"steps must be at least 1, got {steps}")
    grid = torch.linspace(1, 0, steps + 1, dtype=scalar_dtype(x_T.device), device=x_T.device)
    x_t = x_T
    yield x_t
    for i in range(steps):
        gamma_t, gamma_s = (schedule(t.expand(len(x_t))) for t in (grid[i], grid[i + 1]))
        x_t = sampler.step(denoise, Step(x_t, gamma_s, gamma_t, draws.normal(f"step_{i + 1}", x_t)))
        yield x_t
