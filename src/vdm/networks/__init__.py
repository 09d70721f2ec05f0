"""Backbones (x_t, γ_t, condition) ↦ y. They know nothing of diffusion, nor of a schedule."""

from vdm.networks.backbone import Backbone
from vdm.networks.embedding import ClassEmbedding, ConditionEmbedding, VectorEmbedding
from vdm.networks.fusion import FusionConv, FusionMLP, FusionNetwork
from vdm.networks.mlp import MLP
from vdm.networks.unet import UNet
from vdm.networks.vdm_unet import FourierFeatures, VDMUNet

__all__ = [
    "MLP",
    "Backbone",
    "ClassEmbedding",
    "ConditionEmbedding",
    "FourierFeatures",
    "FusionConv",
    "FusionMLP",
    "FusionNetwork",
    "UNet",
    "VDMUNet",
    "VectorEmbedding",
]
