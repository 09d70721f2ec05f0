"""The Markovian hierarchical VAE of section 4.1.2: two Markov chains, a prior and a decoder, and the bound (1.32)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Independent

from vdm.draws import AbstractDraws
from vdm.models.coding import DATA_LIKE, CodingStep, Conditional
from vdm.models.latent import Decoder, LatentModel, Prior, Trajectory
from vdm.models.warmup import KLWarmup
from vdm.process import reparameterised_sample


class MarkovKernels(nn.Module, ABC):
    """Gaussian kernels from each latent to its neighbour: up in an encoder, down in a reverse chain."""

    @abstractmethod
    def forward(self, t: int, z: Tensor, condition: Tensor | None = None) -> Independent:
        """Return the kernel at level t, given the neighbour z (B, …).

        Up, t = 1 … T: q(z_t | z_{t−1}), where z_0 is the encoded data. Down, t = 2 … T: p(z_{t−1} | z_t).
        """


class MHVAE(LatentModel):
    """The Markovian HVAE: p(z_T) p(x | z_1) Π_{t≥2} p(z_{t−1} | z_t) (1.26), q(z_1 | x) Π_{t≥2} q(z_t | z_{t−1}) (1.27).

    The kernels are any Gaussians; the restrictions that make it a VDM are parts (``vdm.models.diffusion_chain``). Its bound
    is the sampled log-ratio (1.32) throughout: matching has log q(z_t | z_{t−1}) − log p(z_t | z_{t+1}), and
    prior_matching log q(z_T | z_{T−1}) − log p(z_T), a draw of (1.49) and not of (1.62)'s closed KL.

    Args:
        layers: T, the number of latents, at least 1; with T = 1 it is a VAE and ``reverse`` is never called.
        encoder: q(z_t | z_{t−1}).
        reverse: p(z_{t−1} | z_t).
        prior: p(z_T).
        decoder: p(x | z_1).
        warmup: the weight of the KL terms in training; 1 by default.

    Raises:
        InvalidInput: no layers.
    """

    def __init__(
        self,
        layers: int,
        encoder: MarkovKernels,
        reverse: MarkovKernels,
        prior: Prior,
        decoder: Decoder,
        warmup: KLWarmup | None = None,
    ) -> None:
        super().__init__(layers, prior, decoder, warmup)
        self.encoder, self.reverse = encoder, reverse

    def infer(self, x_0: Tensor, draws: AbstractDraws, condition: Tensor | None = None) -> Trajectory:
        z, q, p = [x_0], [], []
        for t in range(1, self.layers + 1):
            q.append(self.encoder(t, z[-1], condition))
            z.append(reparameterised_sample(q[-1], draws, f"x_{t}"))
            if t > 1:
                p.append(self.reverse(t, z[-1], condition))
        return Trajectory(z[1:], q, [*p, self.prior(x_0)])

    def layer_terms(self, trajectory: Trajectory) -> list[Tensor]:
        """Log-ratios: z_{t+1} is a child of z_t in q and its parent in p, so only the top layer has a closed KL."""
        return trajectory.log_ratios()

    def coding_steps(self, condition: Tensor | None = None) -> list[CodingStep]:
        """Interleave draws and stores (Bit-Swap, Kingma et al. 2019, arXiv:1905.06845).

        z_{t−1} is stored as soon as z_t is drawn, so that about two latents' bits are needed to start, not T.
        """

        def encoder(t: int) -> Conditional:
            return lambda z: self.encoder(t, z[t - 1], condition)

        def reverse(t: int) -> Conditional:
            return lambda z: self.reverse(t, z[t], condition)

        x = CodingStep(False, 0, lambda z: self.decoder.level_log_probs([z[1]], condition))
        steps = [CodingStep(True, 1, encoder(1)), x]
        for t in range(2, self.layers + 1):
            steps += [CodingStep(True, t, encoder(t)), CodingStep(False, t - 1, reverse(t))]
        return [*steps, CodingStep(False, self.layers, lambda z: self.prior(z[DATA_LIKE]))]

    def generative_conditional(self, t: int, above: Sequence[Tensor], condition: Tensor | None = None) -> Independent:
        return self.reverse(t + 1, above[0], condition)

    def decoder_inputs(self, z: Sequence[Tensor]) -> Sequence[Tensor]:
        return z[:1]
