"""Noise schedules γ(t) = −log SNR(t)."""

from vdm.schedules.adaptive import AdaptiveSchedule
from vdm.schedules.base import NoiseSchedule, RestrictedSchedule, time_of
from vdm.schedules.fixed import (
    CosineSchedule,
    DDPMSchedule,
    LinearSchedule,
    SigmoidSchedule,
    TabulatedSchedule,
    cosine_betas,
    linear_betas,
    table_gammas,
)
from vdm.schedules.gradients import endpoint_gradients_only, path_variance_loss
from vdm.schedules.learned import LearnedEnds, MonotoneSchedule, PerPixelSchedule
from vdm.schedules.polynomial import PolynomialSchedule
