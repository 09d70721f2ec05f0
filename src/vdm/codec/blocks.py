"""A block: images whose batches are coded one after the other on one stack."""

from collections.abc import Iterator

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

UNDECODABLE = (FloatingPointError, Exhausted, KeyError, ValueError, OverflowError, IndexError)
"""What a stack raises that another computation has written: values without probability, and too few or too many bits."""


class BlockCoder:
    """Encoder and decoder of the block of images that begins with number ``start``.

    Args:
        chain: the model.
        header: of the file.
        start: number of the block's first image.
        condition: (n, …) or None.
        progress: called with the share of the block.
    """

    def __init__(self, chain: Chain, header: Header, start: int, condition: Tensor | None, progress: Progress) -> None:
        self.chain, self.header, self.start, self.condition, self.progress = chain, header, start, condition, progress
        self.images = min(header.block, header.images - start)

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
        stack = Stack(None, f"{self.start}")
        levels = x.flatten(1).cpu().numpy().astype(np.int64)
        net, path = np.zeros(len(x)), np.zeros(len(x))
        for chosen, coder in reversed([*self._batches(slack)]):
            finished = self.images - chosen.stop
            report = self._reporter(finished, chosen)
            net[chosen], path[chosen] = coder.encode(stack, x[chosen], f"{chosen.start}", report)
        checksums = bytes(checksum(row) for row in levels)
        return Block(stack.initial, slack, stack.words(), checksums), Spent(net, path)

    def decode(self, block: Block) -> Integers:
        """Return the levels (n, D) of a block.

        Raises:
            InvalidInput: an image that cannot be decoded, or whose checksum differs, by its number; a stack that is not
                empty at the end.
        """
        stack, decoded = Stack(block.words, f"{self.start}"), []
        for chosen, coder in self._batches(block.slack):
            try:
                levels = coder.decode(stack, f"{chosen.start}", self._reporter(chosen.start, chosen))
            except UNDECODABLE as error:
                raise self._refusal(block, chosen.start, "cannot be decoded") from error
            for number, row in enumerate(levels, chosen.start):
                if checksum(row) != block.checksums[number]:
                    raise self._refusal(block, number, "has another checksum than the image that was compressed")
            decoded.append(levels)
        if not stack.is_initial(block.initial):
            raise self._refusal(block, self.images - 1, "or one before it is not the image that was compressed")
        return np.concatenate(decoded)

    def _batches(self, slack: int) -> Iterator[tuple[slice, BatchCoder]]:
        """Yield the images and the coder of each batch, in the order of decoding."""
        start = 0
        for size in batch_sizes(self.images, self.header.batch, self.header.ramp):
            chosen = slice(start, start + size)
            condition = None if self.condition is None else self.condition[chosen]
            yield chosen, BatchCoder(self.chain, (size, *self.header.shape), condition, slack)
            start += size

    def _reporter(self, finished: int, chosen: slice) -> Progress:
        return lambda share: self.progress((finished + share * (chosen.stop - chosen.start)) / self.images)

    def _refusal(self, block: Block, number: int, what: str) -> InvalidInput:
        name = f" ({block.names[number]})" if block.names else ""
        return InvalidInput(f"image {self.start + number}{name} {what}")


def batch_sizes(images: int, batch: int, ramp: int) -> list[int]:
    """Return the sizes of a block's batches in the order of decoding; the encoder goes through them backwards.

    The encoder's batches grow with the number of images that are on the stack already, whose bits pay for the draws.
    """
    sizes: list[int] = []
    done = 0
    while done < images:
        most = min(batch, max(1, done // ramp)) if ramp else batch
        sizes.append(min(most, images - done))
        done += sizes[-1]
    return sizes[::-1]


def as_dtype(levels: Integers, shape: tuple[int, ...], dtype: str) -> NDArray:
    """Return decoded levels (n, D) as images (n, *shape) of the type that they were compressed from."""
    return levels.reshape(len(levels), *shape).astype(dtype)
