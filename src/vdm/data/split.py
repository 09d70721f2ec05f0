"""One part of a data set, in memory or in a file."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vdm.data.stored import Rows, pieces
from vdm.errors import InvalidInput

SHARE = 0.25  # share of an accelerator's free memory that a split may take


class Split(NamedTuple):
    """Examples (N, *event), conditions (N, …) or None, and the examples' fingerprint if it is known already.

    ``x`` is a tensor or, for examples that stay in a file, ``StoredRows``, which read what is asked for.
    """

    x: Any
    condition: Tensor | None = None
    known: str | None = None

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of the SHA-256 of shape, type and bytes of ``x``, and of the conditions if any."""
        examples = _digest(self.x) if self.known is None else self.known
        if self.condition is None:
            return examples
        return hashlib.sha256(f"{examples} {_digest(self.condition)}".encode()).hexdigest()[:16]

    def first(self, n: int) -> "Split":
        """Return the first ``n`` examples in memory, or all if there are fewer."""
        return Split(self.x[:n].clone(), None if self.condition is None else self.condition[:n])

    def on(self, device: torch.device) -> "Split":
        """Return the split in the memory of ``device``."""
        return Split(self.x.to(device), None if self.condition is None else self.condition.to(device), self.known)


def _digest(values: Rows) -> str:
    digest = hashlib.sha256(f"{tuple(values.shape)} {values.dtype}".encode())
    for piece in pieces(values):
        digest.update(piece.cpu().contiguous().numpy().data)
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
