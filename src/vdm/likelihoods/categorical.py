"""The categorical likelihood of the official VDM."""

import torch
from torch import Tensor

from vdm.bound import Denoise
from vdm.draws import AbstractDraws
from vdm.gamma import sum_event
from vdm.levels import level_log_prob, level_logits
from vdm.likelihoods.base import LevelLikelihood


class CategoricalLikelihood(LevelLikelihood):
    """p(x = k | x_1) ∝ N(x_1; √ᾱ_1 v_k, σ_1²), normalised over the K levels of each dimension.

    Each factor is the exact posterior of a level under a uniform prior. It sees one dimension at a time, so it costs little
    only where γ_1 is small enough for x_1 to determine the level: 0.01 bits/dim at γ_1 = −13.3 for 256 levels, 2.4 at DDPM's
    −9.2 (Kingma et al. 2021, equation 9 and appendix).
    """

    def log_prob(self, x: Tensor, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        return sum_event(level_log_prob(x, x_1, gamma_1, self.scale))

    def decode(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise, draws: AbstractDraws) -> Tensor:
        uniform = torch.special.ndtr(draws.normal("decode", x_1)).unsqueeze(-1)
        below = torch.softmax(level_logits(x_1, gamma_1, self.scale), -1).cumsum(-1) < uniform
        return below.sum(-1).clamp(max=self.levels - 1)

    def level_log_probs(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        return torch.log_softmax(level_logits(x_1, gamma_1, self.levels), -1)

    def mode(self, x_1: Tensor, gamma_1: Tensor, denoise: Denoise) -> Tensor:
        return level_logits(x_1, gamma_1, self.scale).argmax(-1)
