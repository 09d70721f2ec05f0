"""Models: things with an ELBO."""

from vdm.models.diffusion_chain import DiffusionDecoder, DiffusionEncoder, TiedReverse
from vdm.models.hvae import HVAE, BottomUp, Generator, TopDown, TopDownHVAE
from vdm.models.latent import Decoder, LatentModel, Prior, StandardNormal
from vdm.models.learned import (
    LearnedBottomUp,
    LearnedDecoder,
    LearnedEncoder,
    LearnedGenerator,
    LearnedReverse,
    PrecisionWeighted,
)
from vdm.models.mhvae import MHVAE, Chain
from vdm.models.vdm import VDM
from vdm.models.warmup import KLWarmup, LinearWarmup, NoWarmup

__all__ = [
    "HVAE",
    "MHVAE",
    "VDM",
    "BottomUp",
    "Chain",
    "Decoder",
    "DiffusionDecoder",
    "DiffusionEncoder",
    "Generator",
    "KLWarmup",
    "LatentModel",
    "LearnedBottomUp",
    "LearnedDecoder",
    "LearnedEncoder",
    "LearnedGenerator",
    "LearnedReverse",
    "LinearWarmup",
    "NoWarmup",
    "PrecisionWeighted",
    "Prior",
    "StandardNormal",
    "TiedReverse",
    "TopDown",
    "TopDownHVAE",
]
