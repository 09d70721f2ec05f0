"""DPM-Solver++, second order, multistep (Lu et al. 2022)."""

import torch
from torch import Tensor

from vdm.bound import Denoise
from vdm.gamma import align, alpha_bar, sigma2
from vdm.samplers.base import Sampler, Step


class DPMSolverSampler(Sampler):
    """The ODE's linear part solved exactly and x̂_0 extrapolated linearly; order two, one call of the denoiser a step.

    In λ = −γ/2 the exact solution is x_s = (σ_s/σ_t) x_t + σ_s ∫ e^λ x̂_0(λ) dλ from λ_t to λ_s. With h = λ_s − λ_t, and
    D the straight line through the last two x̂_0 taken at the middle of the step,

        x_s = (σ_s/σ_t) x_t − √ᾱ_s expm1(−h) D,   D = x̂_0(t) + (h / 2h′) (x̂_0(t) − x̂_0(t′)),

    where t′ and h′ belong to the previous step. The first step has D = x̂_0(t), which is DDIM.
    """

    def step(self, denoise: Denoise, step: Step) -> Tensor:
        h = (step.gamma_t - step.gamma_s) / 2
        x_0 = step.process.along(step.prediction, None, step.gamma_t).x_0
        if step.previous is not None:
            ratio = h / (step.previous.gamma_t - step.gamma_t)  # h/2h′
            before = step.process.along(step.previous.prediction, None, step.previous.gamma_t)
            x_0 = x_0 + align(ratio, x_0) * (x_0 - before.x_0)
        noise = (sigma2(step.gamma_s) / sigma2(step.gamma_t)).sqrt()
        signal = -alpha_bar(step.gamma_s).sqrt() * torch.expm1(-h)
        return align(noise, x_0) * step.x_t + align(signal, x_0) * x_0
