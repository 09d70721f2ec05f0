"""Conditionals over integers, as the entropy coder sees them: Gaussians over bins, and levels.

Means and scales are rounded to grids, far coarser than float64's errors and far finer than any cost in bits, so that a
result whose last digits differ codes the same. The bits that (1.46) counts are those of the unrounded conditional.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
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

CORE = 4.25
"""Standard deviations up to which the coder's 24 bits give a bin its mass; a value beyond is coded in a second step."""

STAGE = 9.0
"""Nats by which the density falls in one stage of a tail; a value beyond it is coded in the next stage."""

STAGES = 16
"""Stages of a tail, to about 17 standard deviations."""

FAR = 2**20
"""A value beyond all stages is its distance, two digits of this base."""

CLASSES = 4
"""Classes of standard deviations in a factor of two, each with its own reach of the core."""

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

    Each row's dimensions are coded in classes of similar standard deviation, so that the coder's least counts, one a bin,
    stay far below the mass. Values in the tails, some in a million, are coded by the tail's own masses in a second step.

    Args:
        kernel: of B rows.
        width: of the bins.

    Raises:
        FloatingPointError: a mean or standard deviation that is not finite.
    """

    def __init__(self, kernel: Independent, width: float) -> None:
        self.mean, self.scale = (_rows(part) / width for part in (kernel.mean, kernel.stddev))
        if not (np.isfinite(self.mean).all() and np.isfinite(self.scale).all() and abs(self.mean).max() < 2.0**50):
            raise FloatingPointError("a mean or standard deviation is not finite")
        self.centre = np.rint(self.mean)
        self.offset = np.rint((self.mean - self.centre) * MEAN_GRID) / MEAN_GRID
        exponent = np.rint(np.clip(np.log2(self.scale), *SCALES) * SCALE_GRID) / SCALE_GRID
        self.coded_scale, self.size = np.exp2(exponent), np.ceil(CLASSES * exponent).astype(int)
        self.shape = kernel.mean.shape
        self.expected_bits = float((exponent + GAUSSIAN_BITS).clip(0).sum())

    def draw(self, coder: Any, row: int) -> Integers:
        offsets = np.empty(self.dims, np.int64)
        for chosen, family, reach in self._classes(row):
            drawn = coder.decode(family, self.offset[row][chosen], self.coded_scale[row][chosen]).astype(np.int64)
            for i in np.flatnonzero(abs(drawn) == reach):
                drawn[i] += np.sign(drawn[i]) * self._draw_beyond(coder, row, chosen[i], int(drawn[i]))
            offsets[chosen] = drawn
        return self.centre[row].astype(np.int64) + offsets

    def store(self, coder: Any, row: int, values: Integers) -> None:
        offsets = values - self.centre[row].astype(np.int64)
        for chosen, family, reach in reversed(self._classes(row)):
            stored = offsets[chosen]
            core = stored.clip(-reach, reach)
            for i in np.flatnonzero(abs(core) == reach)[::-1]:
                self._store_beyond(coder, row, chosen[i], int(core[i]), int(abs(stored[i] - core[i])))
            coder.encode_reverse(core.astype(np.int32), family, self.offset[row][chosen], self.coded_scale[row][chosen])

    def bits(self, values: Integers) -> Reals:
        distance = values - self.mean
        lower, upper = (distance - 0.5) / self.scale, (distance + 0.5) / self.scale
        reflect = distance > 0
        near = log_ndtr(np.where(reflect, -lower, upper))
        far = log_ndtr(np.where(reflect, -upper, lower))
        return -(near + np.log(-np.expm1(far - near))).sum(1) / np.log(2)

    def _classes(self, row: int) -> list[tuple[NDArray[np.intp], Any, int]]:
        """Return (dimensions, the coder's model, the reach of its core) for each class of one row."""
        sizes, scales = self.size[row], self.coded_scale[row]
        found = []
        for size in np.unique(sizes):
            chosen = np.flatnonzero(sizes == size)
            reach = int(np.ceil(CORE * scales[chosen].max()))
            found.append((chosen, QuantizedGaussian(-reach, reach), reach))
        return found

    def _draw_beyond(self, coder: Any, row: int, dim: int, end: int) -> int:
        """Remove the distance of a value from ``end`` = ±reach, outwards."""
        distance = 0
        for probabilities in self._tail(row, dim, end):
            step = int(coder.decode(Categorical(probabilities, perfect=False)))
            distance += step
            if step < len(probabilities) - 1:
                return distance
        high, low = (int(digit) for digit in coder.decode(Uniform(FAR), 2))
        return distance + high * FAR + low

    def _store_beyond(self, coder: Any, row: int, dim: int, end: int, distance: int) -> None:
        steps = []
        for probabilities in self._tail(row, dim, end):
            last = len(probabilities) - 1
            steps.append((min(distance, last), probabilities))
            if distance < last:
                break
            distance -= last
        else:
            coder.encode_reverse(_digits(distance), Uniform(FAR))
        for step, probabilities in reversed(steps):
            coder.encode_reverse(step, Categorical(probabilities, perfect=False))

    def _tail(self, row: int, dim: int, end: int) -> Iterator[Reals]:
        """Yield the probabilities of the bins of each stage from ``end`` outwards, and last of all bins beyond it.

        Each stage is given that the value is there or beyond.
        """
        scale, start = self.coded_scale[row, dim], abs(end)
        for _ in range(STAGES):
            bins = np.arange(int(np.ceil(STAGE * scale**2 / start)) + 1)
            beyond = log_ndtr(-(start - 0.5 + bins - np.sign(end) * self.offset[row, dim]) / scale)
            shares = np.exp(beyond - beyond[0])
            yield np.rint(np.append(shares[:-1] - shares[1:], shares[-1]) * PROBABILITY_GRID) / PROBABILITY_GRID
            start += len(bins) - 1


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
    if distance >= FAR**2:
        raise FloatingPointError("a latent is too far from where the model expects it")
    return np.array(divmod(distance, FAR), np.int32)


def _rows(value: Tensor) -> Reals:
    if value.dtype != torch.float64:
        raise InvalidInput(f"a lossless code needs float64 throughout, and a conditional came in {value.dtype}")
    return value.flatten(1).cpu().numpy()
