"""What every estimator of log p(x) over a data set has in common, and how error bars are made."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.batch import Batch, first_examples
from vdm.bound import VariationalModel
from vdm.errors import InvalidInput, at_least, at_most
from vdm.estimate import Estimate
from vdm.models import DiffusionModel

Progress = Callable[[float], None]
"""Told, now and then, which part of the work is done: 0 … 1."""


class Result(NamedTuple):
    """One line of a report.

    Attributes:
        name: its key in metrics.json.
        label: what it is, for people.
        terms: estimates in bits/dim; ``bits_per_dim`` is the first and the headline.
        examples: how many examples it is over.
        draws: independent draws for each example, or as many trajectories.
        calls: how often the network was asked about one example.
        facts: settings and diagnostics to stand beside the number.
        note: one line on them for people.
    """

    name: str
    label: str
    terms: dict[str, Estimate]
    examples: int
    draws: float
    calls: int
    facts: dict[str, object]
    note: str = ""


class Estimator(ABC):
    """An estimate of −log p(x) in bits/dim over a data set, or of a bound on it.

    Args:
        examples: how many examples, from the start of the data set; None for all.
        rows: how many of what is done side by side one call of the network may hold.

    Raises:
        InvalidInput: ``examples`` or ``rows`` below 1.
    """

    def __init__(self, examples: int | None, rows: int) -> None:
        at_least(1, rows=rows, **({} if examples is None else {"examples": examples}))
        self.examples, self.rows = examples, rows

    def __call__(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        """``data`` is the whole data set as one batch.

        Raises:
            InvalidInput: see ``check``; autocast.
        """
        self.check(model)
        if torch.is_autocast_enabled(data.x.device.type):
            raise InvalidInput("a likelihood is not estimated under autocast, which rounds it: leave torch.autocast before")
        return self.estimate(model, first_examples(data, self.examples), progress)

    @abstractmethod
    def check(self, model: VariationalModel) -> None:
        """Raises InvalidInput, before any work, for a model that has no such estimate."""

    @abstractmethod
    def estimate(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        """What ``__call__`` gives, of a model that has such an estimate and of the examples that were asked for."""


def from_replicates(values: Tensor) -> Estimate:
    """From (n, R) with R replicates, which may share draws over the examples: the replicate is the independent unit."""
    mc_se = values.mean(0).std() / values.shape[1] ** 0.5
    return Estimate(values.mean().item(), mc_se.item(), data_se(values.mean(1)))


def from_independent(values: Tensor) -> Estimate:
    """From (n, R) with draws that are independent over the examples as well: n (R − 1) degrees of freedom."""
    n, repeats = values.shape
    mc_se = (values.var(1).mean() / (n * repeats)).sqrt()
    return Estimate(values.mean().item(), mc_se.item(), data_se(values.mean(1)))


def data_se(examples: Tensor) -> float:
    """The standard error of a mean over examples, (n,); NaN for one example."""
    return (examples.std() / len(examples) ** 0.5).item() if len(examples) > 1 else float("nan")


def need_two(repeats: int) -> int:
    """``repeats``, if an error bar can be made of them."""
    if repeats < 2:
        raise InvalidInput(f"repeats must be at least 2, got {repeats}: the error bar is the spread over replicates")
    at_most(repeats=repeats)
    return int(repeats)


def diffusion(model: VariationalModel, what: str) -> DiffusionModel:
    """``model``, if it is a diffusion model."""
    if not isinstance(model, DiffusionModel):
        raise InvalidInput(f"{what} needs a diffusion model (model=vdm), and this is a {type(model).__name__}")
    return model
