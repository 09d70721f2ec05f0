"""KL annealing: ramp up the KL weight in training to avoid posterior collapse."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput


class KLWarmup(nn.Module, ABC):
    """The weight of the KL terms in the training loss; reported bounds are never weighted."""

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the weight of the next loss, a scalar in (0, 1]."""


class NoWarmup(KLWarmup):
    """Weight 1: the loss is the bound."""

    def forward(self) -> Tensor:
        return torch.ones(())


class LinearWarmup(KLWarmup):
    """Weight n/steps for training loss number n = 1, 2, …, then 1 (Sønderby et al. 2016); 1 in evaluation mode.

    The count is a buffer, so a resumed run continues it.

    Args:
        steps: number of training losses until the weight is 1.

    Raises:
        InvalidInput: ``steps`` below 1.
    """

    taken: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise InvalidInput(f"steps of the KL warm-up must be at least 1, got {steps}: use kl_warmup=none for no warm-up")
        self.steps = int(steps)
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        if not self.training:
            return torch.ones((), device=self.taken.device)
        self.taken += 1
        return (self.taken / self.steps).clamp(max=1.0)
