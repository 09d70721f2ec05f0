"""Means over a data set with their error bars.

How ``mc_se`` is estimated depends on the draws of one replicate. If those of different examples are independent, the
variance v_i over the R replicates of an example is pooled over the n examples:

    mc_se² = Σ_i v_i / (n² R),  df = (Σ v_i)² / (Σ v_i² / (R + 1)) − 2  (Welch 1947), about n (R − 1).

If the examples share draws (t spread evenly over the data set), only whole replicates are independent: mc_se² is the
variance of the R replicate means, ÷ R, with R − 1 degrees of freedom. Pooling would then ignore that errors of evenly
spread times cancel, and report several times the error where the noise is small beside the profile in t.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from vdm.estimate import Estimate
from vdm.terms import TERMS


class BoundSummary(Metric):
    """Means and standard errors over a data set, from float64 sums, which any number of processes add up to rounding.

    Args:
        repeats: R, the number of replicates.
        names: names of the terms.
        independent: whether the draws of different examples are independent; see ``VariationalModel.independent_draws``.
    """

    full_state_update = False
    replicate_sums: Tensor
    example_sums: Tensor
    example_squares: Tensor
    powers: Tensor
    spreads: Tensor
    count: Tensor

    def __init__(self, repeats: int, names: Sequence[str] = TERMS, independent: bool = False) -> None:
        super().__init__()
        self.names, self.independent, terms = tuple(names), independent, len(names)
        sizes = {"replicate_sums": (terms, repeats), "example_sums": (terms,), "example_squares": (terms,), "count": ()}
        for name, size in {**sizes, "powers": (2, terms), "spreads": (2, terms)}.items():
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, terms: Tensor) -> None:
        """Add the values (terms, B, R) that ``BoundEvaluation`` returns."""
        examples, spread = terms.mean(2), terms.var(2)
        self.replicate_sums += terms.sum(1)
        self.example_sums += examples.sum(1)
        self.example_squares += examples.square().sum(1)
        self.powers += torch.stack([terms.square().sum((1, 2)), terms.pow(3).sum((1, 2))])
        self.spreads += torch.stack([spread.sum(1), spread.square().sum(1)])
        self.count += terms.shape[1]

    def compute(self) -> dict[str, Estimate]:
        """Return one ``Estimate`` for each term, in bits/dim."""
        n, repeats = self.count, self.replicate_sums.shape[1]
        value = self.example_sums / n
        variance = (self.example_squares / n - value.square()).clamp(min=0) * n / (n - 1)  # NaN for one example
        error = self._over_draws()
        columns = torch.stack([value, error.se, (variance / n).sqrt(), error.df, self._skew(value, n * repeats)], 1)
        return {name: Estimate(*column) for name, column in zip(self.names, columns.tolist(), strict=True)}

    def _over_draws(self) -> "DrawError":
        n, repeats = self.count, self.replicate_sums.shape[1]
        if self.independent:
            total, squares = self.spreads
            df = (total.square() * (repeats + 1) / squares - 2).clamp(min=repeats - 1)
            return DrawError((total / repeats).sqrt() / n, torch.where(total > 0, df, math.inf))
        return DrawError(
            (self.replicate_sums / n).std(1) / repeats**0.5, torch.full_like(self.example_sums, float(repeats - 1))
        )

    def _skew(self, value: Tensor, draws: Tensor) -> Tensor:
        """Skewness of the mean of all ``draws``, less the share of the variance that is between examples."""
        squares, cubes = self.powers / draws
        variance = squares - value.square()
        third = cubes - 3 * value * squares + 2 * value.pow(3)
        within = (self.spreads[0] / self.count / variance).clamp(max=1)
        skew = within * third / variance.pow(1.5) / draws.sqrt()
        return torch.where(variance > 1e-12 * squares, skew, 0.0)


class DrawError(NamedTuple):
    """Standard errors over the draws and their degrees of freedom, (terms,) each."""

    se: Tensor
    df: Tensor


def summarise(values: Tensor, independent: bool) -> Estimate:
    """Return mean and errors of (n, R) values in R replicates; ``independent`` as in ``BoundSummary``."""
    summary = BoundSummary(values.shape[1], ["value"], independent).to(values.device)
    summary.update(values.double()[None])
    return summary.compute()["value"]
