"""Samplers: one ``step`` each."""

from vdm.samplers.ancestral import AncestralSampler
from vdm.samplers.base import Latent, Sampler, Sampling, Seen, Step, trajectory
from vdm.samplers.ddim import DDIMSampler
from vdm.samplers.dpm_solver import DPMSolverSampler
from vdm.samplers.heun import HeunSampler
from vdm.samplers.spacing import GammaSpacing, Spacing, TimeSpacing

__all__ = [
    "AncestralSampler",
    "DDIMSampler",
    "DPMSolverSampler",
    "GammaSpacing",
    "HeunSampler",
    "Latent",
    "Sampler",
    "Sampling",
    "Seen",
    "Spacing",
    "Step",
    "TimeSpacing",
    "trajectory",
]
