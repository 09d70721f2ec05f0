"""``vdm.evaluate``: the bound of a data set, term by term, with its error bars and warnings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from vdm.api.devices import device_of, evaluating
from vdm.api.opening import open_run
from vdm.batch import Batch, chunks
from vdm.bound import VariationalModel
from vdm.data import DataModule
from vdm.data.stored import served_type
from vdm.errors import InvalidInput, at_least
from vdm.estimate import Estimate
from vdm.evaluation import BoundEvaluation, BoundSummary
from vdm.evaluation.warnings import warnings
from vdm.laws import check_model
from vdm.networks.embedding import check_condition
from vdm.reports import console
from vdm.runs.folder import as_metrics
from vdm.runs.load import LoadedRun
from vdm.runs.provenance import provenance
from vdm.terms import term_names

REPEATS = 16
"""Replicates of an evaluation that is not a run's own."""


class Evaluation(NamedTuple):
    """The bound of a data set; ``print`` shows it as a table.

    Attributes:
        terms: estimates in bits/dim; ``bits_per_dim`` is the sum of the three terms.
        warnings: sentences on what makes the number look better, or more certain, than it is.
        examples, repeats, seed: how many examples and replicates, and the seed of the draws.
        title: the data.
    """

    terms: dict[str, Estimate]
    warnings: list[str]
    examples: int
    repeats: int
    seed: int
    title: str

    @property
    def bits_per_dim(self) -> Estimate:
        return self.terms["bits_per_dim"]

    def entry(self) -> dict[str, Any]:
        """Return the terms as metrics.json has them."""
        return as_metrics(self.terms)

    def __str__(self) -> str:
        screen = Console(width=100, color_system=None)
        with screen.capture() as shown:
            for part in (console.bound_table(self.title, self.terms), *console.warnings_listing(self.warnings)):
                screen.print(part, highlight=False)
        return shown.get()


class Examples(NamedTuple):
    """What is evaluated: ``batch`` is the whole set, ``about`` the facts of its provenance, ``source`` the data module."""

    batch: Batch
    title: str
    about: Mapping[str, Any]
    source: object = None


def evaluate(
    model: VariationalModel | str | Path,
    data: DataModule | Tensor | np.ndarray | None = None,
    repeats: int | None = None,
    *,
    seed: int | None = None,
    split: str = "test",
    condition: Tensor | None = None,
    batch_size: int = 250,
) -> Evaluation:
    """Evaluate the bound of every example, where the model's weights are.

    Args:
        model: any model with an ELBO, or what ``vdm.load`` takes.
        data: examples (N, *event) as stored: integer levels, or reals; or a data module. None: the run's own data.
        repeats: replicates, at least 2; the run's own number for a run, else ``REPEATS``.
        seed: of the draws; the run's own for a run, else 0.
        split: of a data module.
        condition: (N, …), for a model that takes one, beside examples in an array.
        batch_size: examples in one batch; the result does not depend on it.

    Raises:
        InvalidInput: values that the model gives no probability; a part of the model that breaks its law; no data.
    """
    run = None if isinstance(model, VariationalModel) else open_run(model)
    test = BoundEvaluation(REPEATS) if run is None else run.part("test")
    each = BoundEvaluation(test.repeats if repeats is None else repeats, test.seed if seed is None else seed)
    found = _examples(run, data, split, condition)
    bounded = cast(VariationalModel, model) if run is None else run.model
    bounded.check(found.batch.x)
    check_condition(bounded, found.batch.condition)
    with evaluating(bounded):
        check_model(bounded, found.batch.x)
        terms = _bound(bounded, each, found.batch, batch_size)
    sentences = warnings(bounded, terms, {}, found.source, {**found.about, "split": split})
    return Evaluation(terms, sentences, len(found.batch.x), each.repeats, each.seed, found.title)


def _bound(model: VariationalModel, each: BoundEvaluation, batch: Batch, batch_size: int) -> dict[str, Estimate]:
    """Evaluate all examples in batches; draws are keyed by the position in ``batch``."""
    at_least(1, batch_size=batch_size)
    device, summary = (
        device_of(model),
        BoundSummary(each.repeats, term_names(model.matching_entries), model.independent_draws),
    )
    for chunk in chunks(batch, batch_size):
        condition = None if chunk.condition is None else chunk.condition.to(device)
        summary.update(each(model, Batch(chunk.x.to(device), chunk.index, condition)).cpu())
    return summary.compute()


def _examples(
    run: LoadedRun | None, data: DataModule | Tensor | np.ndarray | None, split: str, condition: Tensor | None
) -> Examples:
    """Return what is to be evaluated: an array as it is, or a split of a data module with its provenance."""
    module = run.data if data is None and run is not None else data
    if isinstance(module, DataModule):
        if condition is not None:
            raise InvalidInput("condition= belongs to examples in an array; a data module brings its own: leave it out")
        found = module.split(split)
        trained = {} if run is None else {"trained_on": run.checkpoint.provenance.get("data")}
        about = provenance(module, 0 if run is None else run.seed) | trained
        batch = Batch(found.x, torch.arange(len(found.x)), found.condition)
        return Examples(batch, f"{module.title}, whole {split} set", about, module)
    x = as_tensor(module)
    about = {"data": {"splits": {split: {"size": len(x)}}}}
    return Examples(Batch(x, torch.arange(len(x)), condition), f"{len(x)} examples", about)


def as_tensor(data: object) -> Tensor:
    """Return examples (N, *event) in an array or a tensor as a tensor of a type that torch computes with.

    Raises:
        InvalidInput: anything else, numbers that are neither whole nor real, or no examples.
    """
    if isinstance(data, np.ndarray):
        kind = data.dtype if data.dtype.kind == "f" else served_type(data.dtype)
        data = torch.from_numpy(np.ascontiguousarray(data, kind))
    if not isinstance(data, Tensor):
        raise InvalidInput(
            f"data must be examples (N, *event) in an array or a tensor, or a vdm.DataModule, got {type(data).__name__}"
        )
    if data.ndim < 2 or not len(data):
        raise InvalidInput(f"data must be examples (N, *event), at least one, got shape {tuple(data.shape)}")
    return data.to(torch.uint8) if data.dtype == torch.bool else data
