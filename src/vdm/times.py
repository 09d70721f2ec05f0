"""Where the time of a one-t estimate is drawn."""

from abc import ABC, abstractmethod

from torch import Tensor

from vdm.draws import AbstractDraws


class TimeSampler(ABC):
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
