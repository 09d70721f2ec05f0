"""The laws of likelihoods and dequantisations: probabilities add up to one, and draws have them."""

import math
from typing import Protocol

import torch
from torch import Tensor

from vdm.draws import AbstractDraws, Draws
from vdm.gamma import alpha_bar
from vdm.laws.law import any_denoise, require, zeros
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood, LevelLikelihood, Likelihood

NOISE = (-8.0, -2.0, 2.0)
"""γ_1 at which a likelihood is looked at."""

PLACES = (-1.3, -0.4, 0.03, 0.9)
"""x_1 at which it is looked at."""

N = 4096


def check_likelihood(likelihood: Likelihood, dims: int = 1) -> None:
    """Hold p(x | x_1) of one number to the sum or integral of one, and its draws to its probabilities.

    Args:
        dims: number of dimensions of an event's shape, each of which is 1 here.
    """
    like = zeros(likelihood)
    for gamma in NOISE:
        gamma_1 = like[None] + gamma
        for place in PLACES:
            x_1 = (like + place).view(1, *[1] * dims)
            if isinstance(likelihood, LevelLikelihood):
                total = level_probabilities(likelihood, x_1, gamma_1).sum().item()
                tolerance, what = 1e-4, "probabilities add up"
            else:
                total, tolerance, what = _integral(likelihood, x_1, gamma_1), 5e-3, "density integrates"
            require(
                abs(total - 1) <= tolerance,
                f"at x_1 = {place:g} and gamma_1 = {gamma:g} its {what} to {total:.6g}, but must to 1",
            )
        if isinstance(likelihood, LevelLikelihood):
            _check_level_draws(likelihood, (like + 0.37).view(1, *[1] * dims), gamma_1)
    if isinstance(likelihood, LevelLikelihood):
        _check_encoding(likelihood, dims)


def _check_encoding(likelihood: LevelLikelihood, dims: int) -> None:
    levels = torch.arange(likelihood.levels, device=zeros(likelihood).device).view(-1, *[1] * dims)
    back = likelihood.nearest(likelihood.encode(levels))
    at = int((back != levels).flatten().long().argmax())
    found = back.flatten()[at].item()
    require(torch.equal(back, levels), f"level {at} is encoded to the place of level {found:g}, but must to its own")


def level_probabilities(likelihood: LevelLikelihood, x_1: Tensor, gamma_1: Tensor) -> Tensor:
    """Return P(k | x_1) of one number, (K,), for x_1 (1, 1, …) and gamma_1 (1,)."""
    levels = torch.arange(likelihood.levels, device=x_1.device)
    x = levels.view(-1, *[1] * (x_1.ndim - 1))
    return likelihood.log_prob(x, x_1.expand(x.shape), gamma_1.expand(len(x)), any_denoise).detach().double().exp()


def _integral(likelihood: Likelihood, x_1: Tensor, gamma_1: Tensor) -> float:
    """∫ p(x | x_1) dx over x = c + s tan(πv/2), v in (−1, 1), with centre and scale of draws: no tail is cut off."""
    drawn = likelihood.decode(x_1.expand(N, *x_1.shape[1:]), gamma_1.expand(N), any_denoise, Draws(0)).detach().flatten()
    low, centre, high = (drawn.quantile(drawn.new_tensor(q)) for q in (0.25, 0.5, 0.75))
    scale = (high - low) / 2 + 1e-9
    v = (torch.arange(4001, dtype=x_1.dtype, device=x_1.device) + 0.5) / 4001 * 2 - 1
    x = centre + scale * torch.tan(math.pi / 2 * v)
    width = scale * (math.pi / 2) / torch.cos(math.pi / 2 * v).square() * (2 / 4001)
    shaped = x.view(-1, *[1] * (x_1.ndim - 1))
    log_p = likelihood.log_prob(shaped, x_1.expand(shaped.shape), gamma_1.expand(len(x)), any_denoise).detach()
    return (log_p.exp() * width).nan_to_num(0.0).sum().item()


def _check_level_draws(likelihood: LevelLikelihood, x_1: Tensor, gamma_1: Tensor) -> None:
    """Compare the distribution function with the frequencies of draws, within five standard errors."""
    probabilities = level_probabilities(likelihood, x_1, gamma_1)
    drawn = likelihood.decode(x_1.expand(N, *x_1.shape[1:]), gamma_1.expand(N), any_denoise, Draws(0)).flatten()
    due = probabilities.cumsum(0).clamp(max=1)
    found = torch.bincount(drawn.long().clamp(0, likelihood.levels - 1), minlength=likelihood.levels).cumsum(0) / N
    excess = (found - due).abs() - 5 * (due * (1 - due) / N).sqrt() - 2 / N
    at = int(excess.argmax())
    require(
        excess[at].item() <= 0,
        f"at gamma_1 = {gamma_1.item():g} a share {found[at]:.4g} of its draws is at most {at}, but it gives these the "
        f"probability {due[at]:.4g}",
    )


class Dequantise(Protocol):
    """The call of a ``Dequantisation``."""

    def __call__(
        self, likelihood: Likelihood, x: Tensor, gamma_1: Tensor, draws: AbstractDraws
    ) -> tuple[Tensor, Tensor]: ...


def check_dequantisation(dequantise: Dequantise, of_levels: bool) -> None:
    """Hold q(x_1 | x) to its draws, whose quantiles it must have, and to the level's bin."""
    levels, n = 17, 20_000
    likelihood: Likelihood = CategoricalLikelihood(levels) if of_levels else GaussianLikelihood()
    gamma = torch.full((n,), -7.0, dtype=torch.float64)
    level = torch.full((n, 1), 5.0 if of_levels else 0.3, dtype=torch.float64)
    x_1, log_q = dequantise(likelihood, level, gamma, Draws(0))
    signal, centre = alpha_bar(gamma[:1]).sqrt().item(), likelihood.encode(level[:1]).item()
    reach = (x_1 / signal - centre).abs().max().item()
    if not of_levels:
        require(reach < 1e-6, f"x_1 is {reach:.4g} from the data, but there is nothing to dequantise")
        return
    require(reach <= 1 / levels + 1e-6, f"x_1 is {reach:.4g} from its level, but the bin reaches {1 / levels:.4g}")
    order = x_1.flatten().argsort()
    x, q = x_1.flatten()[order], log_q[order].exp()
    for start in range(n // 10, 9 * n // 10, n // 10):
        piece = slice(start, start + n // 10)
        found = torch.trapezoid(q[piece], x[piece]).item()
        require(abs(found / 0.1 - 1) < 0.15, f"a tenth of its draws has the mass {found:.4g} under q, but must have 0.1")
