"""A block: images whose batches are coded one after the other on one stack."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vdm.codec.batches import BatchCoder, Progress, Spent
from vdm.codec.chain import Chain
from vdm.codec.conditionals import Integers
from vdm.codec.container import Block, Header, checksum
from vdm.codec.stack import Exhausted, Stack
from vdm.errors import InvalidInput

SLACKS = (1, 8, 64)
"""Factors of the words kept ready for draws, tried one after the other until no draw reaches the bottom of the stack."""

UNDECODABLE = (FloatingPointError, Exhausted, KeyError, ValueError, OverflowError, IndexError, RuntimeError)
"""What a stack raises that another computation has written: values without probability, and too few or too many bits."""


PROBED = 4
"""Images that are coded one by one before the ramp is chosen."""

LARGEST_RAMP = 1000


class BlockCoder:
    """Encoder and decoder of the block of images that begins with number ``start``.

    Args:
        chain: the model.
        header: of the file.
        start: number of the block's first image.
        condition: (n, …) or None.
        progress: called with the share of the block.
        ramp: see ``Settings``; only the encoder needs it.
    """

    def __init__(
        self,
        chain: Chain,
        header: Header,
        start: int,
        condition: Tensor | None,
        progress: Progress,
        ramp: int | None = None,
    ) -> None:
        self.chain, self.header, self.start, self.condition, self.progress = chain, header, start, condition, progress
        self.ramp, self.images = ramp, min(header.block, header.images - start)

    def encode(self, x: Tensor) -> tuple[Block, Spent]:
        """Return the block of the levels x (n, *event), without names and conditions, and the bits of each image.

        Raises:
            InvalidInput: a model whose conditionals are not finite.
        """
        for slack in SLACKS:
            try:
                return self._encode(x, slack)
            except Exhausted:
                continue
            except FloatingPointError as error:
                raise InvalidInput(f"the model cannot code these images: {error}; train it further") from error
        raise InvalidInput("the model's draws need more bits than it expects at every attempt: train it further")

    def _encode(self, x: Tensor, slack: int) -> tuple[Block, Spent]:
        stack, ramp = Stack(None, f"{self.start}"), self.ramp
        spent, done = Spent(*np.zeros((3, len(x)))), 0
        while done < len(x):
            if ramp is None and done == PROBED:
                ramp = paying_ramp(spent.start.sum() / done, spent.net.sum() / done)
            size = batch_size(done, len(x), self.header.batch, PROBED if ramp is None else ramp)
            chosen = slice(len(x) - done - size, len(x) - done)
            report = self._reporter(done, size)
            found = self._coder(chosen, slack).encode(stack, x[chosen], f"{chosen.start}", report)
            for column, values in zip(spent, found, strict=True):
                column[chosen] = values
            done += size
        checksums = bytes(checksum(row) for row in x.flatten(1).cpu().numpy().astype(np.int64))
        return Block(stack.initial, slack, PROBED if ramp is None else ramp, stack.words(), checksums), spent

    def decode(self, block: Block) -> Integers:
        """Return the levels (n, D) of a block.

        Raises:
            InvalidInput: an image that cannot be decoded, or whose checksum differs, by its number; a stack that is not
                empty at the end.
        """
        stack, decoded = Stack(block.words, f"{self.start}"), []
        for chosen in self._batches(block.ramp):
            report = self._reporter(chosen.start, chosen.stop - chosen.start)
            try:
                levels = self._coder(chosen, block.slack).decode(stack, f"{chosen.start}", report)
            except UNDECODABLE as error:
                raise self._refusal(block, chosen.start, "cannot be decoded") from error
            for number, row in enumerate(levels, chosen.start):
                if checksum(row) != block.checksums[number]:
                    raise self._refusal(block, number, "has another checksum than the image that was compressed")
            decoded.append(levels)
        if not stack.is_initial(block.initial):
            raise self._refusal(block, self.images - 1, "or one before it is not the image that was compressed")
        return np.concatenate(decoded)

    def _batches(self, ramp: int) -> list[slice]:
        """Return the images of each batch in the order of decoding, which is the encoder's backwards."""
        batches, done = [], 0
        while done < self.images:
            size = batch_size(done, self.images, self.header.batch, ramp)
            batches.append(slice(self.images - done - size, self.images - done))
            done += size
        return batches[::-1]

    def _coder(self, chosen: slice, slack: int) -> BatchCoder:
        condition = None if self.condition is None else self.condition[chosen]
        return BatchCoder(self.chain, (chosen.stop - chosen.start, *self.header.shape), condition, slack)

    def _reporter(self, finished: int, size: int) -> Progress:
        return lambda share: self.progress((finished + share * size) / self.images)

    def _refusal(self, block: Block, number: int, what: str) -> InvalidInput:
        name = f" ({block.names[number]})" if block.names else ""
        return InvalidInput(f"image {self.start + number}{name} {what}")


def batch_size(done: int, images: int, batch: int, ramp: int) -> int:
    """Return the size of the encoder's next batch after ``done`` of ``images``: one for each ``ramp`` done, at least one.

    A ramp of 0 stands for full batches at once.
    """
    return min(images - done, batch, max(1, done // ramp) if ramp else batch)


def paying_ramp(start: float, net: float) -> int:
    """Return how many images have to be on the stack for each image of a batch, so that their bits pay for its draws.

    Args:
        start: bits that an image draws ahead of its stores, in the mean.
        net: mean bits of an image.
    """
    return int(np.clip(np.rint(start / max(net, 1.0)), PROBED // 2, LARGEST_RAMP))


def as_dtype(levels: Integers, shape: tuple[int, ...], dtype: str) -> NDArray:
    """Return decoded levels (n, D) as images (n, *shape) of the type that they were compressed from."""
    return levels.reshape(len(levels), *shape).astype(dtype)
