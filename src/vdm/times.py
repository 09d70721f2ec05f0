"""Distributions of the time t of a one-t estimate."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.draws import AbstractDraws
from vdm.loss_history import LossHistory, LossObserver


class TimeSampler(nn.Module, ABC):
    """A distribution of u in [0, 1); an estimate divides by its density, so every sampler is unbiased."""

    independent: bool = False
    """Whether u of one row is independent of the other rows'; error bars then pool the examples' replicates."""

    @abstractmethod
    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        """Draw u for the rows of ``like``; return (u, density of u), each (B,)."""


class UniformTimes(TimeSampler):
    """u ~ U[0, 1), independent over the rows."""

    independent = True

    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        u = draws.uniform("t", like)
        return u, u.new_ones(u.shape)


class StratifiedTimes(TimeSampler):
    """u spread evenly over the global batch (Kingma et al. 2021, appendix I.1): a batch's mean has less variance."""

    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        u = draws.stratified("t", like)
        return u, u.new_ones(u.shape)


class ImportanceTimes(TimeSampler):
    """u with a density that is constant on each of K equal bins, drawn by the inverse distribution function.

    The uniform number behind u is spread evenly over the global batch. Every share is positive, so every time can be drawn.
    """

    @abstractmethod
    def shares(self, like: Tensor) -> Tensor:
        """Return the probabilities of the bins, (K,) in ``like``'s dtype: positive, with sum one."""

    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        v = draws.stratified("t", like)
        shares = self.shares(v)
        ends = shares.cumsum(0)
        k = torch.searchsorted(ends, v, right=True).clamp(max=len(shares) - 1)
        within = ((v - (ends - shares)[k]) / shares[k]).clamp(0, 1 - torch.finfo(v.dtype).eps)
        return (k + within) / len(shares), len(shares) * shares[k]


class LossMomentTimes(ImportanceTimes, LossObserver):
    """A density ∝ √E[loss²] from the training losses, which has the least variance (Nichol & Dhariwal 2021).

    Uniform until every bin has a loss. The history is summed over processes and is part of a checkpoint.

    Args:
        bins: K.
        memory: in [0, 1), the weight of a bin's old mean after one new value.
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
