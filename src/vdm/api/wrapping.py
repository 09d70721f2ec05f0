"""``vdm.wrap``: any function of a noisy example and its noise level as a model with an ELBO."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from vdm.denoiser import Denoiser
from vdm.elbo import ContinuousTime, DiscreteTime, Time
from vdm.errors import InvalidInput, did_you_mean
from vdm.levels import Levels
from vdm.likelihoods import CategoricalLikelihood, Likelihood
from vdm.models import VDM
from vdm.parameterisations import (
    DataParameterisation,
    NoiseParameterisation,
    Parameterisation,
    VelocityParameterisation,
)
from vdm.schedules import NoiseSchedule, time_of

MEANINGS: dict[str, Callable[[], Parameterisation]] = {
    "noise": NoiseParameterisation,
    "data": DataParameterisation,
    "velocity": VelocityParameterisation,
}
"""What a function may return, by name."""


class FunctionNetwork(nn.Module):
    """A function (x_t, seen) ↦ y, or (x_t, seen, condition) ↦ y, as a network (x_t, γ_t, condition) ↦ y.

    Args:
        function: any callable; a module's weights are the network's.
        seen: what the function sees of γ (B,): None for γ itself.
        outputs: numbers that the function must return for each dimension.
    """

    def __init__(self, function: Callable[..., Tensor], seen: Callable[[Tensor], Tensor] | None, outputs: int) -> None:
        super().__init__()
        self.function, self.seen, self.outputs = function, seen, outputs
        self.discrete_only = getattr(seen, "discrete_only", None)

    def forward(self, x_t: Tensor, gamma_t: Tensor, condition: Tensor | None = None) -> Tensor:
        seen = gamma_t if self.seen is None else self.seen(gamma_t)
        y = self.function(x_t, seen) if condition is None else self.function(x_t, seen, condition)
        expected = (*x_t.shape, *([self.outputs] if self.outputs > 1 else []))
        if not isinstance(y, Tensor) or y.shape != expected:
            given = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise InvalidInput(
                f"the wrapped function must return a tensor of shape {expected} for x_t, and returned {given}"
            )
        return y


def wrap(
    function: Callable[..., Tensor],
    schedule: NoiseSchedule,
    *,
    levels: Levels | None = None,
    likelihood: Likelihood | None = None,
    time: Time | int | None = None,
    parameterisation: str | Parameterisation = "noise",
    takes: str | Callable[[Tensor], Tensor] = "gamma",
) -> VDM:
    """Return a VDM around ``function(x_t, gamma_t)``, in evaluation mode: a model with ``elbo`` and ``sample``.

    x_t = √ᾱ x_0 + σ ε (B, *event) with ᾱ + σ² = 1 and γ = log(σ²/ᾱ) (B,); a function that was trained on another scale of
    x_t, or on data on another scale, gives a wrong number. ``vdm.EndpointScale(256)`` as ``levels`` is the scale of DDPM.

    Args:
        function: any callable; a ``torch.nn.Module`` is put into evaluation mode and its weights are the model's. With a
            condition it is called as ``function(x_t, gamma_t, condition)``.
        schedule: γ(t); for a table of steps ``vdm.TabulatedSchedule(None, None, alphas)`` with α_n = 1 − β_n.
        levels: K of integer levels, or their scale, for the categorical likelihood of the VDM; or give
        likelihood: p(x_0 | x_1) itself.
        time: T, the number of latents; None for continuous time.
        parameterisation: what the function returns: ``noise``, ``data``, ``velocity`` (√ᾱ ε − σ x_0), or an object.
        takes: what the function sees beside x_t: ``gamma``, ``t`` in [0, 1], or a function of γ (B,) such as
            ``vdm.networks.NearestStep(alphas)`` for the number of a step.

    Raises:
        InvalidInput: neither or both of levels and likelihood; an unknown word; parts that do not go together.
    """
    decoder, meaning = _likelihood(levels, likelihood), parameterisation
    if isinstance(meaning, str):
        meaning = _named(meaning, MEANINGS, "parameterisation")()
    views = {"gamma": None, "t": lambda gamma: time_of(schedule, gamma)}
    seen = _named(takes, views, "takes") if isinstance(takes, str) else takes
    network = FunctionNetwork(function, seen, meaning.outputs)
    when = ContinuousTime() if time is None else DiscreteTime(time) if isinstance(time, int) else time
    model: VDM = VDM(schedule, Denoiser(network, meaning), decoder, when).eval()
    return model


def _likelihood(levels: Levels | None, likelihood: Likelihood | None) -> Likelihood:
    if levels is not None and likelihood is None:
        return CategoricalLikelihood(levels)
    if levels is None and likelihood is not None:
        return likelihood
    raise InvalidInput("give one of levels= (256 for 8-bit images) and likelihood= (vdm.GaussianLikelihood for reals)")


def _named(name: str, known: Mapping[str, Any], setting: str) -> Any:
    if name not in known:
        hint = did_you_mean(name, known, f"it is one of {', '.join(known)}, or an object")
        raise InvalidInput(f"{setting}={name!r} is not known{hint}")
    return known[name]
