"""The kernels that make a Markovian hierarchical VAE a VDM: its three restrictions."""

from collections.abc import Sequence

from torch import Tensor
from torch.distributions import Independent

from vdm.bound import Denoise
from vdm.denoiser import with_condition
from vdm.draws import AbstractDraws
from vdm.elbo import DiscreteTime
from vdm.likelihoods import Likelihood
from vdm.models.latent import Decoder
from vdm.models.mhvae import MarkovKernels
from vdm.process import FORWARD, widened
from vdm.schedules import NoiseSchedule


class DiffusionEncoder(MarkovKernels):
    """q(z_1 | x) = N(√ᾱ_1 x_0, (1 − ᾱ_1) I) and q(z_t | z_{t−1}) = N(√α_t z_{t−1}, (1 − α_t) I), (1.33)–(1.34).

    Restriction 1: z_t has the data's shape. Restriction 2: the kernels are linear Gaussians with no parameters but the
    schedule's. With a large γ_max also restriction 3: q(z_T) ≈ N(0, I).
    """

    def __init__(self, schedule: NoiseSchedule, time: DiscreteTime) -> None:
        super().__init__()
        self.schedule, self.time = schedule, time

    def forward(self, t: int, z: Tensor, condition: Tensor | None = None) -> Independent:
        gamma_t = self.time.gamma(self.schedule, t, z)
        if t == 1:
            return FORWARD.marginal(z, gamma_t)
        return FORWARD.transition(z, self.time.gamma(self.schedule, t - 1, z), gamma_t)


class DenoisingReverse(MarkovKernels):
    """p(z_{t−1} | z_t) = q(z_{t−1} | z_t, x_0 = x̂_θ(z_t, t)), (1.90) and (1.96): one denoiser for all t."""

    def __init__(self, schedule: NoiseSchedule, time: DiscreteTime, denoiser: Denoise) -> None:
        super().__init__()
        self.schedule, self.time, self.denoiser = schedule, time, denoiser

    def forward(self, t: int, z: Tensor, condition: Tensor | None = None) -> Independent:
        gamma_s, gamma_t = (self.time.gamma(self.schedule, i, z) for i in (t - 1, t))
        prediction = with_condition(self.denoiser, condition)(z, gamma_t)
        kernel = FORWARD.reverse(prediction.x_0, z, gamma_s, gamma_t)
        return widened(kernel, prediction.log_variance_ratio(gamma_s, gamma_t))


class DiffusionDecoder(Decoder):
    """p(x | z_1) as a ``Likelihood`` at the schedule's γ_1."""

    def __init__(self, schedule: NoiseSchedule, time: DiscreteTime, likelihood: Likelihood, denoiser: Denoise) -> None:
        super().__init__()
        self.schedule, self.time, self.likelihood, self.denoiser = schedule, time, likelihood, denoiser

    def check(self, x: Tensor) -> None:
        self.likelihood.check(x)

    def encode(self, x: Tensor) -> Tensor:
        return self.likelihood.encode(x)

    def log_prob(self, x: Tensor, z: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        (z_1,) = z
        gamma_1 = self.time.gamma(self.schedule, 1, z_1)
        return self.likelihood.log_prob(x, z_1, gamma_1, with_condition(self.denoiser, condition))

    def level_log_probs(self, z: Sequence[Tensor], condition: Tensor | None = None) -> Tensor:
        (z_1,) = z
        gamma_1 = self.time.gamma(self.schedule, 1, z_1)
        return self.likelihood.level_log_probs(z_1, gamma_1, with_condition(self.denoiser, condition))

    def decode(self, z: Sequence[Tensor], draws: AbstractDraws, condition: Tensor | None = None) -> Tensor:
        (z_1,) = z
        gamma_1 = self.time.gamma(self.schedule, 1, z_1)
        return self.likelihood.decode(z_1, gamma_1, with_condition(self.denoiser, condition), draws)
