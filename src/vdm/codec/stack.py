"""A stack of bits: an entropy coder whose content can be drawn from as well as stored on.

The words below the coder's state are made random before every phase of draws. A draw reads the bits that the last store
wrote, which are the position of a latent within p; drawn from unchanged, the next latent would not be a sample of q but a
function of the one before, which is lossless and costs several times the bound. The exclusive or with a stream that both
sides know is exact, and undone by repeating it.
"""

import hashlib
import math

import constriction
import numpy as np
from numpy.typing import NDArray

from vdm.errors import InvalidInput

AnsCoder = constriction.stream.stack.AnsCoder

WORD = 32
"""Bits of a word of the stack."""

PRECISION = 24
"""Bits of the coder's probabilities: no event costs more, and no more are read by one draw."""

Words = NDArray[np.uint32]


class Exhausted(Exception):
    """Draws have used up the stack, which began with too few bits."""


class Stack:
    """Bits as 32-bit words, drawn and stored at the top.

    Args:
        words: the content, the top last; None for a new stack.
        salt: name of this stack among those of a file, so that no two use the same stream.
    """

    def __init__(self, words: Words | None, salt: str) -> None:
        self.salt, self.initial = salt, 0
        self.coder = AnsCoder() if words is None else AnsCoder(words)

    @property
    def bits(self) -> float:
        """The information in the stack, not rounded to bits."""
        position, state = self.coder.pos()
        return WORD * position + math.log2(max(1, state))

    def words(self) -> Words:
        """Return the content, the top last."""
        return self.coder.get_compressed()

    def supply(self, count: int) -> None:
        """Add random words below the content until there are ``count`` and one more; they count as initial bits."""
        words = self.words()
        missing = count + 1 - len(words)
        if missing > 0:
            self.initial += missing
            added = initial_words(self.initial, self.salt)[:missing]
            self.coder = AnsCoder(np.concatenate([added, words]))

    def whiten(self, count: int, name: str) -> None:
        """Exclusive-or ``count`` words below the topmost one with the stream ``name``; the same call undoes it."""
        words = self.words()
        if len(words) <= count:
            raise Exhausted
        words[len(words) - 1 - count : -1] ^= stream(count, self.salt, name)
        self.coder = AnsCoder(words)

    def check_not_empty(self) -> None:
        """Raise Exhausted if draws have reached the bottom."""
        if not self.coder.pos()[0]:
            raise Exhausted

    def is_initial(self, count: int) -> bool:
        """Whether the content is what a new stack with ``count`` initial words has."""
        return np.array_equal(self.words(), initial_words(count, self.salt))


def stream(count: int, *key: str) -> Words:
    """Return ``count`` words that look random, the same for the same key on every machine."""
    return np.frombuffer(hashlib.shake_128("\n".join(key).encode()).digest(4 * count), "<u4").astype(np.uint32)


def initial_words(count: int, salt: str) -> Words:
    """Return the first ``count`` initial words from the bottom up; the topmost is not zero, as the coder requires."""
    words = stream(count, salt, "initial")
    words[:1] |= 1
    return words[::-1].copy()


def read_words(content: bytes) -> Words:
    """Return the words of a stack that was written as little-endian bytes.

    Raises:
        InvalidInput: bytes that were not written by ``Stack``.
    """
    words = np.frombuffer(content, "<u4").astype(np.uint32)
    if len(words) and not words[-1]:
        raise InvalidInput("its code ends with a word of zeros")
    return words
