"""Auxiliary latents z of an example, on which γ and the denoiser depend: q(z | x), p(z), and the exact KL between them."""

from vdm.auxiliary.gaussian import GaussianLatent
from vdm.auxiliary.k_hot import KHotLatent
from vdm.auxiliary.latent import AuxiliaryLatent, LatentFamily
from vdm.auxiliary.one_hot import OneHotLatent
