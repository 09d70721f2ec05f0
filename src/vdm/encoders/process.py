"""The forward process with a learned mean, q(x_t | x) = N(√ᾱ f(x, γ_t), σ² I).

With f_s, f_t for f at two noise levels s < t and c = −expm1(γ_s − γ_t), Bayes' rule and

    q(x_t | x_s, x) = N(√α x_s + √ᾱ_t (f_t − f_s), (1 − ᾱ_t) c I)

give the VDM's posterior (1.88)–(1.89) with e = f_t + (f_s − f_t)/c in the place of x_0, and e = f − ∂f/∂γ as s → t. The
KL of a step is ½ (SNR(s) − SNR(t)) ‖ê − e‖². A step that keeps the marginals and has η² times the posterior's variance is
DDIM's with f_t + (f_s − f_t)/k, k = 1 − √((1 − c)(1 − η² c)), which is e for η = 1 and f − 2 ∂f/∂γ for η = 0 and s → t: the
drift of the probability flow. f = x gives x in all of these.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.distributions import Independent

from vdm.encoders.base import MeanEncoder
from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, sigma2, step_fraction
from vdm.parameterisations import Prediction
from vdm.process import ForwardProcess, gaussian


class LearnedMean(nn.Module, ForwardProcess, ABC):
    """The process with the mean of an encoder. Subclasses say what the denoiser's x̂_0 is an estimate of.

    Args:
        encoder: f(x, γ).
    """

    def __init__(self, encoder: MeanEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def means(self, x_hat: Tensor, gamma_s: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the model's (f̂_s, f̂_t) for the denoiser's x̂_0."""

    @abstractmethod
    def mean_and_rate(self, x_hat: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the model's f̂ and ∂f̂/∂γ for the denoiser's x̂_0."""

    def marginal(self, x_0: Tensor, gamma_t: Tensor) -> Independent:
        return super().marginal(self.encoder(x_0, gamma_t), gamma_t)

    def transition(self, x_s: Tensor, gamma_s: Tensor, gamma_t: Tensor, x_0: Tensor | None = None) -> Independent:
        assert x_0 is not None, "with a learned mean q(x_t | x_s) depends on x_0"
        plain = super().transition(x_s, gamma_s, gamma_t).base_dist
        drift = self.encoder(x_0, gamma_t) - self.encoder(x_0, gamma_s)
        return gaussian(plain.loc + align(alpha_bar(gamma_t).sqrt(), x_s) * drift, plain.scale)

    def check_markov(self) -> None:
        raise InvalidInput("with a learned mean q(x_t | x_s, x_0) depends on x_0, so the chain is no Markovian HVAE")

    def target(self, x_0: Tensor, gamma_s: Tensor | None, gamma_t: Tensor) -> Tensor:
        if gamma_s is None:
            mean, rate = self.encoder.with_rate(x_0, gamma_t)
            return mean - rate
        return _share(self.encoder(x_0, gamma_s), self.encoder(x_0, gamma_t), step_fraction(gamma_s, gamma_t))

    def estimate(self, x_hat: Tensor, gamma_s: Tensor | None, gamma_t: Tensor) -> Tensor:
        if gamma_s is None:
            mean, rate = self.mean_and_rate(x_hat, gamma_t)
            return mean - rate
        return _share(*self.means(x_hat, gamma_s, gamma_t), step_fraction(gamma_s, gamma_t))

    def along(self, prediction: Prediction, gamma_s: Tensor | None, gamma_t: Tensor, eta: float = 0.0) -> Prediction:
        if gamma_s is None:
            mean, rate = self.mean_and_rate(prediction.x_0, gamma_t)
            return prediction.moved(mean - 2 * rate, gamma_t)
        c = step_fraction(gamma_s, gamma_t)
        kept = (1 - c) * (1 - eta**2 * c)
        share = c * (1 + eta**2 * (1 - c)) / (1 + kept.sqrt())  # 1 − √kept
        return prediction.moved(_share(*self.means(prediction.x_0, gamma_s, gamma_t), share), gamma_t)


class DataPredicting(LearnedMean):
    """The denoiser estimates x, as in the VDM, and f̂ = f(x̂_0, γ): p_θ(x_s | x_t) = q(x_s | x_t, x = x̂_0).

    Bartosh et al. 2024, arXiv 2310.08337.
    """

    def means(self, x_hat: Tensor, gamma_s: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(x_hat, gamma_s), self.encoder(x_hat, gamma_t)

    def mean_and_rate(self, x_hat: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder.with_rate(x_hat, gamma_t)


class MeanPredicting(LearnedMean):
    """The denoiser estimates f(x, γ_t), the mean of its input, and −σ² f̂ stands for ∂f/∂γ: ê = (1 + σ²) f̂ as s → t.

    The encoder is not called by the model. The stand-in is right for f = ᾱ x, and wrong for f = x: this is not the VDM.
    Nielsen et al. 2024, arXiv 2310.19789.
    """

    def means(self, x_hat: Tensor, gamma_s: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
        moved = (gamma_t - gamma_s) * sigma2(gamma_t)
        return x_hat + align(moved, x_hat) * x_hat, x_hat

    def mean_and_rate(self, x_hat: Tensor, gamma_t: Tensor) -> tuple[Tensor, Tensor]:
        return x_hat, -align(sigma2(gamma_t), x_hat) * x_hat


def _share(mean_s: Tensor, mean_t: Tensor, share: Tensor) -> Tensor:
    """f_t + (f_s − f_t)/share."""
    return mean_t + (mean_s - mean_t) / align(share, mean_t)
