"""The consistency form of the bound (1.46), its literal reading with KLs (1.47), and the gap between the two.

Each runs along one joint trajectory x_1 … x_T, with each latent drawn from the one before by (1.34). ``gammas`` are γ at
the latents x_1 … x_T, each (B,) or (B, *event); ``draws`` gives their noise by the names ``x_1`` … ``x_T``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from vdm.bound import Denoise
from vdm.divergence import Divergence
from vdm.draws import AbstractDraws
from vdm.gamma import align, alpha_bar, event_dims
from vdm.likelihoods import Likelihood
from vdm.process import FORWARD, ForwardProcess, reparameterised_sample, standard_normal, widened
from vdm.terms import bits_per_dim


@dataclass(frozen=True)
class ConsistencyElbo:
    """The bound (1.46) on one trajectory, as sampled log-ratios of either sign, in nats per example.

    Attributes:
        reconstruction: (B,), log p(x_0 | x_1).
        prior_log_ratio: (B,), log q(x_T | x_{T−1}) − log p(x_T).
        prior_kl: (B,), KL(q(x_T | x_{T−1}) ‖ p(x_T)) of (1.49), the mean of ``prior_log_ratio`` given x_{T−1}. It grows
            like ½ D log T, unlike the prior matching of (1.62), and is not part of ``total``.
        log_ratios: (B, T − 1), log q(x_t | x_{t−1}) − log p_θ(x_t | x_{t+1}) for t = 1 … T − 1.
        dims: D, the dimensions of an example.
    """

    reconstruction: Tensor
    prior_log_ratio: Tensor
    prior_kl: Tensor
    log_ratios: Tensor
    dims: int

    @property
    def consistency(self) -> Tensor:
        """(B,), the sum of the log-ratios, in nats."""
        return self.log_ratios.sum(1)

    @property
    def total(self) -> Tensor:
        """(B,), reconstruction − prior log-ratio − consistency, in nats: at most log p(x) in expectation."""
        return self.reconstruction - self.prior_log_ratio - self.consistency

    @property
    def bits_per_dim(self) -> Tensor:
        """(B,), −total / (D ln 2)."""
        return bits_per_dim(-self.total, self.dims)


def consistency_elbo(
    likelihood: Likelihood,
    x: Tensor,
    gammas: Sequence[Tensor],
    draws: AbstractDraws,
    denoise: Denoise,
    process: ForwardProcess = FORWARD,
) -> ConsistencyElbo:
    """Estimate (1.46): log p(x_0 | x_1) − log q(x_T | x_{T−1})/p(x_T) − Σ_{t<T} log q(x_t | x_{t−1})/p_θ(x_t | x_{t+1})."""
    x_0 = likelihood.encode(x)
    chain = latents(x_0, gammas, draws, process)
    first = last = next(chain)
    ratios = []
    for following in chain:
        reverse = _reverse(denoise, following, last.gamma_t, process)
        ratios.append(last.forward.log_prob(last.x_t) - reverse.log_prob(last.x_t))
        last = following
    prior = standard_normal(x_0)
    return ConsistencyElbo(
        reconstruction=likelihood.log_prob(x, first.x_t, first.gamma_t, denoise),
        prior_log_ratio=last.forward.log_prob(last.x_t) - prior.log_prob(last.x_t),
        prior_kl=kl_divergence(last.forward, prior),
        log_ratios=torch.stack(ratios, 1),
        dims=event_dims(x),
    )


def consistency_at(
    x_0: Tensor, gammas: Sequence[Tensor], draws: AbstractDraws, denoise: Denoise, process: ForwardProcess = FORWARD
) -> Tensor:
    """Return log q(x_t | x_{t−1}) − log p_θ(x_t | x_{t+1}) at one t for each row, (B,) in nats: one summand of (1.46).

    Args:
        gammas: γ_{t−1}, γ_t, γ_{t+1} of each row, (B,); at t = 1 the first is −40, where x_{t−1} equals x_0 in all digits.
        draws: noise by the names ``x_s``, ``x_t`` and ``x_u``.
    """
    before, now, after = gammas
    start = process.marginal(x_0, before)
    forward = process.transition(reparameterised_sample(start, draws, "x_s"), before, now, x_0)
    x_t = reparameterised_sample(forward, draws, "x_t")
    x_next = reparameterised_sample(process.transition(x_t, now, after, x_0), draws, "x_u")
    prediction = denoise(x_next, after)
    reverse = process.reverse(prediction.x_0, x_next, now, after)
    reverse = widened(reverse, prediction.log_variance_ratio(now, after))
    return forward.log_prob(x_t) - reverse.log_prob(x_t)


def literal_consistency(x_0: Tensor, gammas: Sequence[Tensor], draws: AbstractDraws, denoise: Denoise) -> Tensor:
    """Return KL(q(x_t | x_{t−1}) ‖ p_θ(x_t | x_{t+1})) of (1.47) at a joint draw of (x_{t−1}, x_{t+1}), (B, T − 1) in nats.

    **Not a part of the ELBO.** (1.47) assumes that x_t is independent of x_{t+1} given x_{t−1}, false for the chain.
    In place of (1.46)'s consistency term it gives another number, further from log p(x) by ``literal_gap`` in the mean, a
    difference that grows without limit with T.
    """
    pairs = pairwise(latents(x_0, gammas, draws))
    return torch.stack([kl_divergence(at.forward, _reverse(denoise, after, at.gamma_t)) for at, after in pairs], 1)


def literal_gap(
    x_0: Tensor, gammas: Sequence[Tensor], draws: AbstractDraws, denoise: Denoise, divergence: Divergence
) -> Tensor:
    """Return the mean difference of (1.47) to (1.46): √α_{t+1} (1 − α_t)/σ_q²(t+1) ∇·μ_θ(x_{t+1}), (B, T − 1) in nats.

    From Stein's identity E (x_t − √α_t x_{t−1})·μ_θ(x_{t+1}) = (1 − α_t) √α_{t+1} E ∇·μ_θ(x_{t+1}), zero in (1.47).
    """
    columns = []
    for at, following in pairwise(latents(x_0, gammas, draws)):

        def scaled_mean(x_next: Tensor, at: "ChainLatent" = at, following: "ChainLatent" = following) -> Tensor:
            reverse = _reverse(denoise, following._replace(x_t=x_next), at.gamma_t)
            signal = (alpha_bar(following.gamma_t) / alpha_bar(at.gamma_t)).sqrt()
            return align(signal, x_next) * at.forward.variance / reverse.variance * reverse.mean

        columns.append(divergence(scaled_mean, following.x_t, divergence.probes(draws, x_0))[1])
    return torch.stack(columns, 1)


class ChainLatent(NamedTuple):
    """One latent of a trajectory: x_t (B, *event), drawn from ``forward`` = q(x_t | x_{t−1}), or q(x_1 | x_0) at t = 1."""

    x_t: Tensor
    gamma_t: Tensor
    forward: Independent


def latents(
    x_0: Tensor, gammas: Sequence[Tensor], draws: AbstractDraws, process: ForwardProcess = FORWARD
) -> Iterator[ChainLatent]:
    """Draw x_1 … x_T ~ q(x_{1:T} | x_0), each from the one before by (1.34)."""
    x_t = x_0
    for i, gamma_t in enumerate(gammas):
        forward = process.transition(x_t, gammas[i - 1], gamma_t, x_0) if i else process.marginal(x_0, gamma_t)
        x_t = reparameterised_sample(forward, draws, f"x_{i + 1}")
        yield ChainLatent(x_t, gamma_t, forward)


def _reverse(denoise: Denoise, following: ChainLatent, gamma_t: Tensor, process: ForwardProcess = FORWARD) -> Independent:
    """p_θ(x_t | x_{t+1}) at the latent x_{t+1}: (1.96)."""
    prediction = denoise(following.x_t, following.gamma_t)
    kernel = process.reverse(prediction.x_0, following.x_t, gamma_t, following.gamma_t)
    return widened(kernel, prediction.log_variance_ratio(gamma_t, following.gamma_t))
