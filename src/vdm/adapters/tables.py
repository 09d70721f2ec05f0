"""The model around a network on a table of steps: DDPM's family."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from vdm.errors import InvalidInput
from vdm.gamma import sigma2, step_fraction
from vdm.schedules import table_gammas

PARAMETERISATIONS = {
    "epsilon": "vdm.parameterisations.NoiseParameterisation",
    "sample": "vdm.parameterisations.DataParameterisation",
    "v_prediction": "vdm.parameterisations.VelocityParameterisation",
}

REVERSE = {
    "small": "vdm.reverse_variance.PosteriorReverseVariance",
    "large": "vdm.reverse_variance.LargeReverseVariance",
}

LEARNED = "learned"


class Table(NamedTuple):
    """A table of steps.

    Attributes:
        alphas: α_1 … α_T as part of a tree: the numbers, or a call that gives them.
        values: the numbers.
        scale: the network sees ``scale`` n for n = 0 … T − 1.
    """

    alphas: Any
    values: list[float]
    scale: float = 1.0


def table_model(network: Mapping[str, Any], table: Table, prediction: str, variance: str, clip: bool) -> dict[str, Any]:
    """Return the tree of a VDM whose T latents are those of a table.

    Its data are 256 levels on DDPM's scale, and its decoder is the discretised Gaussian with x̂_0 as its mean. At the first
    latent the posterior's variance is zero: the decoder has that of the second in its place, as improved-diffusion has it.

    Args:
        network: (x_t, number of the step, condition) ↦ y; two outputs for ``variance`` "learned".
        prediction: a key of ``PARAMETERISATIONS``.
        variance: a key of ``REVERSE``, or "learned".
        clip: clip x̂_0 to [−1, 1].

    Raises:
        InvalidInput: another prediction or variance.
    """
    for name, given, known in (("prediction", prediction, PARAMETERISATIONS), ("variance", variance, {*REVERSE, LEARNED})):
        if given not in known:
            raise InvalidInput(f"the {name} type {given!r} is not supported: it must be one of {', '.join(sorted(known))}")
    meaning: dict[str, Any] = {"_target_": PARAMETERISATIONS[prediction]}
    if variance == LEARNED:
        meaning = {"_target_": "vdm.parameterisations.LearnedVarianceParameterisation", "mean": meaning}
    if clip:
        meaning = {"_target_": "vdm.parameterisations.ClippedParameterisation", "inner": meaning}
    steps: dict[str, Any] = {"_target_": "vdm.networks.NearestStep", "alphas": table.alphas, "scale": table.scale}
    stepped: dict[str, Any] = {"_target_": "vdm.networks.StepNetwork", "network": dict(network), "steps": steps}
    denoiser: dict[str, Any] = {"_target_": "vdm.denoiser.Denoiser", "network": stepped, "parameterisation": meaning}
    if variance in REVERSE:
        part = {"_target_": REVERSE[variance]}
        denoiser = {"_target_": "vdm.reverse_variance.VarianceDenoiser", "denoiser": denoiser, "variance": part}
    return _around(denoiser, table, variance)


def _around(denoiser: dict[str, Any], table: Table, variance: str) -> dict[str, Any]:
    """Return the model of ``denoiser``: schedule, decoder and discrete time of the table."""
    first, second = table_gammas(table.values)[:2].split(1)
    small = (sigma2(first) * step_fraction(first, second)).item()
    scale = {"_target_": "vdm.levels.EndpointScale", "levels": 256}
    decoder: dict[str, Any] = {"_target_": "vdm.likelihoods.FixedVariance", "variance": small}
    if variance == LEARNED:
        decoder = {"_target_": "vdm.likelihoods.InterpolatedVariance", "variance": small, "large": 1 - table.values[0]}
    sampler = {"_target_": "vdm.samplers.AncestralSampler"}
    return {
        "_target_": "vdm.models.VDM",
        "schedule": {
            "_target_": "vdm.schedules.TabulatedSchedule",
            "gamma_min": None,
            "gamma_max": None,
            "alphas": table.alphas,
        },
        "denoiser": denoiser,
        "likelihood": {"_target_": "vdm.likelihoods.DiscretisedGaussianLikelihood", "levels": scale, "variance": decoder},
        "time": {"_target_": "vdm.elbo.DiscreteTime", "timesteps": len(table.values)},
        "times": {"_target_": "vdm.times.StratifiedTimes"},
        "sampling": {"_target_": "vdm.samplers.Sampling", "sampler": sampler, "steps": len(table.values) - 1},
    }


def prefix_of(variance: str) -> str:
    """Return what stands before the names of the network's weights in the model of ``table_model``."""
    return "denoiser.denoiser.network.network." if variance in REVERSE else "denoiser.network.network."


def finite_table(values: list[float]) -> list[float]:
    """Return a table of α; raise InvalidInput if it ends without any signal, as with a rescaled zero terminal SNR."""
    if any(value < 0 or value >= 1 for value in values):
        raise InvalidInput("every β of the table must be between 0 and 1: a linear table needs more than 20 steps")
    if min(values, default=0.0) == 0 or torch.tensor(values, dtype=torch.float64).log().sum() < -49:
        raise InvalidInput(
            "this table ends without any signal (zero terminal SNR): there γ is infinite, and a network that predicts ε "
            "has no x̂_0 at the last step, so its bound is infinite or undefined"
        )
    return values
