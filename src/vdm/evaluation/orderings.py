"""Orderings that estimates of −log p(x) must satisfy, as checks on their values: pure functions of arrays.

A violation beyond ``ERRORS`` standard errors of the paired difference is an error in an estimator or in a model, not chance.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vdm.evaluation.comparison import difference

ERRORS = 4
"""Standard errors beyond which an ordering is violated."""

ROUNDING = 1e-6
"""Bits/dim by which rounding may violate an ordering that holds for every example."""


class Check(NamedTuple):
    """A claim ``excess ≤ 0`` on expectations.

    Attributes:
        excess: in bits/dim; by how much the claim fails if positive.
        se: its standard error; 0 for a claim that holds for every example.
        equality: whether the claim is that two numbers are equal, and ``excess`` their distance.
    """

    claim: str
    excess: float
    se: float
    equality: bool = False

    @property
    def violated(self) -> bool:
        return self.excess > ERRORS * self.se + ROUNDING

    @property
    def verdict(self) -> str:
        """``holds``, ``VIOLATED``, or ``open`` where chance explains an excess or the error is unknown."""
        if math.isnan(self.excess) or math.isnan(self.se):
            return "open"
        if self.violated:
            return "VIOLATED"
        return "holds" if self.equality or self.excess <= ROUNDING else "open"


def at_most(claim: str, lower: np.ndarray, upper: np.ndarray) -> Check:
    """E lower ≤ E upper, for values (n, R) and (n, R') of the same n examples in bits/dim."""
    shared = "draws" if lower.shape == upper.shape else "examples"
    found = difference(lower[None], upper[None], shared)  # type: ignore[arg-type]
    return Check(claim, found.value, found.se)


def equal(claim: str, one: np.ndarray, other: np.ndarray) -> Check:
    """E one = E other: two independent estimates of one number."""
    found = difference(one[None], other[None], "examples")
    return Check(claim, abs(found.value), found.se, equality=True)


def always_at_most(claim: str, lower: np.ndarray, upper: np.ndarray) -> Check:
    """lower ≤ upper for every entry, whatever the draws."""
    return Check(claim, float((lower - upper).max()), 0.0)


def not_below(claim: str, values: np.ndarray, least: float) -> Check:
    """E values ≥ least, for values (n, R) of fixed examples: the error is that of the draws."""
    spread = values.mean(0)
    se = float(spread.std(ddof=1)) / len(spread) ** 0.5 if len(spread) > 1 else math.nan
    return Check(claim, least - float(values.mean()), se)


def known(claim: str, values: np.ndarray, exact: float) -> Check:
    """E values = exact, for values (n, R) of fixed examples: the error is that of the draws."""
    below = not_below(claim, values, exact)
    return below._replace(excess=abs(below.excess), equality=True)


def best_of(nats: np.ndarray, samples: int) -> np.ndarray:
    """Return the largest of each ``samples`` log-weights (n, R·K): (n, R). A log-mean-exp is at most that."""
    return nats.reshape(len(nats), -1, samples).max(2)


def categorical_reconstruction(levels: int, gamma_1: float, points: int = 1001) -> np.ndarray:
    """Return E −log p(k | x_1) in nats for each level k, (K,), by quadrature over x_1 ~ q(x_1 | k) at γ_1.

    p(k | x_1) ∝ N(x_1; √ᾱ_1 v_k, σ_1²) over the K levels, v_k = 2(k + ½)/K − 1: no network and no code of the likelihood.
    """
    signal, noise = (1 / (1 + math.exp(gamma_1))) ** 0.5, (1 / (1 + math.exp(-gamma_1))) ** 0.5
    centres = signal * (2 * (np.arange(levels) + 0.5) / levels - 1)
    eps = np.linspace(-10, 10, points)
    weight = np.exp(-0.5 * eps**2)
    costs = []
    for centre in centres:
        squares = 0.5 * np.square((centre + noise * eps[:, None] - centres) / noise)
        cost = 0.5 * eps**2 + np.logaddexp.reduce(-squares, 1)
        costs.append(float((weight * cost).sum() / weight.sum()))
    return np.array(costs)


def violations(checks: Sequence[Check]) -> list[str]:
    """Return a sentence for each violated check."""
    return [f"violated: {c.claim}, by {c.excess:.4f} bits/dim ({c.se:.2g} standard error)" for c in checks if c.violated]
