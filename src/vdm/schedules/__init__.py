"""Noise schedules γ(t) = −log SNR(t)."""

from vdm.schedules.adaptive import AdaptiveSchedule
from vdm.schedules.base import NoiseSchedule, RestrictedSchedule
from vdm.schedules.cosine import CosineSchedule
from vdm.schedules.ddpm import DDPMSchedule
from vdm.schedules.gradients import endpoint_gradients_only, path_variance_loss
from vdm.schedules.inverse import inverse
from vdm.schedules.learned_ends import LearnedEnds
from vdm.schedules.linear import LinearSchedule
from vdm.schedules.monotone import MonotoneSchedule
from vdm.schedules.per_pixel import PerPixelSchedule
from vdm.schedules.polynomial import PolynomialSchedule
from vdm.schedules.sigmoid import SigmoidSchedule
from vdm.schedules.tabulated import TabulatedSchedule, linear_betas
