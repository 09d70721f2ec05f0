"""Hierarchical models of linear-Gaussian data with exact parts, where log p(x) and every posterior are known."""

import torch

from vdm.errors import InvalidInput
from vdm.models import HVAE, MHVAE, BottomUp, ConditionalPrior, MarkovKernels, StandardNormal, TopDown, TopDownHVAE
from vdm.models.latent import Decoder
from vdm.process import isotropic, reparameterised_sample


class Joint:
    """Scalars (x, z_1, …, z_T), jointly Gaussian: z_T ~ N(0, 1), each other variable a sum over all above it plus noise.

    With ``markov``, over the nearest only.
    """

    noise = 0.4

    def __init__(self, layers, markov=False):
        self.layers = layers
        n = layers + 1  # index 0 is x, index t is z_t
        self.weights = torch.zeros(n, n, dtype=torch.float64)
        for t in range(layers):
            for above in range(t + 1, t + 2 if markov else n):
                self.weights[t, above] = 0.9 / (above - t) * (-1) ** (above - t + 1)
        spread = torch.full((n,), self.noise, dtype=torch.float64)
        spread[-1] = 1.0
        mix = torch.linalg.inv(torch.eye(n, dtype=torch.float64) - self.weights)
        self.covariance = mix @ torch.diag(spread) @ mix.T

    def given(self, target, known):
        """(weights, variance) of the Gaussian of one variable given others."""
        if not known:
            return torch.zeros(0, dtype=torch.float64), self.covariance[target, target]
        across = self.covariance[target, known]
        weights = torch.linalg.solve(self.covariance[known][:, known], across)
        return weights, self.covariance[target, target] - weights @ across

    def kernel(self, target, known, values):
        """That Gaussian at values (B, 1) of the known variables."""
        weights, variance = self.given(target, known)
        mean = sum(w * value for w, value in zip(weights, values, strict=True))
        return isotropic(mean, variance.expand(len(values[0])))

    def log_prob(self, x):
        return isotropic(torch.zeros_like(x), self.covariance[0, 0].expand(len(x))).log_prob(x)

    def sample(self, n):
        return self.covariance[0, 0].sqrt() * torch.randn(
            n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )


class ExactGenerator(ConditionalPrior):
    def __init__(self, joint):
        super().__init__()
        self.joint = joint

    def forward(self, t, above, condition=None):
        return self.joint.kernel(t, list(range(t + 1, self.joint.layers + 1)), above)


class ExactBottomUp(BottomUp):
    """The true posterior, with its mean moved by ``shift``."""

    def __init__(self, joint, shift):
        super().__init__()
        self.joint, self.shift = joint, shift

    def forward(self, t, below, condition=None):
        exact = self.joint.kernel(t, list(range(t - 1, -1, -1)), below)
        return isotropic(exact.mean + self.shift, exact.variance.squeeze(1))


class ExactTopDown(TopDown):
    def __init__(self, joint, shift):
        super().__init__()
        self.joint, self.shift = joint, shift

    def forward(self, t, x_0, above, prior, condition=None):
        exact = self.joint.kernel(t, [*range(t + 1, self.joint.layers + 1), 0], [*above, x_0])
        return isotropic(exact.mean + self.shift, exact.variance.squeeze(1))


class ExactUp(MarkovKernels):
    def __init__(self, joint, shift):
        super().__init__()
        self.joint, self.shift = joint, shift

    def forward(self, t, z, condition=None):
        exact = self.joint.kernel(t, [t - 1], [z])
        return isotropic(exact.mean + self.shift, exact.variance.squeeze(1))


class ExactDown(MarkovKernels):
    def __init__(self, joint):
        super().__init__()
        self.joint = joint

    def forward(self, t, z, condition=None):
        return self.joint.kernel(t - 1, [t], [z])


class GaussianDecoder(Decoder):
    """p(x | z) = ``distribution(z)``, a Gaussian over unscaled real data."""

    def check(self, x):
        if not torch.isfinite(x).all():
            raise InvalidInput("not finite")

    def encode(self, x):
        return x

    def log_prob(self, x, z, condition=None):
        return self.distribution(z).log_prob(x)

    def decode(self, z, draws, condition=None):
        return reparameterised_sample(self.distribution(z), draws, "decode")


class ExactDecoder(GaussianDecoder):
    def __init__(self, joint):
        super().__init__()
        self.joint = joint

    def distribution(self, z):
        return self.joint.kernel(0, list(range(1, len(z) + 1)), z)


def exact(name, layers, shift=0.0):
    """Return (model, joint): the true generative model with the true posterior, its mean moved by ``shift``."""
    joint = Joint(layers, markov=name == "mhvae")
    ends = {"prior": StandardNormal(), "decoder": ExactDecoder(joint)}
    if name == "mhvae":
        return MHVAE(layers, ExactUp(joint, shift), ExactDown(joint), **ends), joint
    if name == "hvae":
        return HVAE(layers, ExactBottomUp(joint, shift), ExactGenerator(joint), **ends), joint
    return TopDownHVAE(layers, ExactTopDown(joint, shift), ExactGenerator(joint), **ends), joint
