"""Mean and covariance of a data set's features, cached in files so that they are measured once."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vdm.runs.files import write_atomically


class Moments(NamedTuple):
    """Of N feature vectors (N, F) in float64: N, the mean (F,), and the covariance (F, F) with divisor N − 1."""

    examples: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def from_sums(cls, examples: int, total: Tensor, outer: Tensor) -> "Moments":
        """Compute the moments from Σ f (F,) and Σ f fᵀ (F, F)."""
        mean = total / examples
        return cls(examples, mean, (outer - examples * torch.outer(mean, mean)) / (examples - 1))

    def sums(self) -> tuple[int, Tensor, Tensor]:
        """Return N, Σ f and Σ f fᵀ, the arguments of ``from_sums``."""
        n, mean, covariance = self
        return n, n * mean, (n - 1) * covariance + n * torch.outer(mean, mean)


def moments_file(folder: Path, about: Mapping[str, object]) -> Path:
    """Return the cache file for the data, levels and network in ``about``, named by a hash of them."""
    return folder / f"{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]}.npz"


def write_moments(folder: Path, about: Mapping[str, object], moments: Moments) -> None:
    """Write the moments and their description atomically."""
    buffer, (examples, mean, covariance) = io.BytesIO(), moments
    described = json.dumps(about, sort_keys=True)
    np.savez(buffer, about=described, examples=examples, mean=mean.cpu().numpy(), covariance=covariance.cpu().numpy())
    write_atomically(moments_file(folder, about), buffer.getvalue())


def read_moments(folder: Path, about: Mapping[str, object]) -> Moments | None:
    """Return the cached moments for ``about``, or None if the file is missing, damaged or of something else."""
    try:
        with np.load(moments_file(folder, about), allow_pickle=False) as file:
            if str(file["about"]) != json.dumps(about, sort_keys=True):
                return None
            return Moments(int(file["examples"]), torch.from_numpy(file["mean"]), torch.from_numpy(file["covariance"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
