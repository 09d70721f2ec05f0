"""Names, labels and the unit of the terms of a bound."""

import math

from torch import Tensor

TERM_LABELS = {
    "bits_per_dim": "total",
    "reconstruction": "reconstruction",
    "prior_matching": "prior matching",
    "denoising_matching": "denoising matching",
}

TERMS = ("bits_per_dim", "reconstruction", "prior_matching", "denoising_matching")
"""The reported numbers of every bound."""


def term_names(columns: int) -> tuple[str, ...]:
    """Keys of ``Elbo.terms()`` with so many columns of ``matching``: one entry a layer where there are several."""
    return TERMS + tuple(f"layer_{t}" for t in range(1, columns + 1) if columns > 1)


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """nats / (D ln 2): a codelength in nats per example, as bits per dimension."""
    return nats / (dims * math.log(2))
