"""Distributions of the time t of a one-t estimate."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.draws import AbstractDraws
from vdm.errors import InvalidInput
from vdm.loss_history import LossHistory, LossObserver
from vdm.schedules import NoiseSchedule, time_of


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


class SignalTimes(TimeSampler):
    """u with a density ∝ a² γ′(u), with a² the squared signal scale of a path at γ: i-DODE's (Zheng et al. 2023).

    With a network that predicts a velocity the loss ½ γ′ ‖ε − ε̂‖² is about ∝ a² γ′, which this density divides out. It is in
    closed form, without a history. The uniform number behind u is spread evenly over the global batch.

    Args:
        schedule: the model's.

    Raises:
        InvalidInput: a schedule that training changes.
    """

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        if schedule.trainable:
            raise InvalidInput(
                f"these times need a fixed schedule, and {type(schedule).__name__} is learned: use times=stratified, or "
                "schedule=linear"
            )
        self.schedule = schedule

    @abstractmethod
    def integral(self, gamma: Tensor) -> Tensor:
        """Return an antiderivative of a² over γ."""

    @abstractmethod
    def squared_signal(self, gamma: Tensor) -> Tensor:
        """Return a²."""

    def gamma(self, share: Tensor) -> Tensor:
        """Return the γ below which the ``share`` of ∫ a² dγ between the schedule's ends lies, by bisection."""
        low, high = (torch.full_like(share, end) for end in (self.schedule.gamma_min, self.schedule.gamma_max))
        wanted = (1 - share) * self.integral(low) + share * self.integral(high)
        for _ in range(60):
            middle = (low + high) / 2
            above = self.integral(middle) > wanted
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2

    def density(self, gamma: Tensor) -> Tensor:
        """Return the density of γ."""
        low, high = (self.integral(gamma.new_full((), end)) for end in (self.schedule.gamma_min, self.schedule.gamma_max))
        return self.squared_signal(gamma) / (high - low)

    def draw(self, draws: AbstractDraws, like: Tensor) -> tuple[Tensor, Tensor]:
        gamma = self.gamma(draws.stratified("t", like))
        u = time_of(self.schedule, gamma).clamp(max=1 - torch.finfo(gamma.dtype).eps)
        return u, self.density(gamma) * self.schedule.rate(u)


class VarianceSignalTimes(SignalTimes):
    """a² = ᾱ, of the variance-preserving path: ∫ ᾱ dγ = log σ²."""

    def integral(self, gamma: Tensor) -> Tensor:
        return nn.functional.logsigmoid(gamma)

    def squared_signal(self, gamma: Tensor) -> Tensor:
        return torch.sigmoid(-gamma)


class StraightSignalTimes(SignalTimes):
    """a = α = sigmoid(−γ/2), of the straight path, with σ = 1 − α: ∫ α² dγ = 2 (log σ − σ)."""

    def integral(self, gamma: Tensor) -> Tensor:
        return 2 * (nn.functional.logsigmoid(gamma / 2) - torch.sigmoid(gamma / 2))

    def squared_signal(self, gamma: Tensor) -> Tensor:
        return torch.sigmoid(-gamma / 2).square()
