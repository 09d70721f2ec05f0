"""Heun's rule for the probability-flow ODE."""

import torch
from torch import Tensor

from vdm.bound import Denoise
from vdm.gamma import align, alpha_bar, sigma2
from vdm.samplers.base import Sampler, Step


class HeunSampler(Sampler):
    """The trapezoidal rule with an Euler predictor; order two, two calls of the denoiser a step (Karras et al. 2022).

    In the coordinates y = x/√ᾱ and r = σ/√ᾱ = e^{γ/2} the ODE is dy/dr = ε̂. With h = (γ_t − γ_s)/2, a straight step
    along ε is x_s = √(ᾱ_s/ᾱ_t) x_t − σ_s expm1(h) ε. Here ε is the mean of ε̂ at (x_t, γ_t) and at the end of such a
    step along ε̂(x_t, γ_t).
    """

    def step(self, denoise: Denoise, step: Step) -> Tensor:
        eps = step.process.along(step.prediction, None, step.gamma_t).eps
        predicted = self._straight(step, eps)
        second = step.process.along(denoise(predicted, step.gamma_s), None, step.gamma_s).eps
        return self._straight(step, (eps + second) / 2)

    def _straight(self, step: Step, eps: Tensor) -> Tensor:
        signal = (alpha_bar(step.gamma_s) / alpha_bar(step.gamma_t)).sqrt()
        slope = sigma2(step.gamma_s).sqrt() * torch.expm1((step.gamma_t - step.gamma_s) / 2)
        return align(signal, step.x_t) * step.x_t - align(slope, step.x_t) * eps
