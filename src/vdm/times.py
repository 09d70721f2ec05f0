"""Where the time of a one-t estimate is drawn."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.loss_history import LossHistory, LossObserver
from vdm.objectives import Objective
from vdm.schedules import NoiseSchedule


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


class LinearDenoiserTimes(ImportanceTimes):
    """A proposal in closed form: the loss that the best *linear* denoiser would have at each time.

    For data with variance s² it is E‖ε − ε̂‖²/D = ᾱ s²/(ᾱ s² + σ²) = sigmoid(2 log s − γ), so the density is
    ∝ γ′(t) w(γ) sigmoid(2 log s − γ), taken at the middle of each bin, with a floor. A trained denoiser does better
    where the data is far from Gaussian.

    Args:
        schedule: the model's, fixed and with one γ for all dimensions.
        objective: the model's.
        sigma_data: s, the data's standard deviation on the (−1, 1) scale; positive.
        bins: K.
        floor: the least share as a fraction of 1/K, in (0, 1].
    """

    table: Tensor

    def __init__(
        self, schedule: NoiseSchedule, objective: Objective, sigma_data: float, bins: int = 200, floor: float = 0.1
    ) -> None:
        super().__init__()
        if schedule.learned or isinstance(schedule, LossObserver):
            raise InvalidInput("times=linear_denoiser is for a schedule that stays as it is: use times=stratified")
        if not (sigma_data > 0 and 0 < floor <= 1 and bins >= 1):
            raise InvalidInput(
                f"sigma_data must be positive, floor in (0, 1] and bins ≥ 1, got sigma_data={sigma_data} floor={floor} "
                f"bins={bins}"
            )
        t = (torch.arange(bins, dtype=torch.float64) + 0.5) / bins
        gamma = schedule(t)
        profile = schedule.rate(t) * objective.weight(gamma) * torch.sigmoid(2 * torch.tensor(sigma_data).log() - gamma)
        self.register_buffer("table", (floor / bins + (1 - floor) * profile / profile.sum()).float())

    def shares(self, like: Tensor) -> Tensor:
        return self.table.to(like) / self.table.to(like).sum()


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
