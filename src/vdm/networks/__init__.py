"""Networks: backbones (x_t, γ_t, condition) ↦ y, which depend on no schedule, and fusion networks for learned latents."""

from vdm.networks.backbone import Backbone
from vdm.networks.embedding import (
    ClassEmbedding,
    ConditionEmbedding,
    IndicatorEmbedding,
    LatentEmbedding,
    OptionalClassEmbedding,
    VectorEmbedding,
)
from vdm.networks.fusion import FusionConv, FusionMLP, FusionNetwork
from vdm.networks.mlp import MLP
from vdm.networks.openai_unet import OpenAIUNet
from vdm.networks.steps import InterpolatedStep, NearestStep, StepNetwork, StepNumber
from vdm.networks.summary import MLPSummary, VDMUNetSummary
from vdm.networks.unet import UNet
from vdm.networks.vdm_unet import FourierFeatures, VDMUNet
