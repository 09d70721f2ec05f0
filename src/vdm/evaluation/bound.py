"""The variational bound of a data set, with its two standard errors."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from vdm.bound import Batch, VariationalModel
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput

TERMS = ("bits_per_dim", "reconstruction", "prior_matching", "denoising_matching")


class Estimate(NamedTuple):
    """A number and its two standard errors, never mixed.

    mc_se: over t and noise, the data fixed. data_se: over the examples.
    """

    value: float
    mc_se: float
    data_se: float


class BoundEvaluation:
    """The bound of each example, in ``repeats`` independent replicates.

    Draws are keyed by (seed, example index, replicate): the result does not depend on batches or processes. Within a
    replicate t may be stratified over the examples, so a replicate is the unit of independence.

    Args:
        repeats: R, at least 2, since ``mc_se`` comes from the spread over replicates.
        seed: of the evaluation's draws.
    """

    def __init__(self, repeats: int, seed: int = 0) -> None:
        if repeats < 2:
            raise InvalidInput(f"repeats must be at least 2, got {repeats}: the error bar is the spread over replicates")
        self.repeats, self.seed = int(repeats), seed

    @torch.no_grad()
    def __call__(self, model: VariationalModel, batch: Batch) -> Tensor:
        """(terms, B, R) in bits/dim, in the order of ``TERMS``."""
        replicates = []
        for repeat in range(self.repeats):
            draws = ExampleDraws(batch.index, self.seed, repeat)
            terms = model.elbo(batch.x, draws, batch.condition).terms()
            replicates.append(torch.stack([terms[name].double() for name in TERMS]))
        return torch.stack(replicates, -1)


class BoundSummary(Metric):
    """Means and standard errors over a data set, from sums and counts in float64, exact over any number of processes."""

    full_state_update = False
    replicate_sums: Tensor
    example_sums: Tensor
    example_squares: Tensor
    count: Tensor

    def __init__(self, repeats: int) -> None:
        super().__init__()
        terms = len(TERMS)
        self.add_state("replicate_sums", torch.zeros(terms, repeats, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("example_sums", torch.zeros(terms, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("example_squares", torch.zeros(terms, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, terms: Tensor) -> None:
        """terms: (terms, B, R), as ``BoundEvaluation`` gives them."""
        examples = terms.mean(2)
        self.replicate_sums += terms.sum(1)
        self.example_sums += examples.sum(1)
        self.example_squares += examples.square().sum(1)
        self.count += terms.shape[1]

    def compute(self) -> dict[str, Estimate]:
        """One ``Estimate`` a term, in bits/dim."""
        n, repeats = self.count, self.replicate_sums.shape[1]
        value = self.example_sums / n
        mc_se = (self.replicate_sums / n).std(1) / repeats**0.5
        variance = (self.example_squares / n - value.square()).clamp(min=0) * n / (n - 1)
        columns = torch.stack([value, mc_se, (variance / n).sqrt()], 1).tolist()
        return {name: Estimate(*column) for name, column in zip(TERMS, columns, strict=True)}
