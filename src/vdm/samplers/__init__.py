"""Samplers, one rule each, and the grids of times that they step along."""

from vdm.samplers.ancestral import AncestralSampler
from vdm.samplers.base import Latent, PreviousStep, Sampler, Sampling, Step, trajectory
from vdm.samplers.ddim import DDIMSampler
from vdm.samplers.dpm_solver import DPMSolverSampler
from vdm.samplers.guidance import ClassifierFreeGuidance, Guidance, NoGuidance
from vdm.samplers.heun import HeunSampler
from vdm.samplers.spacing import GammaSpacing, Spacing, TimeSpacing
