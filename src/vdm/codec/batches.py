"""Bits-back coding of one batch on a stack, and its exact mirror."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vdm.codec.chain import Chain
from vdm.codec.conditionals import BinnedGaussian, Conditional, Integers, Levels, Reals
from vdm.codec.stack import PRECISION, WORD, Stack
from vdm.models.coding import DATA_LIKE, CodingStep

Progress = Callable[[float], object]
"""Called with the share of the work that is done, 0 … 1."""

DEVIATIONS = 8.0
"""Standard deviations of the bits of a phase of draws that are kept ready beyond the expected bits."""

DEVIATION_BITS = math.log2(math.e) / math.sqrt(2)
"""Standard deviation of the bits of one Gaussian draw."""


class Spent(NamedTuple):
    """Bits that each image of a batch has cost, (B,) each.

    Attributes:
        net: by the coder's own state: stores less draws.
        path: −(1.46) on the very latents, from the exact masses of their bins.
        start: bits that were drawn ahead of the stores, at most; an equal share of the batch's.
    """

    net: Reals
    path: Reals
    start: Reals


class BatchCoder:
    """Encoder and decoder of one batch of examples.

    Args:
        chain: the model.
        shape: (B, *event).
        condition: (B, …) or None.
        slack: factor of the words that are kept ready for draws beyond the expected number.
    """

    def __init__(self, chain: Chain, shape: tuple[int, ...], condition: Tensor | None, slack: int) -> None:
        self.chain, self.slack, self.rows = chain, slack, range(shape[0])
        self.steps = chain.coding_steps(condition)
        self.like = torch.zeros(shape, dtype=torch.float64)

    @torch.no_grad()
    def encode(self, stack: Stack, x: Tensor, name: str, progress: Progress) -> Spent:
        """Store the levels x (B, *event) on the stack.

        Raises:
            Exhausted: too few words for a phase of draws: use more slack.
            FloatingPointError: a conditional that is not finite.
        """
        known = {DATA_LIKE: self.like, 0: self.chain.encode(x)}
        values = {0: x.flatten(1).cpu().numpy().astype(np.int64)}
        net, path, start = np.zeros(len(self.rows)), np.zeros(len(self.rows)), 0.0
        for number, step in enumerate(self.steps):
            given, t = self._conditional(step, known), step.variable
            if step.draws:
                count = self._words_ready(given)
                stack.supply(count)
                stack.whiten(count, f"{name} {number}")
                values[t] = np.empty((len(self.rows), given.dims), np.int64)
            for row in self.rows:
                before = stack.bits
                if step.draws:
                    values[t][row] = given.draw(stack.coder, row)
                else:
                    given.store(stack.coder, row, values[t][row])
                net[row] += stack.bits - before
            path += (-1 if step.draws else 1) * given.bits(values[t])
            if step.draws:
                stack.check_not_empty()
                known[t] = self._reals(given, values[t], t)
            else:
                del known[t], values[t]
            start = max(start, -net.mean())
            progress((number + 1) / len(self.steps))
        return Spent(net, path, np.full(len(net), start))

    @torch.no_grad()
    def decode(self, stack: Stack, name: str, progress: Progress) -> Integers:
        """Undo ``encode`` and return the levels, (B, D).

        Raises:
            Exhausted, FloatingPointError: a stack that this chain has not written.
        """
        known = {DATA_LIKE: self.like}
        values: dict[int, Integers] = {}
        for number, step in reversed([*enumerate(self.steps)]):
            t = step.variable
            if step.draws:
                del known[t]
                given, stored = self._conditional(step, known), values.pop(t)
                for row in reversed(self.rows):
                    given.store(stack.coder, row, stored[row])
                stack.whiten(self._words_ready(given), f"{name} {number}")
            else:
                given = self._conditional(step, known)
                values[t] = np.stack([given.draw(stack.coder, row) for row in reversed(self.rows)][::-1])
                known[t] = self._reals(given, values[t], t)
            progress(1 - number / len(self.steps))
        return values[0]

    def _conditional(self, step: CodingStep, known: dict[int, Tensor]) -> Conditional:
        given = step.conditional(known)
        if isinstance(given, Tensor):
            return Levels(given)
        return BinnedGaussian(given, self.chain.width(step.variable))

    def _reals(self, given: Conditional, values: Integers, t: int) -> Tensor:
        """Return z_t of its bins, or x_0 of levels, (B, *shape) in float64."""
        numbers = torch.from_numpy(values).view(given.shape).double()
        return numbers * self.chain.width(t) if t else self.chain.encode(numbers)

    def _words_ready(self, given: Conditional) -> int:
        """Return how many words a phase of draws may read: the expected ones, and a margin that is hardly ever needed."""
        spread = DEVIATIONS * DEVIATION_BITS * math.sqrt(len(self.rows) * given.dims) + PRECISION
        return math.ceil((given.expected_bits + self.slack * spread) / WORD) + 1
