"""Noise schedules: γ(t) = −log SNR(t), the one thing a schedule defines."""

from vdm.schedules.base import NoiseSchedule, RestrictedSchedule
from vdm.schedules.cosine import CosineSchedule
from vdm.schedules.inverse import inverse
from vdm.schedules.linear import LinearSchedule

__all__ = ["CosineSchedule", "LinearSchedule", "NoiseSchedule", "RestrictedSchedule", "inverse"]
