"""Where the time of a one-t estimate is drawn."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.draws import AbstractDraws
from vdm.loss_history import LossHistory, LossObserver


class TimeSampler(nn.Module, ABC):
    """Draws one u in [0, 1) for each row; an estimate divides by the density, so every sampler is unbiased."""

    @abstractmethod
    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        """(u, density of u), each (B,), for the rows of ``like``."""


class UniformTimes(TimeSampler):
    """u ~ U[0, 1), independent over the rows."""

    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        u = draws.uniform("t", like)
        return u, u.new_ones(u.shape)


class StratifiedTimes(TimeSampler):
    """u spread evenly over the global batch (Kingma et al. 2021, appendix I.1): the mean over a batch varies less."""

    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        u = draws.stratified("t", like)
        return u, u.new_ones(u.shape)


class ImportanceTimes(TimeSampler):
    """u with a density that is constant on each of K equal bins, by its inverse distribution function.

    The uniform number behind u is spread evenly over the global batch. Every share is positive, so no time is left out.
    """

    @abstractmethod
    def shares(self, like: Tensor) -> Tensor:
        """(K,), the probabilities of the bins, in ``like``'s dtype: positive, with sum one."""

    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        v = draws.stratified("t", like)
        shares = self.shares(v)
        ends = shares.cumsum(0)
        k = torch.searchsorted(ends, v, right=True).clamp(max=len(shares) - 1)
        within = ((v - (ends - shares)[k]) / shares[k]).clamp(0, 1 - torch.finfo(v.dtype).eps)
        return (k + within) / len(shares), len(shares) * shares[k]


class LossMomentTimes(ImportanceTimes, LossObserver):
    """A density ∝ √E[loss²] at each time, from the losses of training (Nichol & Dhariwal 2021): the least variance.

    Even until every bin has been seen. The history is summed over processes and is part of a checkpoint.

    Args:
        bins: K.
        memory: what one new value leaves of an old mean of its bin.
        floor: the least share as a fraction of 1/K, in (0, 1]; bounds the weights 1/density by 1/floor.
    """

    def __init__(self, bins: int = 100, memory: float = 0.99, floor: float = 0.1) -> None:
        super().__init__()
        self.profile = LossHistory(bins, memory, floor)

    def shares(self, like: Tensor) -> Tensor:
        return self.profile.shares(0.5, like)

    @property
    def ready(self) -> bool:
        return self.profile.ready

    def update(self, u: Tensor, loss: Tensor) -> None:
        self.profile.update(u, loss.square())
