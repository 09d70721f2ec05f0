"""One part of a data set, in memory or in a memory-mapped file."""

import hashlib
import os
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vdm.errors import InvalidInput

SHARE = 0.25  # share of an accelerator's free memory that a split may take


class Split(NamedTuple):
    """Examples (N, *event), conditions (N, …) or None, and the examples' fingerprint if it is known already.

    ``x`` may map an open ``file`` of bytes into memory: it is then read as batches ask for it, and worker processes get the
    open file instead of a copy.
    """

    x: Tensor
    condition: Tensor | None = None
    known: str | None = None
    file: IO[bytes] | None = None

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of shape, type and bytes of ``x``, and of the conditions if any."""
        examples = _digest(self.x) if self.known is None else self.known
        if self.condition is None:
            return examples
        return hashlib.sha256(f"{examples} {_digest(self.condition)}".encode()).hexdigest()[:16]

    def on(self, device: torch.device) -> "Split":
        """Return the split in the memory of ``device``."""
        return Split(self.x.to(device), None if self.condition is None else self.condition.to(device), self.known)

    def __reduce__(self) -> tuple[Any, ...]:
        """Hand over the file's descriptor to a worker process; tensors in memory go by shared memory."""
        if self.file is None:
            return Split, tuple(self)
        return _mapped_split, (DupFd(self.file.fileno()), tuple(self.x.shape), self.condition, self.known)


def _mapped_split(descriptor: Any, shape: tuple[int, ...], condition: Tensor | None, known: str | None) -> Split:
    file = os.fdopen(descriptor.detach(), "rb")
    return Split(mapped(file, shape), condition, known, file)


def mapped(file: IO[bytes] | Path, shape: tuple[int, ...]) -> Tensor:
    """Map a file of bytes as a uint8 tensor; writes to the tensor do not reach the file.

    Raises:
        ValueError, OSError: a missing file, or one of another size.
    """
    return torch.from_numpy(np.memmap(file, np.uint8, mode="c", shape=shape))


def _digest(values: Tensor) -> str:
    digest = hashlib.sha256(f"{tuple(values.shape)} {values.dtype}".encode())
    digest.update(values.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def fits(split: Split, device: torch.device) -> bool:
    """Return whether ``device`` is an accelerator with room for the split beside what training needs."""
    return device.type == "cuda" and split.x.nbytes <= SHARE * torch.cuda.mem_get_info(device)[0]


def classes(label: Any, number: int, path: Path, first: int = 0) -> np.ndarray:
    """Return classes 0 … ``number`` − 1, int64, (n,), from a file's labels, which count from ``first``.

    Raises:
        InvalidInput: labels that are not one whole number of that range for each image.
    """
    try:
        found = np.asarray(label)
    except ValueError:  # lists of unequal lengths
        found = np.empty(())
    if found.ndim != 1 or found.dtype.kind not in "iuf" or not np.isin(found, np.arange(first, first + number)).all():
        raise InvalidInput(
            f"the labels in {path} are not one whole number from {first} to {first + number - 1} for each image: get it "
            "again"
        )
    return found.astype(np.int64) - first
