"""Count the examples that two splits share."""

from collections.abc import Iterator

from torch import Tensor

LIMIT = 2**30
"""Bytes of training examples above which they are not compared."""


def shared(x: Tensor, training: Tensor, limit: int = LIMIT) -> int | None:
    """Count the examples x (N, *event) that are, byte for byte, among the training examples (M, *event).

    Compares 64-bit hashes of the bytes, random for each process: a false match has probability N M / 2⁶⁴. None if there are
    more than ``limit`` bytes.
    """
    if training.nbytes > limit:
        return None
    known = set(_hashes(training))
    return sum(one in known for one in _hashes(x))


def _hashes(x: Tensor) -> Iterator[int]:
    for rows in x.split(4096):
        for row in rows.flatten(1).contiguous().cpu().numpy():
            yield hash(row.tobytes())
