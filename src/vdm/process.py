"""The forward process q, (1.33)–(1.34) and (1.63)–(1.89), as values of ``torch.distributions``.

All three conditionals hold for any s < t, neighbours or not. c = −expm1(γ_s − γ_t).
"""

from torch import Tensor
from torch.distributions import Independent, Normal

from vdm.bound import Denoise
from vdm.gamma import align, alpha_bar, sigma2, step_fraction


def reverse_kernel(x_t: Tensor, gamma_s: Tensor, gamma_t: Tensor, denoise: Denoise) -> Independent:
    """p_θ(x_s | x_t) = q(x_s | x_t, x_0 = x̂_θ(x_t)): (1.96)."""
    return ForwardProcess().posterior(denoise(x_t, gamma_t).x_0, x_t, gamma_s, gamma_t)


def isotropic(mean: Tensor, variance: Tensor) -> Independent:
    """N(mean, variance I) over the event dimensions of ``mean`` (B, *event); variance (B,) or (B, *event)."""
    scale = align(variance.sqrt(), mean).expand_as(mean)
    return Independent(Normal(mean, scale, validate_args=False), mean.ndim - 1, validate_args=False)


class ForwardProcess:
    """q(x_t | x_0), q(x_t | x_s) and q(x_s | x_t, x_0), given values of γ."""

    def marginal(self, x_0: Tensor, gamma_t: Tensor) -> Independent:
        """q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I): (1.64)–(1.73)."""
        return isotropic(align(alpha_bar(gamma_t).sqrt(), x_0) * x_0, sigma2(gamma_t))

    def transition(self, x_s: Tensor, gamma_s: Tensor, gamma_t: Tensor) -> Independent:
        """q(x_t | x_s) = N(√α x_s, (1 − α) I), (1.34) and (1.63), with α = ᾱ_t/ᾱ_s and 1 − α = (1 − ᾱ_t) c."""
        signal = (alpha_bar(gamma_t) / alpha_bar(gamma_s)).sqrt()
        return isotropic(align(signal, x_s) * x_s, sigma2(gamma_t) * step_fraction(gamma_s, gamma_t))

    def posterior(self, x_0: Tensor, x_t: Tensor, gamma_s: Tensor, gamma_t: Tensor) -> Independent:
        """q(x_s | x_t, x_0): the mean (1.88) and variance (1.89), in stable form.

        mean = √(ᾱ_s/ᾱ_t) (1 − c) x_t + √ᾱ_s c x_0, variance = (1 − ᾱ_s) c. With x̂_0 for x_0 it is the reverse
        kernel p_θ(x_s | x_t) of (1.96).
        """
        c = step_fraction(gamma_s, gamma_t)
        from_x_t = (alpha_bar(gamma_s) / alpha_bar(gamma_t)).sqrt() * (1 - c)
        from_x_0 = alpha_bar(gamma_s).sqrt() * c
        mean = align(from_x_t, x_t) * x_t + align(from_x_0, x_0) * x_0
        return isotropic(mean, sigma2(gamma_s) * c)


def q_sample(x_0: Tensor, eps: Tensor, gamma_t: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε: (1.72)."""
    return align(alpha_bar(gamma_t).sqrt(), x_0) * x_0 + align(sigma2(gamma_t).sqrt(), x_0) * eps
