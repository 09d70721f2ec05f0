"""Which parts of a diffusion model do not go together, in one line each."""

from vdm.elbo import ContinuousTime, Time
from vdm.errors import InvalidInput
from vdm.likelihoods import DensityLikelihood, Likelihood
from vdm.objectives import ElboObjective, Objective
from vdm.schedules import NoiseSchedule
from vdm.times import ImportanceTimes, TimeSampler


def check_likelihood(schedule: NoiseSchedule, likelihood: Likelihood) -> None:
    """Raises InvalidInput for a learned schedule under a density, whose bound has no optimum in γ_min."""
    if schedule.learned and isinstance(likelihood, DensityLikelihood):
        raise InvalidInput(
            "a learned schedule needs a likelihood of levels: under the Gaussian density the bound has no optimum in "
            "gamma_min, so use a fixed schedule such as schedule=linear"
        )


def check_training(schedule: NoiseSchedule, time: Time, times: TimeSampler, objective: Objective) -> None:
    """Raises InvalidInput where a learned schedule would follow something else than it should."""
    if not schedule.learned:
        return
    if time.bound_trains(schedule) and not isinstance(objective, ElboObjective):
        raise InvalidInput(
            "this learned schedule is trained by the bound, and another objective would pull it elsewhere: use "
            "objective=elbo, or a schedule with fixed ends and time=continuous"
        )
    if isinstance(time, ContinuousTime) and isinstance(times, ImportanceTimes):
        raise InvalidInput(
            "a learned schedule in continuous time does what importance sampling of t does, and needs even times: use "
            "times=stratified, or a fixed schedule"
        )
