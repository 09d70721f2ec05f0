"""Groups of configs that hold parts of one kind."""

from vdm.auxiliary import LatentFamily
from vdm.bound import VariationalModel
from vdm.elbo import Time
from vdm.encoders import MeanEncoder
from vdm.likelihoods import Likelihood
from vdm.models import KLWarmup
from vdm.parameterisations import Parameterisation
from vdm.schedules import NoiseSchedule
from vdm.times import TimeSampler

KINDS = {
    "auxiliary": ("model.latent.family", LatentFamily),
    "encoder": ("model.process.encoder", MeanEncoder),
    "schedule": ("model.schedule", NoiseSchedule),
    "parameterisation": ("model.denoiser.parameterisation", Parameterisation),
    "likelihood": ("model.likelihood", Likelihood),
    "time": ("model.time", Time),
    "times": ("model.times", TimeSampler),
    "model": ("model", VariationalModel),
    "kl_warmup": ("model.warmup", KLWarmup),
}


BESIDE = {"model": ("encoder", "auxiliary")}
"""Groups whose options choose the class of another group's part."""

OWNERS = {"latents": ["model=mhvae"], "kl_warmup": ["model=mhvae"]}
