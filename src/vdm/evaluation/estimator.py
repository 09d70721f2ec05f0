"""What every estimator of log p(x) over a data set has in common, and how error bars are made."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vdm.bound import Batch, VariationalModel
from vdm.errors import InvalidInput, at_least, at_most
from vdm.models import VDM

Progress = Callable[[float], None]
"""Told, now and then, which part of the work is done: 0 … 1."""


class Estimate(NamedTuple):
    """A number and its two standard errors, never mixed.

    mc_se: over the draws (t and noise, or latents), the data fixed. data_se: over the examples; the value of each contains
    the noise of its own draws, so this one includes the draws' part, and mc_se is not to be added to it.
    """

    value: float
    mc_se: float
    data_se: float

    def shown(self) -> tuple[str, str, str]:
        """The three with as many decimals as the larger error has to its second digit, and four at most."""
        places = decimals(self.mc_se, self.data_se)
        value, mc_se, data_se = (f"{number:.{places}f}" for number in self)
        return value, mc_se, data_se


def decimals(*errors: float) -> int:
    """How many the largest of the errors has to its second digit, and four at most; unknown ones are passed over."""
    known = [error for error in errors if 0 < error < math.inf]
    return min(4, max(0, 1 - math.floor(math.log10(max(known))))) if known else 4


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
        return self.estimate(model, first(data, self.examples), progress)

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


def first(data: Batch, examples: int | None) -> Batch:
    """The first ``examples`` of a data set, or all of it.

    Raises:
        InvalidInput: fewer than one.
    """
    if examples is not None and examples < 1:
        raise InvalidInput(f"examples must be at least 1, got {examples}, or null for the whole data set")
    return Batch(*(None if part is None else part[:examples] for part in data))  # type: ignore[arg-type]


def chunks(data: Batch, rows: int) -> Iterator[Batch]:
    """A data set in pieces of at most ``rows`` examples."""
    for start in range(0, len(data.x), rows):
        yield Batch(*(None if part is None else part[start : start + rows] for part in data))  # type: ignore[arg-type]


def need_two(repeats: int) -> int:
    """``repeats``, if an error bar can be made of them."""
    if repeats < 2:
        raise InvalidInput(f"repeats must be at least 2, got {repeats}: the error bar is the spread over replicates")
    at_most(repeats=repeats)
    return int(repeats)


def diffusion(model: VariationalModel, what: str) -> VDM:
    """``model``, if it is a diffusion model."""
    if not isinstance(model, VDM):
        raise InvalidInput(f"{what} needs a diffusion model (model=vdm), and this is a {type(model).__name__}")
    return model
