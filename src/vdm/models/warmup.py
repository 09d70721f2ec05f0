"""How strongly the KL terms count in training, by step: what keeps latents from being given up before they are of use."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput


class KLWarmup(nn.Module, ABC):
    """The weight of prior matching and matching in the training loss. No bound is ever weighted."""

    @abstractmethod
    def forward(self) -> Tensor:
        """The weight for the next loss, a scalar in (0, 1]."""


class NoWarmup(KLWarmup):
    """1: the loss is the bound."""

    def forward(self) -> Tensor:
        return torch.ones(())


class LinearWarmup(KLWarmup):
    """n/steps for training loss number n = 1, 2, …, then 1 (Sønderby et al. 2016); 1 in evaluation mode.

    The count is a buffer: checkpoints hold it, and a resumed run goes on with it.

    Args:
        steps: training losses until the weight is 1.
    """

    taken: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise InvalidInput(f"steps of the KL warm-up must be at least 1, got {steps}: for none use kl_warmup=none")
        self.steps = int(steps)
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))

    def forward(self) -> Tensor:
        if not self.training:
            return torch.ones((), device=self.taken.device)
        self.taken += 1
        return (self.taken / self.steps).clamp(max=1.0)
