"""Warnings about anything that makes a number look better, or more certain, than it is.

Each check returns a sentence or None. The sentences are printed below the table and stored as ``warnings`` in metrics.json.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from vdm.bound import VariationalModel
from vdm.estimate import FEW, Estimate
from vdm.likelihoods import LevelLikelihood
from vdm.models import DiffusionModel
from vdm.runs.provenance import changed_splits

LARGE_PRIOR = 0.01
"""Prior matching in bits/dim above which γ_max is too small; at γ_max = 5 it is about 0.003 for images."""

LARGE_RECONSTRUCTION = 0.1
"""Reconstruction in bits/dim above which x_1 is too noisy to tell the levels apart; 0.015 at γ_min = −2 log 3K."""

HEAVY = 0.2
"""Skewness of a mean over the draws above which a few large draws decide it; its interval is not trusted far beyond."""

QUOTED = 0.01
"""Precision in bits/dim to which papers quote the bound: the second decimal."""

ERRORS = 4
"""Number of standard errors below a known entropy beyond which a bound is impossible."""


@runtime_checkable
class KnownEntropy(Protocol):
    """A data module whose density may be known."""

    def entropy(self, split: str) -> tuple[float, float] | None:
        """Return the mean of −log p over a split and its standard error, in bits/dim; None if p is unknown."""


def warnings(
    model: VariationalModel,
    own: Mapping[str, Estimate],
    others: Mapping[str, Mapping[str, Estimate]],
    data: object,
    facts: Mapping[str, Any],
) -> list[str]:
    """Return the warnings that apply to a result.

    Args:
        own: the bound by term.
        others: the other estimates by term, by name; each has ``bits_per_dim``.
        data: the data module.
        facts: the provenance, with ``data`` and ``split``, and with the training data in ``trained_on`` if known, and the
            scores of samples in ``samples``.
    """
    split, about, total = facts["split"], facts["data"], own["bits_per_dim"]
    headlines = [total, *(terms["bits_per_dim"] for terms in others.values())]
    found = [
        not_finite({"bound": own, **others}, facts.get("samples", {})),
        trained_on(about, split),
        other_data(about, facts.get("trained_on")),
        mirrored(about),
        augmented(model),
        large_prior(model, own),
        large_reconstruction(model, own),
        uncertain(total),
        few(total),
        one_example(total),
        *(heavy_tailed(name, terms) for name, terms in {"bound": own, **others}.items()),
    ]
    known = data.entropy(split) if isinstance(data, KnownEntropy) else None
    if known is not None:
        found += [impossible(estimate, known[0]) for estimate in headlines]
    return [sentence for sentence in found if sentence is not None]


def above_entropy(estimate: Estimate, data: object, split: str) -> str | None:
    """State the gap between a bound and the true value, if the data's density is known."""
    known = data.entropy(split) if isinstance(data, KnownEntropy) else None
    if known is None:
        return None
    gap = estimate.value - known[0]
    return f"−log p of these examples is known: {known[0]:.4f} bits/dim; the bound is {gap:.4f} above it"


def not_finite(estimates: Mapping[str, Mapping[str, Estimate]], scores: Mapping[str, Any]) -> str | None:
    """Warn if any reported value, error bar over the draws or score of samples is NaN or infinite."""
    numbers = {
        f"{name}: {term}{end}": number
        for name, terms in estimates.items()
        for term, estimate in terms.items()
        for end, number in (("", estimate.value), (" mc_se", estimate.mc_se))
    }
    numbers |= {f"samples: {name}": value for name, value in scores.items() if isinstance(value, float)}
    if math.isinf(estimates["bound"]["bits_per_dim"].mc_se):  # see ``uncertain``
        del numbers["bound: bits_per_dim mc_se"]
    invalid = [f"{name} = {number}" for name, number in numbers.items() if not math.isfinite(number)]
    if not invalid:
        return None
    more = f" and {len(invalid) - 3} more" if len(invalid) > 3 else ""
    return f"{', '.join(invalid[:3])}{more} is not a valid result: a weight or an example is NaN or infinite"


def trained_on(about: Mapping[str, Any], split: str) -> str | None:
    """Warn if examples of the evaluated split are in the training split."""
    if split == "train":
        return "this is the bound of the training examples, not of unseen ones"
    count, size = about["splits"][split].get("in_training"), about["splits"][split]["size"]
    if not count:
        return None
    return f"{count:,} of the {size:,} {split} examples occur in the training split, byte for byte: the bound is optimistic"


def other_data(about: Mapping[str, Any], trained: Any) -> str | None:
    """Warn if the data differ from the training data that the checkpoint records, if it records any."""
    changed = changed_splits(about, trained)
    if not changed:
        return None
    return (
        f"the data differ from the data at training time: other bytes in {', '.join(changed)}; the model may have been "
        "trained on test examples"
    )


def mirrored(about: Mapping[str, Any]) -> str | None:
    """Warn if training used mirrored images, which is a different data set."""
    if not about.get("flip"):
        return None
    return "trained on mirrored images as well: compare only with other augmented models"


def augmented(model: VariationalModel) -> str | None:
    """Warn if training used symmetries of the images, of which the bound at the indicator's zero is one."""
    if not isinstance(model, DiffusionModel) or not model.augmentation.description:
        return None
    return (
        f"trained with augmentation ({model.augmentation.description}), evaluated with its indicator at zero: compare only "
        "with other augmented models"
    )


def large_prior(model: VariationalModel, own: Mapping[str, Estimate]) -> str | None:
    """Warn if the diffusion ends while x_T still depends on the data."""
    value = own["prior_matching"].value
    if not isinstance(model, DiffusionModel) or value <= LARGE_PRIOR:
        return None
    return f"prior matching costs {value:.3f} bits/dim, more than {LARGE_PRIOR}: raise gamma_max until x_T is noise"


def large_reconstruction(model: VariationalModel, own: Mapping[str, Estimate]) -> str | None:
    """Warn if the diffusion begins with so much noise that integer levels cannot be told apart."""
    value = own["reconstruction"].value if "reconstruction" in own else 0.0
    if not (isinstance(model, DiffusionModel) and isinstance(model.likelihood, LevelLikelihood)):
        return None
    if value <= LARGE_RECONSTRUCTION:
        return None
    levels = model.likelihood.levels
    return (
        f"reconstruction costs {value:.3f} bits/dim, more than {LARGE_RECONSTRUCTION}: x_1 is too noisy to tell {levels} "
        f"levels apart; lower gamma_min, to about {-2 * math.log(3 * levels):.1f}"
    )


def uncertain(estimate: Estimate) -> str | None:
    """Warn if the error over the draws exceeds the second decimal."""
    error = estimate.mc_se
    if not error > QUOTED:
        return None
    return (
        f"the error over the draws, {error:.2g} bits/dim, exceeds the second decimal: use {(error / QUOTED) ** 2:.2g} times "
        "as many draws (repeats=…)"
    )


def few(estimate: Estimate) -> str | None:
    """Warn if the error bar has fewer than ``FEW`` degrees of freedom."""
    if not (estimate.df < FEW and estimate.mc_se > 0):
        return None
    return (
        f"mc_se {estimate.mc_se:.2g} has {estimate.df:.0f} degree{'s' * (estimate.df >= 1.5)} of freedom and is a rough "
        f"guess; the 95 % interval is {estimate.shown_interval()}: use repeats={FEW + 1} or more"
    )


def one_example(estimate: Estimate) -> str | None:
    """Warn if the error over the examples is unknown."""
    if not (math.isnan(estimate.data_se) and math.isfinite(estimate.value)):
        return None
    return "data_se is unknown (null): one example does not show how much examples differ"


def heavy_tailed(name: str, terms: Mapping[str, Estimate]) -> str | None:
    """Warn if a few large draws decide an estimate."""
    skew = terms["bits_per_dim"].skew
    if not abs(skew) > HEAVY:
        return None
    return (
        f"{name}: a few large draws decide the value (skewness {skew:.2f} of its error): read the interval, which allows "
        "for it, and use more draws"
    )


def impossible(estimate: Estimate, entropy: float) -> str | None:
    """Warn if the bound is below the known mean of −log p of the same examples by more than ``ERRORS`` errors."""
    error = math.hypot(estimate.mc_se, estimate.data_se)
    below = entropy - estimate.value
    if not (math.isfinite(entropy) and below > ERRORS * error):  # False for a NaN error, that of a single example
        return None
    return (
        f"{estimate.value:.4f} bits/dim is {below / error:.0f} standard errors better than the data's own entropy of "
        f"{entropy:.4f}, which is impossible: look for an error"
        if error > 0
        else f"{estimate.value:.4f} bits/dim is better than the data's own entropy of {entropy:.4f}: look for an error"
    )
