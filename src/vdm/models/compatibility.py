"""Refusal of parts of a diffusion model that are incompatible."""

from torch import nn

from vdm.elbo import ContinuousTime, Time
from vdm.errors import InvalidInput
from vdm.levels import check_same_scale
from vdm.likelihoods import DensityLikelihood, Likelihood
from vdm.objectives import ElboObjective, Objective
from vdm.schedules import NoiseSchedule
from vdm.times import ImportanceTimes, TimeSampler


def check_likelihood(schedule: NoiseSchedule, likelihood: Likelihood) -> None:
    """Raise InvalidInput for a learned schedule with a density, whose bound has no optimum in γ_min."""
    if schedule.learned and isinstance(likelihood, DensityLikelihood):
        raise InvalidInput(
            "a learned schedule needs a likelihood of levels, since with a Gaussian density the bound has no optimum in "
            "gamma_min: use a fixed schedule such as schedule=linear"
        )


def check_scale(denoiser: object, likelihood: Likelihood) -> None:
    """Raise InvalidInput for a denoiser that has the data's levels on another scale than the likelihood."""
    for part in (denoiser, getattr(denoiser, "parameterisation", None)):
        check_same_scale(part, likelihood)


def check_time(denoiser: object, time: Time) -> None:
    """Raise InvalidInput for a denoiser whose parts say why they need discrete time, in continuous time."""
    if not isinstance(time, ContinuousTime):
        return
    parts = [*denoiser.modules()] if isinstance(denoiser, nn.Module) else [denoiser]
    for part in (*parts, *(getattr(part, "parameterisation", None) for part in parts)):
        reason = getattr(part, "discrete_only", None)
        if isinstance(reason, str):
            raise InvalidInput(reason)


def check_training(schedule: NoiseSchedule, time: Time, times: TimeSampler, objective: Objective) -> None:
    """Raise InvalidInput if the objective or the times would train a learned schedule by something else than the bound."""
    if not schedule.learned:
        return
    continuous = isinstance(time, ContinuousTime)
    if not isinstance(objective, ElboObjective) and (schedule.trained_by_bound or not continuous):
        raise InvalidInput(
            f"the bound trains this learned schedule, and {type(objective).__name__} would train it otherwise: use "
            "objective=elbo, or a schedule with fixed ends and time=continuous"
        )
    if continuous and isinstance(times, ImportanceTimes):
        raise InvalidInput(
            "a learned schedule in continuous time replaces importance sampling of t and needs uniform times: use "
            "times=stratified, or a fixed schedule"
        )
