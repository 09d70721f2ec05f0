"""The difference between two results, with an interval: pure functions of arrays.

A result is an array y (S, n, R) in bits/dim: S training seeds, n examples, R replicates of the evaluation's draws. The
difference is the mean of A minus the mean of B; negative if A is better. Its variance is a sum of parts, each with its
degrees of freedom, and the interval is a t interval with Satterthwaite's (1946):

- *examples*: the variance of the examples' differences d_i over i, divided by n, less the part that comes from their draws;
- *draws*: the variance of the replicates' means, divided by R. Within a replicate t may be spread evenly over the
  examples, so that a replicate's mean varies less than independent draws would, and only replicates show by how much.
  Below ``FEW`` replicates this part has too few degrees of freedom: the draws then count as independent, which makes
  intervals wider;
- *seeds*: for S ≥ 2, the variance of the seeds' means, divided by S, less the interaction of seeds and examples, which the
  first part contains already. Seeds of A and of B are independent.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

Values = np.ndarray
"""An array of results in bits/dim, (S, n, R), in float64."""

Pairing = Literal["draws", "examples", "none"]
"""What two results share: examples and draws, examples only, or neither."""

CONFIDENCE = 0.95

FEW = 8
"""Fewest replicates whose spread is used."""


class Part(NamedTuple):
    """A part of a squared standard error, and its degrees of freedom; a subtracted part is negative."""

    variance: float
    df: float


class Difference(NamedTuple):
    """A difference with its uncertainty, in bits/dim.

    Attributes:
        se: over examples, draws and, with several seeds, seeds.
        df: degrees of freedom of ``se``.
        mc_se: the part of the draws, with examples and seeds fixed; NaN if it is unknown.
    """

    value: float
    se: float
    df: float
    mc_se: float

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the t interval."""
        reach = t_quantile((1 + confidence) / 2, self.df) * self.se if self.se else 0.0
        return self.value - reach, self.value + reach

    @property
    def p(self) -> float:
        """The two-sided p-value of no difference."""
        if self.se:
            return 2 * float(stdtr(_finite(self.df), -abs(self.value) / self.se))
        return 1.0 if self.value == 0 else math.nan if math.isnan(self.value) else 0.0

    def entry(self) -> dict[str, float]:
        """Return the difference as in compare.json, with the 95 % interval."""
        low, high = self.interval()
        return {"value": self.value, "se": self.se, "low": low, "high": high, "df": self.df, "mc_se": self.mc_se}


def difference(a: Values, b: Values, pairing: Pairing) -> Difference:
    """Return A − B with its uncertainty.

    Args:
        a, b: (S, n, R) in bits/dim. For ``examples`` and ``draws``, n and the examples are the same; for ``draws``, R and
            the draws as well.
    """
    of_a, of_b = a.mean(0), b.mean(0)
    if pairing == "draws":
        noises, parts = [of_a - of_b], example_parts((of_a - of_b).mean(1), [of_a - of_b])
    elif pairing == "examples":
        noises = [of_a, of_b]
        parts = example_parts(of_a.mean(1) - of_b.mean(1), noises)
    else:
        noises = [of_a, of_b]
        parts = [*example_parts(of_a.mean(1), [of_a]), *example_parts(of_b.mean(1), [of_b])]
    return _combined(float(a.mean() - b.mean()), [*parts, *seed_parts(a), *seed_parts(b)], _draws(noises))


def difference_of_means(value: float, errors: Sequence[float], parts: Sequence[Part] = ()) -> Difference:
    """Return a difference of independent means with these standard errors, of many degrees of freedom, and more parts."""
    return _combined(value, [*(Part(error**2, math.inf) for error in errors), *parts], math.nan)


def example_parts(means: np.ndarray, noises: Sequence[np.ndarray]) -> list[Part]:
    """Return the parts of examples and draws of the mean of ``means`` (n,), which contain the ``noises`` (n, R)."""
    n = len(means)
    between = Part(_variance(means) / n, n - 1)
    if min(noise.shape[1] for noise in noises) < FEW:
        return [between]
    within = [Part(-float(y.var(1, ddof=1).mean()) / y.size, n * (y.shape[1] - 1)) for y in noises]
    draws = [Part(_variance(y.mean(0)) / y.shape[1], y.shape[1] - 1) for y in noises]
    own = [between, *within]
    return [*(own if sum(part.variance for part in own) > 0 else []), *draws]


def seed_parts(y: Values) -> list[Part]:
    """Return the part of the training seeds of the mean of y (S, n, R); none for a single seed."""
    seeds, n, repeats = y.shape
    if seeds == 1:
        return []
    means = y.mean(2)
    over_seeds = Part(_variance(means.mean(1)) / seeds, seeds - 1)
    df = max(1, (seeds - 1) * (n - 1))
    residual = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
    interaction = float(np.square(residual).sum()) / df
    if repeats > 1:
        noise = (y - y.mean(0)).var(2, ddof=1).mean() * seeds / (seeds - 1)
        interaction -= float(noise) / repeats
    shared = min(max(interaction, 0.0) / (n * seeds), over_seeds.variance)
    return [over_seeds, Part(-shared, df)]


def by_band(matching: Values, gamma: Values, edges: np.ndarray) -> np.ndarray:
    """Return each draw's part of the denoising term in each band of γ, (K, S, n, R); the sum over bands is ``matching``.

    Args:
        matching: one-t estimates of the denoising term (S, n, R), in bits/dim.
        gamma: the γ_t of each.
        edges: (K + 1,), increasing; γ outside goes to the end bands.
    """
    band = np.digitize(gamma, edges[1:-1])
    return np.stack([np.where(band == k, matching, 0.0) for k in range(len(edges) - 1)])


def band_edges(gammas: Sequence[Values], bands: int) -> np.ndarray:
    """Return the edges of ``bands`` equal bands from the least to the largest of all γ, (bands + 1,)."""
    low, high = min(float(gamma.min()) for gamma in gammas), max(float(gamma.max()) for gamma in gammas)
    return np.linspace(low, high, bands + 1)


def holm(p: Sequence[float], count: int | None = None) -> list[float]:
    """Return Holm's (1979) adjusted p-values: rejecting below α keeps the chance of any false rejection below α.

    ``count`` is the number of hypotheses if it is larger than the number of p-values.
    """
    order, adjusted, running = np.argsort(p), [math.nan] * len(p), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, ((count or len(p)) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def simultaneous(comparisons: int) -> float:
    """Return the confidence of each of several intervals that together hold with 95 % (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, comparisons)


def t_quantile(probability: float, df: float) -> float:
    """Return the quantile of Student's t distribution."""
    return float(stdtrit(_finite(df), probability))


def _combined(value: float, parts: Sequence[Part], mc_se: float) -> Difference:
    """Sum the parts; the degrees of freedom are Satterthwaite's."""
    total = sum(part.variance for part in parts)
    spread = sum(part.variance**2 / part.df for part in parts if part.variance and part.df)
    df = total**2 / spread if spread > 0 else math.inf
    return Difference(value, math.sqrt(max(total, 0.0)) if total == total else math.nan, df, mc_se)


def _draws(noises: Sequence[np.ndarray]) -> float:
    if min(noise.shape[1] for noise in noises) < 2:
        return math.nan
    return math.sqrt(sum(_variance(noise.mean(0)) / noise.shape[1] for noise in noises))


def _variance(values: np.ndarray) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else math.nan


def _finite(df: float) -> float:
    return min(df, 1e10)
