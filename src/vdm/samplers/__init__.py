"""Samplers: one ``step`` each."""

from vdm.samplers.ancestral import AncestralSampler
from vdm.samplers.base import Sampler, Step, trajectory

__all__ = ["AncestralSampler", "Sampler", "Step", "trajectory"]
