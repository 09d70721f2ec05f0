"""A histogram of the training loss over an interval, averaged over training."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, distributed, nn

from vdm.errors import InvalidInput


class LossObserver(ABC):
    """A part that adapts to the losses: the model calls ``update`` at every training step."""

    @property
    def ready(self) -> bool:
        """Whether it has seen enough losses to adapt; until then it may behave otherwise."""
        return True

    @abstractmethod
    def update(self, u: Tensor, loss: Tensor) -> None:
        """Observe the loss per dimension, (B,), at the times ``u`` (B,), not divided by u's density."""


class LossHistory(nn.Module):
    """The running mean of a positive quantity in each of K equal bins of [0, 1).

    A bin's mean moves by (1 − memory^n) of the way to the mean of n new values. Values are summed over the processes, and
    the state is in buffers: ranks agree, and a resumed run continues with the state of its checkpoint.

    Args:
        bins: K.
        memory: in [0, 1), the weight of the old mean after one new value.
        floor: the least share of a bin, as a fraction of the even share 1/K; in (0, 1].

    Raises:
        InvalidInput: settings outside their ranges.
    """

    means: Tensor
    seen: Tensor

    def __init__(self, bins: int, memory: float, floor: float) -> None:
        super().__init__()
        if bins < 1 or not 0 <= memory < 1 or not 0 < floor <= 1:
            raise InvalidInput(
                f"a loss history needs bins ≥ 1, memory in [0, 1) and floor in (0, 1], got bins={bins} memory={memory} "
                f"floor={floor}"
            )
        self.bins, self.memory, self.floor = bins, memory, floor
        self.register_buffer("means", torch.ones(bins))
        self.register_buffer("seen", torch.zeros(bins))

    @property
    def ready(self) -> bool:
        """Whether every bin has a value."""
        return bool((self.seen > 0).all())

    @torch.no_grad()
    def update(self, position: Tensor, value: Tensor) -> None:
        """Add ``value`` ≥ 0 (B,) at ``position`` in [0, 1], (B,)."""
        which = (position * self.bins).long().clamp(0, self.bins - 1)
        both = torch.zeros(2, self.bins, device=self.means.device)
        both[0].index_add_(0, which, torch.ones_like(both[0, which]))
        both[1].index_add_(0, which, value.float())
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(both)
        counts, sums = both
        rate = torch.where(self.seen > 0, 1 - self.memory**counts, (counts > 0).float())
        self.means.lerp_(sums / counts.clamp(min=1), rate)
        self.seen.add_(counts)

    def shares(self, power: float, like: Tensor) -> Tensor:
        """Return (K,) in ``like``'s dtype, positive with sum one: ∝ means^power plus the floor; equal until ``ready``."""
        raw = torch.where((self.seen > 0).all(), self.means.to(like) ** power, 1.0)
        return self.floor / self.bins + (1 - self.floor) * raw / raw.sum()
