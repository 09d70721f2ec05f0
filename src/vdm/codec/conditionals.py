"""Conditionals over integers, as the entropy coder sees them: Gaussians over bins, and levels.

Means and scales are rounded to grids, far coarser than float64's errors and far finer than any cost in bits, so that a
result whose last digits differ codes the same. The bits that (1.46) counts are those of the unrounded conditional.
"""

from abc import ABC, abstractmethod
from typing import Any

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_ndtr
from torch import Tensor
from torch.distributions import Independent

from vdm.errors import InvalidInput

Categorical = constriction.stream.model.Categorical
QuantizedGaussian = constriction.stream.model.QuantizedGaussian
Uniform = constriction.stream.model.Uniform

MEAN_GRID = 2.0**12
"""Steps of a mean's grid in a bin."""

SCALE_GRID = 2.0**16
"""Steps of a standard deviation's grid in a factor of two."""

PROBABILITY_GRID = 2.0**30
"""Steps of the grid of a level's probability."""

SCALES = (-6.0, 17.0)
"""Least and largest coded standard deviation, as powers of two of a bin: beyond, the coder's 24 bits are too few."""

DRAWN, STORED = 5, 7
"""Standard deviations up to which values are drawn, and up to which they are stored without an escape."""

ESCAPE = 2**20
"""An escaped value's distance is two digits of this base."""

GAUSSIAN_BITS = 0.5 * np.log2(2 * np.pi * np.e)
"""Bits of a Gaussian with a standard deviation of one bin."""

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


class Conditional(ABC):
    """A distribution of integers (B, D), coded row by row.

    Attributes:
        shape: (B, *shape) of the variable.
    """

    shape: torch.Size
    expected_bits = 0.0
    """The bits that drawing all rows is expected to remove."""

    @property
    def dims(self) -> int:
        """D, the integers of a row."""
        return self.shape[1:].numel()

    @abstractmethod
    def draw(self, coder: Any, row: int) -> Integers:
        """Remove one row's values (D,) from the coder."""

    @abstractmethod
    def store(self, coder: Any, row: int, values: Integers) -> None:
        """Undo ``draw``."""

    @abstractmethod
    def bits(self, values: Integers) -> Reals:
        """Return −log₂ P of each row's values (B, D), (B,), by the conditional itself, before any rounding."""


class BinnedGaussian(Conditional):
    """N(μ, σ²) over bins of ``width``: value b is the bin of reals within half a width of b · width.

    Each row's dimensions are coded in classes with standard deviations of the same power of two, so that no class has
    many more bins than mass.

    Args:
        kernel: of B rows.
        width: of the bins.
        escapes: whether any value can be stored, the far ones by an escape; otherwise only those that ``draw`` returns.

    Raises:
        FloatingPointError: a mean or standard deviation that is not finite.
    """

    def __init__(self, kernel: Independent, width: float, escapes: bool) -> None:
        self.mean, self.scale = (_rows(part) / width for part in (kernel.mean, kernel.stddev))
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all() and abs(self.mean).max() < 2.0**50):
            raise FloatingPointError("a mean or standard deviation is not finite")
        self.escapes = escapes
        self.centre = np.rint(self.mean)
        self.offset = np.rint((self.mean - self.centre) * MEAN_GRID) / MEAN_GRID
        exponent = np.clip(np.log2(self.scale), *SCALES)
        self.exponent = np.rint(exponent * SCALE_GRID) / SCALE_GRID
        self.coded_scale = np.exp2(self.exponent)
        self.size, self.shape = np.ceil(self.exponent).astype(int), kernel.mean.shape
        self.expected_bits = float((self.exponent + GAUSSIAN_BITS).clip(0).sum())

    def draw(self, coder: Any, row: int) -> Integers:
        offsets = np.empty(self.mean.shape[1], np.int64)
        for chosen, family, reach in self._classes(row):
            drawn = coder.decode(family, self.offset[row][chosen], self.coded_scale[row][chosen]).astype(np.int64)
            if self.escapes:
                for i in np.flatnonzero(abs(drawn) == reach):
                    high, low = (int(digit) for digit in coder.decode(Uniform(ESCAPE), 2))
                    drawn[i] += np.sign(drawn[i]) * (high * ESCAPE + low)
            offsets[chosen] = drawn
        return self.centre[row].astype(np.int64) + offsets

    def store(self, coder: Any, row: int, values: Integers) -> None:
        offsets = values - self.centre[row].astype(np.int64)
        for chosen, family, reach in reversed(self._classes(row)):
            stored = offsets[chosen]
            within = stored.clip(-reach, reach)
            if self.escapes:
                for i in np.flatnonzero(abs(within) == reach)[::-1]:
                    coder.encode_reverse(_digits(int(abs(stored[i] - within[i]))), Uniform(ESCAPE))
            coder.encode_reverse(within.astype(np.int32), family, self.offset[row][chosen], self.coded_scale[row][chosen])

    def bits(self, values: Integers) -> Reals:
        distance = values - self.mean
        lower, upper = (distance - 0.5) / self.scale, (distance + 0.5) / self.scale
        reflect = distance > 0
        near = log_ndtr(np.where(reflect, -lower, upper))
        far = log_ndtr(np.where(reflect, -upper, lower))
        return -(near + np.log(-np.expm1(far - near))).sum(1) / np.log(2)

    def _classes(self, row: int) -> list[tuple[Any, Any, int]]:
        """Return (dimensions, the coder's model, its largest value) for each class of one row."""
        sizes, scales = self.size[row], self.coded_scale[row]
        found = []
        for size in np.unique(sizes):
            chosen = sizes == size
            reach = int(np.ceil((STORED if self.escapes else DRAWN) * scales[chosen].max())) + 1
            found.append((chosen, QuantizedGaussian(-reach, reach), reach))
        return found


class Levels(Conditional):
    """Levels 0 … K − 1 with given probabilities.

    Args:
        log_probs: (B, *event, K), in nats.

    Raises:
        FloatingPointError: a probability that is not finite.
    """

    def __init__(self, log_probs: Tensor) -> None:
        self.shape = log_probs.shape[:-1]
        self.log_probs = log_probs.flatten(1, -2).cpu().numpy()
        probabilities = np.exp(self.log_probs)
        if not np.isfinite(probabilities).all():
            raise FloatingPointError("a probability is not finite")
        self.probabilities = np.rint(probabilities * PROBABILITY_GRID) / PROBABILITY_GRID

    def draw(self, coder: Any, row: int) -> Integers:
        return coder.decode(Categorical(perfect=False), self.probabilities[row]).astype(np.int64)

    def store(self, coder: Any, row: int, values: Integers) -> None:
        coder.encode_reverse(values.astype(np.int32), Categorical(perfect=False), self.probabilities[row])

    def bits(self, values: Integers) -> Reals:
        return -np.take_along_axis(self.log_probs, values[..., None], -1)[..., 0].sum(1) / np.log(2)


def _digits(distance: int) -> NDArray[np.int32]:
    if distance >= ESCAPE**2:
        raise FloatingPointError("a latent is too far from where the model expects it")
    return np.array(divmod(distance, ESCAPE), np.int32)


def _rows(value: Tensor) -> Reals:
    if value.dtype != torch.float64:
        raise InvalidInput(f"a lossless code needs float64 throughout, and a conditional came in {value.dtype}")
    return value.flatten(1).cpu().numpy()
