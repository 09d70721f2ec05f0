"""A categorical auxiliary latent."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vdm.auxiliary.latent import LatentFamily, latent_uniform
from vdm.draws import AbstractDraws


class OneHotLatent(LatentFamily):
    """q(z | x) = softmax of the logits over the L one-hot vectors, and a uniform p(z).

    The gradient of a draw is that of its mean (Bengio et al. 2013), which is biased; the bound's value is exact.
    """

    @property
    def parameters(self) -> int:
        return self.size

    def draw(self, parameters: Tensor, draws: AbstractDraws) -> Tensor:
        mean = torch.softmax(parameters, 1)
        below = mean.cumsum(1) < latent_uniform(draws, parameters[:, :1])
        z = F.one_hot(below.sum(1).clamp(max=self.size - 1), self.size).to(parameters.dtype)
        return z + (mean - mean.detach())

    def kl(self, parameters: Tensor) -> Tensor:
        log_q = torch.log_softmax(parameters, 1)
        return (log_q.exp() * log_q).sum(1) + math.log(self.size)

    def log_ratio(self, parameters: Tensor, z: Tensor) -> Tensor:
        return (z * torch.log_softmax(parameters, 1)).sum(1) + math.log(self.size)

    def prior(self, like: Tensor, draws: AbstractDraws) -> Tensor:
        return self.draw(like.new_zeros(len(like), self.size), draws).to(like.dtype)
