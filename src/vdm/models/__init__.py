"""Models, each with an ELBO: the VDM, the HVAEs, and the learned and diffusion kernels that they are built from."""

from vdm.models.diffusion_chain import DenoisingReverse, DiffusionDecoder, DiffusionEncoder
from vdm.models.diffusion_model import DiffusionModel
from vdm.models.hvae import HVAE, BottomUp, ConditionalPrior, TopDown, TopDownHVAE
from vdm.models.latent import Decoder, LatentModel, Prior, StandardNormal
from vdm.models.latent_vdm import LatentVDM
from vdm.models.learned import (
    LadderEncoder,
    LearnedBottomUp,
    LearnedConditionalPrior,
    LearnedDecoder,
    LearnedEncoder,
    LearnedReverse,
)
from vdm.models.mhvae import MHVAE, MarkovKernels
from vdm.models.relaxed import RelaxedVDM
from vdm.models.vdm import VDM
from vdm.models.warmup import KLWarmup, LinearWarmup, NoWarmup
