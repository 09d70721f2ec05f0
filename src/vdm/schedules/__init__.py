"""Noise schedules: γ(t) = −log SNR(t), the one thing a schedule defines."""

from vdm.schedules.base import NoiseSchedule, RestrictedSchedule
from vdm.schedules.cosine import CosineSchedule
from vdm.schedules.ddpm import DDPMSchedule
from vdm.schedules.linear import LinearSchedule
from vdm.schedules.sigmoid import SigmoidSchedule
from vdm.schedules.tabulated import TabulatedSchedule, linear_betas

__all__ = [
    "CosineSchedule",
    "DDPMSchedule",
    "LinearSchedule",
    "NoiseSchedule",
    "RestrictedSchedule",
    "SigmoidSchedule",
    "TabulatedSchedule",
    "linear_betas",
]
