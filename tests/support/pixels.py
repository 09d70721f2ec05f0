"""Independent pixels with known shares of their levels, and the VDM whose denoiser is exact for them: no network."""

import torch

from vdm.levels import level_mean
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.parameterisations import Prediction
from vdm.schedules import LinearSchedule

LEVELS = 17
LOG_SHARES = torch.log_softmax(torch.linspace(0, 3, LEVELS, dtype=torch.float64), 0)


class PixelDenoiser(torch.nn.Module):
    """E[x_0 | x_t] for independent pixels."""

    def forward(self, x_t, gamma_t):
        evidence = torch.zeros(*x_t.shape, LEVELS, dtype=x_t.dtype)
        return Prediction.from_x_0(level_mean(x_t, gamma_t, LOG_SHARES.to(x_t), evidence), x_t, gamma_t)


def pixel_model(time):
    return VDM(LinearSchedule(-8.0, 5.0), PixelDenoiser(), CategoricalLikelihood(LEVELS), time)


def pixel_images(n, shape=(1, 8, 8), seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(LOG_SHARES.exp(), n * torch.Size(shape).numel(), replacement=True, generator=generator)
    return drawn.view(n, *shape).to(torch.uint8)
