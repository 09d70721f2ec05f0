"""Mean and covariance of a data set's features, kept in files so that they are measured once."""

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
    """Of N features (N, F), in float64: N, their mean (F,), and their covariance (F, F) with N − 1 below."""

    examples: int
    mean: Tensor
    covariance: Tensor

    @classmethod
    def from_sums(cls, examples: int, total: Tensor, outer: Tensor) -> "Moments":
        """From Σ f, (F,), and Σ f fᵀ, (F, F)."""
        mean = total / examples
        return cls(examples, mean, (outer - examples * torch.outer(mean, mean)) / (examples - 1))

    def sums(self) -> tuple[int, Tensor, Tensor]:
        """What they are made from: N, Σ f, Σ f fᵀ."""
        n, mean, covariance = self
        return n, n * mean, (n - 1) * covariance + n * torch.outer(mean, mean)


def moments_file(folder: Path, about: Mapping[str, object]) -> Path:
    """Where the moments of what ``about`` describes are kept: the name is a hash of it."""
    return folder / f"{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]}.npz"


def write_moments(folder: Path, about: Mapping[str, object], moments: Moments) -> None:
    """Keep the moments, whole or not at all, with what they are of."""
    buffer, (examples, mean, covariance) = io.BytesIO(), moments
    described = json.dumps(about, sort_keys=True)
    np.savez(buffer, about=described, examples=examples, mean=mean.cpu().numpy(), covariance=covariance.cpu().numpy())
    write_atomically(moments_file(folder, about), buffer.getvalue())


def read_moments(folder: Path, about: Mapping[str, object]) -> Moments | None:
    """The moments kept of what ``about`` describes; None if there are none, or the file is broken."""
    try:
        with np.load(moments_file(folder, about), allow_pickle=False) as file:
            if str(file["about"]) != json.dumps(about, sort_keys=True):
                return None
            return Moments(int(file["examples"]), torch.from_numpy(file["mean"]), torch.from_numpy(file["covariance"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
