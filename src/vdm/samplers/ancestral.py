"""Ancestral sampling: the generative chain itself."""

from torch import Tensor

from vdm.bound import Denoise
from vdm.process import reparameterise, widened
from vdm.samplers.base import Sampler, Step


class AncestralSampler(Sampler):
    """x_s ~ p_θ(x_s | x_t) = q(x_s | x_t, x_0 = x̂_0(x_t)): (1.96)."""

    def step(self, denoise: Denoise, step: Step) -> Tensor:
        kernel = step.process.reverse(step.prediction.x_0, step.x_t, step.gamma_s, step.gamma_t)
        kernel = widened(kernel, step.prediction.log_variance_ratio(step.gamma_s, step.gamma_t))
        return reparameterise(kernel, step.noise())
