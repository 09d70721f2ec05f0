"""``vdm.sample``: samples of a trained model, the same for every batch size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdm.api.devices import device_of, evaluating
from vdm.api.opening import open_run
from vdm.bound import VariationalModel
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput, at_least, at_most
from vdm.models import DiffusionModel
from vdm.samplers import Sampler

ROWS = 250
"""Samples in one batch."""


@torch.no_grad()
def sample(
    model: VariationalModel | str | Path,
    n: int,
    event_shape: Sequence[int] | None = None,
    *,
    steps: int | None = None,
    sampler: Sampler | None = None,
    seed: int = 0,
    condition: Tensor | None = None,
) -> Tensor:
    """Draw samples (n, *event) in the data's own units, on the CPU; sample i depends on the seed and i only.

    Args:
        model: any model with an ELBO, or what ``vdm.load`` takes.
        event_shape: of one example; known for what ``vdm.load`` takes.
        steps, sampler: of a diffusion model; its own by default.
        condition: (n, …); for a run by default those of its first training examples.

    Raises:
        InvalidInput: no shape; steps or a sampler for any model but a diffusion model.
    """
    at_least(1, n=n)
    at_most(n=n)
    if not isinstance(model, VariationalModel):
        run = open_run(model)
        model, event_shape = run.model, event_shape or run.data.event_shape
        condition = run.data.sampling_condition(n) if condition is None else condition
    if event_shape is None:
        raise InvalidInput("event_shape is needed for a model that comes without data: such as event_shape=(3, 32, 32)")
    own = _settings(model, steps=steps, sampler=sampler)
    device, finished = device_of(model), []
    with evaluating(model):
        for index in torch.arange(n).split(ROWS):
            given = None if condition is None else condition[index].to(device)
            draws = ExampleDraws(index, seed)
            finished.append(model.sample(len(index), tuple(event_shape), draws=draws, condition=given, **own).cpu())
    return torch.cat(finished)


def _settings(model: VariationalModel, **given: Any) -> dict[str, Any]:
    """Return the settings of a diffusion model's ``sample``; none for another model, which takes none."""
    if isinstance(model, DiffusionModel):
        return given
    if any(value is not None for value in given.values()):
        raise InvalidInput(f"steps and sampler are for diffusion models, and this is a {type(model).__name__}")
    return {}
