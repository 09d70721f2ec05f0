"""Noise schedules γ(t) = −log SNR(t)."""

from vdm.schedules.adaptive import AdaptiveSchedule
from vdm.schedules.base import NoiseSchedule, RestrictedSchedule, time_of
from vdm.schedules.fixed import CosineSchedule, DDPMSchedule, LinearSchedule, SigmoidSchedule
from vdm.schedules.gradients import endpoint_gradients_only, path_variance_loss
from vdm.schedules.learned import LearnedEnds, MonotoneSchedule, PerPixelSchedule
from vdm.schedules.tabulated import TabulatedSchedule, linear_betas
