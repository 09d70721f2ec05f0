"""Models: things with an ELBO."""

from vdm.models.diffusion_chain import DiffusionDecoder, DiffusionEncoder, TiedReverse
from vdm.models.mhvae import MHVAE, Chain, Decoder, Prior, StandardNormal
from vdm.models.vdm import VDM

__all__ = [
    "MHVAE",
    "VDM",
    "Chain",
    "Decoder",
    "DiffusionDecoder",
    "DiffusionEncoder",
    "Prior",
    "StandardNormal",
    "TiedReverse",
]
