"""A model as its codec sees it: in float64, with numbered steps and a bin width for each latent."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor

from vdm.bound import VariationalModel
from vdm.draws import Draws
from vdm.elbo import DiscreteTime
from vdm.errors import InvalidInput
from vdm.gamma import sigma2, step_fraction
from vdm.models import DiffusionModel
from vdm.models.coding import CodingStep
from vdm.models.latent import LatentModel
from vdm.schedules import NoiseSchedule

EIGHTHS = 8
"""Bin widths are powers of 2^(1/8), written as whole numbers."""

BINS = 2.0
"""Bins in the narrower standard deviation of a latent's two conditionals."""

NARROW = 0.05
"""Share of a learned latent's dimensions that may be narrower than that."""


class Chain:
    """A model in float64 and its latents' bin widths, both of which encoder and decoder share.

    Attributes:
        steps: number of ``CodingStep`` of a batch.
    """

    def __init__(self, model: LatentModel, widths: Sequence[float]) -> None:
        self.model, self.widths = model, list(widths)

    def coding_steps(self, condition: Tensor | None) -> list[CodingStep]:
        return self.model.coding_steps(condition)

    def encode(self, x: Tensor) -> Tensor:
        """Return x_0 of levels x, in float64."""
        return self.model.decoder.encode(x.double())

    def width(self, variable: int) -> float:
        """The width of z_t's bins; 1 for the data."""
        return self.widths[variable - 1] if variable else 1.0


def prepared(model: VariationalModel) -> DiffusionModel | LatentModel:
    """Return a copy of ``model`` in float64 on the CPU, in evaluation mode.

    Raises:
        InvalidInput: a model without latents in whole trajectories.
    """
    if not isinstance(model, DiffusionModel | LatentModel):
        raise InvalidInput(f"a {type(model).__name__} has no latents to code with: use model=vdm, mhvae or hvae")
    return deepcopy(model).cpu().double().eval().requires_grad_(False)


def diffusion_chain(model: DiffusionModel, time: DiscreteTime, event_shape: Sequence[int]) -> Chain:
    """Return the chain of a prepared diffusion model, with widths that follow from the schedule."""
    return Chain(model.at(time).as_mhvae(), diffusion_widths(model.schedule, time, event_shape))


def latent_chain(model: LatentModel, exponents: Sequence[int]) -> Chain:
    """Return the chain of a prepared model with learned conditionals, and the widths that its encoder chose."""
    return Chain(model, [_width(exponent) for exponent in exponents])


@torch.no_grad()
def diffusion_widths(schedule: NoiseSchedule, time: DiscreteTime, event_shape: Sequence[int]) -> list[float]:
    """Return the width of each latent's bins, from the narrower of q(x_t | x_{t−1}) and p(x_t | x_{t+1}).

    With one γ a dimension, from the narrowest dimension.
    """
    like = torch.zeros(1, *event_shape, dtype=torch.float64)
    gammas = time.gammas(schedule, like)
    up = [sigma2(gammas[0]), *(sigma2(t) * step_fraction(s, t) for s, t in pairwise(gammas))]
    down = [*(sigma2(s) * step_fraction(s, t) for s, t in pairwise(gammas)), torch.ones(1)]
    variances = [min(q.min().item(), p.min().item()) for q, p in zip(up, down, strict=True)]
    return [_width(_exponent(math.sqrt(variance))) for variance in variances]


@torch.no_grad()
def measured_exponents(model: LatentModel, x: Tensor, condition: Tensor | None) -> list[int]:
    """Return the exponents of the widths of a model with learned conditionals, from trajectories of examples x."""
    trajectory = model.infer(model.decoder.encode(x.double()), Draws(0), condition)
    exponents = []
    for q, p in zip(trajectory.q, trajectory.p, strict=True):
        narrower = torch.minimum(q.stddev, p.stddev).flatten()
        exponents.append(_exponent(narrower[:1_000_000].quantile(NARROW).item()))
    return exponents


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums of products depend on how they are shared among threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _exponent(scale: float) -> int:
    return math.floor(EIGHTHS * math.log2(scale / BINS))


def _width(exponent: int) -> float:
    return math.exp2(exponent / EIGHTHS)
