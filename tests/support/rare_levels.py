"""A heavy-tailed oracle: most levels are rare, so that a few draws carry much of the bound; with the ideal denoiser."""

import math
from functools import cache

import torch
from torch import Tensor

from vdm.draws import GOLDEN, AbstractDraws, Draws
from vdm.gamma import alpha_bar, sigma2, snr
from vdm.levels import level_centres, level_log_prob, level_mean
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.parameterisations import Prediction
from vdm.schedules import LinearSchedule

LEVELS, ENDS, DIMS = 17, (-8.0, 5.0), 4
SHARES = torch.tensor([0.485 if k in (3, 12) else 0.002 for k in range(LEVELS)], dtype=torch.float64)


def denoise(x_t: Tensor, gamma_t: Tensor) -> Prediction:
    evidence = x_t.new_zeros(()).expand(*x_t.shape, LEVELS).contiguous()
    return Prediction.from_x_0(level_mean(x_t, gamma_t, SHARES.log().to(x_t.dtype), evidence), x_t, gamma_t)


def rare_levels(n: int, seed: int = 0) -> Tensor:
    """Return n examples of four independent pixels, (n, 4)."""
    stream = torch.Generator().manual_seed(seed)
    return torch.multinomial(SHARES, n * DIMS, replacement=True, generator=stream).view(n, DIMS)


def rare_levels_model(time, times=None) -> VDM:
    return VDM(LinearSchedule(*ENDS), denoise, CategoricalLikelihood(LEVELS), time, times)


def rare_levels_bound(x: Tensor) -> dict[str, float]:
    """The mean of the bound at T = ∞ over the examples x, term by term in bits/dim, by quadrature over γ and the noise."""
    terms = {name: values[x].mean().item() / math.log(2) for name, values in _level_terms().items()}
    return {"bits_per_dim": sum(terms.values()), **terms}


@cache
def _level_terms() -> dict[str, Tensor]:
    """Each term in nats for one pixel of each level, (K,)."""
    eps = torch.linspace(-7, 7, 401, dtype=torch.float64)
    density = torch.softmax(-0.5 * eps.square(), 0)
    nodes, weights = _gauss_legendre(160)
    middle, half = sum(ENDS) / 2, (ENDS[1] - ENDS[0]) / 2
    gammas, centres = middle + half * nodes, level_centres(LEVELS, nodes)

    def noised(gamma: Tensor) -> tuple[Tensor, Tensor]:
        signal, noise = alpha_bar(gamma).sqrt(), sigma2(gamma).sqrt()
        return (signal * centres[:, None] + noise * eps).reshape(-1, 1), gamma.expand(LEVELS * len(eps))

    errors = [(denoise(*noised(gamma)).x_0.view(LEVELS, -1) - centres[:, None]).square() @ density for gamma in gammas]
    x_1, gamma_1 = noised(nodes.new_tensor(ENDS[0]))
    own = level_log_prob(torch.arange(LEVELS).repeat_interleave(len(eps))[:, None], x_1, gamma_1, LEVELS)
    end = nodes.new_tensor(ENDS[1])
    prior = 0.5 * (alpha_bar(end) * centres.square() + sigma2(end) - 1 - sigma2(end).log())
    return {
        "reconstruction": -(own.view(LEVELS, -1) @ density),
        "prior_matching": prior,
        "denoising_matching": 0.5 * half * (weights * snr(gammas)) @ torch.stack(errors),
    }


def _gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    k = torch.arange(1, n, dtype=torch.float64)
    off = k / (4 * k.square() - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, 2 * vectors[0].square()


class OneStreamDraws(AbstractDraws):
    """``ExampleDraws`` with one stream for all rows: the same dependence between rows and replicates, many times faster."""

    def __init__(self, index: Tensor, seed: int = 0, repeat: int = 0) -> None:
        self.index, self._draws = index, Draws(seed, repeat)

    def normal(self, name: str, like: Tensor) -> Tensor:
        return self._draws.normal(f"{name} {int(self.index[0])}", like)

    def uniform(self, name: str, like: Tensor) -> Tensor:
        return self._draws.uniform(f"{name} {int(self.index[0])}", like)

    def stratified(self, name: str, like: Tensor) -> Tensor:
        return (self._draws.uniform(name, like[:1]) + self.index.double() * GOLDEN) % 1
