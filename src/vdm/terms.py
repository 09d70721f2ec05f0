"""Names, labels and the unit of the terms of a bound."""

import math

from torch import Tensor

TERM_LABELS = {
    "bits_per_dim": "total",
    "reconstruction": "reconstruction",
    "prior_matching": "prior matching",
    "denoising_matching": "denoising matching",
}
"""The terms that every bound reports, by key, with their labels for people."""

TERMS = tuple(TERM_LABELS)

AUXILIARY = "auxiliary_kl"
"""The key of the KL of an auxiliary latent, the fourth term of a bound that has one."""

LABELS = TERM_LABELS | {AUXILIARY: "auxiliary latent"}
"""Labels of all terms that a bound may report."""


def term_names(entries: int) -> tuple[str, ...]:
    """Return the keys of ``Elbo.terms()`` for ``matching`` (B, entries): one key a layer if there are several."""
    return TERMS + tuple(f"layer_{t}" for t in range(1, entries + 1) if entries > 1)


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """Convert nats per example to bits per dimension: nats / (D ln 2)."""
    return nats / (dims * math.log(2))
