"""What would make a number look better, or more certain, than it is: each a sentence for people, or None.

The sentences stand below the table on the screen and as ``warnings`` in metrics.json.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from vdm.bound import VariationalModel
from vdm.estimate import Estimate
from vdm.models import VDM
from vdm.runs.provenance import changed_splits

LARGE_PRIOR = 0.01
"""Bits/dim of prior matching above which γ_max is called too small; at γ_max = 5 it is about 0.003 for images."""

QUOTED = 0.01
"""The second decimal of bits/dim, to which papers quote it."""

ERRORS = 4
"""How many standard errors below a known entropy a bound has to be for it to be called impossible."""


@runtime_checkable
class KnownEntropy(Protocol):
    """Data whose density may be known."""

    def entropy(self, split: str) -> tuple[float, float] | None:
        """(mean of −log p over a split, its standard error), in bits/dim; None where p is unknown."""


def warnings(
    model: VariationalModel, own: Mapping[str, Estimate], others: Sequence[Estimate], data: object, facts: Mapping[str, Any]
) -> list[str]:
    """All that is to be said of the bound ``own``, term by term, and of the headlines of ``others``.

    Args:
        data: the data module.
        facts: the provenance, with ``data`` and ``split``; and what was trained on in ``trained_on``, if it is known.
    """
    split, about = facts["split"], facts["data"]
    found = [
        *(not_finite(estimate) for estimate in (own["bits_per_dim"], *others)),
        trained_on(about, split),
        other_data(about, facts.get("trained_on")),
        mirrored(about),
        large_prior(model, own),
        uncertain(own["bits_per_dim"]),
    ]
    known = data.entropy(split) if isinstance(data, KnownEntropy) else None
    if known is not None:
        found += [impossible(estimate, known[0]) for estimate in (own["bits_per_dim"], *others)]
    return [sentence for sentence in found if sentence is not None]


def above_entropy(estimate: Estimate, data: object, split: str) -> str | None:
    """How far a bound is from the answer, where the data's density is known."""
    known = data.entropy(split) if isinstance(data, KnownEntropy) else None
    if known is None:
        return None
    gap = estimate.value - known[0]
    return f"−log p of these examples is known: {known[0]:.4f} bits/dim; the bound is {gap:.4f} above it"


def not_finite(estimate: Estimate) -> str | None:
    """A number that is none."""
    if math.isfinite(estimate.value):
        return None
    return f"{estimate.value} bits/dim is no result: a weight or an example is not finite"


def trained_on(about: Mapping[str, Any], split: str) -> str | None:
    """Examples of the evaluated split that are in the training split as well."""
    if split == "train":
        return "this is the bound of the training examples, not of unseen ones"
    count, size = about["splits"][split].get("in_training"), about["splits"][split]["size"]
    if not count:
        return None
    return f"{count:,} of the {size:,} {split} examples occur in the training split, byte for byte: the bound is too good"


def other_data(about: Mapping[str, Any], trained: Any) -> str | None:
    """Training data that are no longer those that the checkpoint was trained on, if what it says of them can be read."""
    changed = changed_splits(about, trained)
    if not changed:
        return None
    return f"the data are not those of training: other bytes in {', '.join(changed)}; the test may have been trained on"


def mirrored(about: Mapping[str, Any]) -> str | None:
    """Training on mirrored images, which is another data set."""
    if not about.get("flip"):
        return None
    return "trained on mirrored images as well: compare with other augmented models only"


def large_prior(model: VariationalModel, own: Mapping[str, Estimate]) -> str | None:
    """A diffusion that ends before the data are gone."""
    value = own["prior_matching"].value
    if not isinstance(model, VDM) or value <= LARGE_PRIOR:
        return None
    return f"prior matching costs {value:.3f} bits/dim, more than {LARGE_PRIOR}: raise gamma_max, so that x_T is noise"


def uncertain(estimate: Estimate) -> str | None:
    """An error bar over the draws that leaves the second decimal open."""
    error = estimate.mc_se
    if not error > QUOTED:
        return None
    return (
        f"the error bar over the draws, {error:.2g} bits/dim, is wider than the second decimal: "
        f"{(error / QUOTED) ** 2:.2g} times the draws would do (repeats=…)"
    )


def impossible(estimate: Estimate, entropy: float) -> str | None:
    """A codelength below the known mean of −log p of the same examples by more than chance allows."""
    error = math.hypot(estimate.mc_se, estimate.data_se)
    below = entropy - estimate.value
    if not (math.isfinite(entropy) and below > ERRORS * error):  # of one example there is no error, and no verdict
        return None
    return (
        f"{estimate.value:.4f} bits/dim is {below / error:.0f} standard errors better than the data's own entropy of "
        f"{entropy:.4f}, which nothing can be: look for an error"
        if error > 0
        else f"{estimate.value:.4f} bits/dim is better than the data's own entropy of {entropy:.4f}: look for an error"
    )
