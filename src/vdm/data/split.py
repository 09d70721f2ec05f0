"""One part of a data set, and where it lies."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vdm.errors import InvalidInput

SHARE = 0.25
"""Of an accelerator's free memory, what a split may take there."""


class Split(NamedTuple):
    """Examples (N, *event), conditions (N, …) or None, and the examples' fingerprint where it is known beforehand.

    ``x`` may be a memory-mapped file: it is then read as batches ask for it.
    """

    x: Tensor
    condition: Tensor | None = None
    known: str | None = None

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of the shape, type and bytes of ``x``, and of the conditions if any."""
        examples = _digest(self.x) if self.known is None else self.known
        if self.condition is None:
            return examples
        return hashlib.sha256(f"{examples} {_digest(self.condition)}".encode()).hexdigest()[:16]

    def on(self, device: torch.device) -> "Split":
        """The same in the memory of ``device``."""
        return Split(self.x.to(device), None if self.condition is None else self.condition.to(device), self.known)


def _digest(values: Tensor) -> str:
    digest = hashlib.sha256(f"{tuple(values.shape)} {values.dtype}".encode())
    digest.update(values.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def fits(split: Split, device: torch.device) -> bool:
    """Whether ``device`` is an accelerator with room for the split beside what training needs."""
    return device.type == "cuda" and split.x.nbytes <= SHARE * torch.cuda.mem_get_info(device)[0]


def cut(train: Sequence[Tensor], test: Sequence[Tensor], size: int, labels: bool) -> dict[str, Split]:
    """The first ``size`` training (images, classes) train, the rest validate; classes become conditions or are dropped."""
    parts = {"train": [part[:size] for part in train], "val": [part[size:] for part in train], "test": test}
    return {name: Split(x, label.long() if labels else None) for name, (x, label) in parts.items()}


def classes(label: Any, number: int, path: Path, first: int = 0) -> np.ndarray:
    """Classes 0 … ``number`` − 1, int64, (n,), from the labels that a file has for its images, which count from ``first``.

    Raises:
        InvalidInput: anything but whole numbers of that range, in a row.
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
