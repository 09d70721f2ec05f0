"""Collecting the values of single examples while a bound is evaluated, on any number of processes."""

import torch
from torch import Tensor

from vdm.batch import Batch
from vdm.bound import VariationalModel
from vdm.draws import ExampleDraws
from vdm.evaluation.bound import BoundEvaluation
from vdm.evaluation.ranks import all_gather_rows
from vdm.models import DiffusionModel
from vdm.runs.examples import Examples
from vdm.terms import TERMS


class ExampleCollector:
    """Keeps the values of ``evaluation`` for each example, and the γ_t of its draws."""

    def __init__(self, evaluation: BoundEvaluation) -> None:
        self.evaluation, self._with_gamma = evaluation, False
        self._width = 1 + (len(TERMS) + 1) * evaluation.repeats  # index, terms, γ
        self._pieces = [(torch.empty(0, dtype=torch.long), torch.empty(0, self._width, dtype=torch.float64))]

    def add(self, model: VariationalModel, batch: Batch, values: Tensor) -> None:
        """Add the values (terms, B, R) that the evaluation returned for ``batch``."""
        gamma = noise_levels(model, batch, self.evaluation)
        self._with_gamma = gamma is not None
        columns = [*values[: len(TERMS)], torch.zeros_like(values[0]) if gamma is None else gamma.to(values)]
        index = batch.index.cpu()
        self._pieces.append((index, torch.cat([index[:, None].double(), torch.cat(columns, 1).cpu()], 1)))

    def gather(self, device: torch.device) -> Examples:
        """Return the values of all processes, which communicate through ``device``; ``about`` is left empty."""
        rows = all_gather_rows(self._pieces, self._width, device)
        index, values = rows[:, 0].long().numpy(), rows[:, 1:].unflatten(1, (-1, self.evaluation.repeats)).numpy()
        terms = {name: values[:, i] for i, name in enumerate(TERMS)}
        return Examples({}, index, terms, values[:, len(TERMS)].astype("float32") if self._with_gamma else None)


@torch.no_grad()
def noise_levels(model: VariationalModel, batch: Batch, evaluation: BoundEvaluation) -> Tensor | None:
    """Return γ_t of each one-t estimate of the evaluation, (B, R); None for a model without any."""
    model = evaluation.drawn_from(model)
    if not isinstance(model, DiffusionModel):
        return None
    draws = [ExampleDraws(batch.index, evaluation.seed, repeat) for repeat in range(evaluation.repeats)]
    return torch.stack([model.noise_level(batch.x, each, batch.condition) for each in draws], 1)
