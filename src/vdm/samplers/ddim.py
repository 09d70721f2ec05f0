"""DDIM (Song et al. 2021): from the deterministic chain to the ancestral one."""

from torch import Tensor

from vdm.bound import Denoise
from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, sigma2, step_fraction
from vdm.samplers.base import Sampler, Step


class DDIMSampler(Sampler):
    """x_s = √ᾱ_s x̂_0 + σ_s √(1 − η² c) ε̂ + η σ_s √c z, with c = −expm1(γ_s − γ_t) and z standard normal.

    The new noise has η² times the posterior's variance (1.89). η = 1 is the ancestral sampler, path by path; η = 0 is
    deterministic: Euler's rule for the probability-flow ODE in the coordinates x/√ᾱ and σ/√ᾱ, of order one.

    Args:
        eta: η in [0, 1].

    Raises:
        InvalidInput: η outside [0, 1].
    """

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise InvalidInput(f"eta must be in [0, 1], got {eta}: 0 is deterministic, 1 is the ancestral sampler")
        self.eta = float(eta)

    def step(self, denoise: Denoise, step: Step) -> Tensor:
        fresh = self.eta**2 * step_fraction(step.gamma_s, step.gamma_t)
        noise2 = sigma2(step.gamma_s)
        x_0, eps = step.process.along(step.prediction, step.gamma_s, step.gamma_t, self.eta)
        mean = align(alpha_bar(step.gamma_s).sqrt(), x_0) * x_0 + align((noise2 * (1 - fresh)).sqrt(), x_0) * eps
        return mean if self.eta == 0 else mean + align((noise2 * fresh).sqrt(), x_0) * step.noise()
