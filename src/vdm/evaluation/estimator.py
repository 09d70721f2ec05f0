"""The base class of estimators of log p(x) over a data set, their results, and their error bars."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch

from vdm.batch import Batch, first_examples
from vdm.bound import VariationalModel
from vdm.errors import InvalidInput, at_least, at_most
from vdm.estimate import Estimate
from vdm.models import DiffusionModel

Progress = Callable[[float], None]
"""Called now and then with the fraction of the work that is done, 0 … 1."""


class Result(NamedTuple):
    """One line of a report.

    Attributes:
        name: its key in metrics.json.
        label: its name in tables.
        terms: estimates in bits/dim; the first, ``bits_per_dim``, is the headline.
        examples: number of examples.
        draws: number of independent draws, or trajectories, for each example.
        calls: number of network evaluations, counting one for each example of a batch.
        facts: settings and diagnostics for metrics.json.
        note: one line for tables.
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
    """An estimate in bits/dim of −log p(x) over a data set, or of a bound on it.

    Args:
        examples: how many examples, from the start of the data set; None for all.
        rows: largest batch of one network call.

    Raises:
        InvalidInput: ``examples`` or ``rows`` below 1.
    """

    def __init__(self, examples: int | None, rows: int) -> None:
        at_least(1, rows=rows, **({} if examples is None else {"examples": examples}))
        self.examples, self.rows = examples, rows

    def __call__(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        """Estimate over ``data``, the whole data set as one batch.

        Raises:
            InvalidInput: see ``check``; autocast is on.
        """
        self.check(model)
        if torch.is_autocast_enabled(data.x.device.type):
            raise InvalidInput("a likelihood is not estimated under autocast, which rounds it: call outside torch.autocast")
        return self.estimate(model, first_examples(data, self.examples), progress)

    @abstractmethod
    def check(self, model: VariationalModel) -> None:
        """Raise InvalidInput, before any work, if the model has no such estimate."""

    @abstractmethod
    def estimate(self, model: VariationalModel, data: Batch, progress: Progress) -> list[Result]:
        """Return the results of ``__call__``; the model has passed ``check`` and ``data`` holds the requested examples."""


def need_two(repeats: int) -> int:
    """Return ``repeats``; raise InvalidInput below 2, too few for an error bar, or above ten million."""
    if repeats < 2:
        raise InvalidInput(f"repeats must be at least 2, got {repeats}: the error bar is the spread over replicates")
    at_most(repeats=repeats)
    return int(repeats)


def diffusion(model: VariationalModel, what: str) -> DiffusionModel:
    """Return ``model``; raise InvalidInput if it is not the diffusion model that ``what`` needs."""
    if not isinstance(model, DiffusionModel):
        raise InvalidInput(f"{what} needs a diffusion model (model=vdm), and this is a {type(model).__name__}")
    return model
