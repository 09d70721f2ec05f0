"""An exponential moving average of the weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput


class ExponentialAverage(nn.Module):
    """θ̄ ← θ̄ + (1 − d_n)(θ − θ̄) after step n, with d_n = min(decay, (1 + n)/(10 + n)); buffers are copied.

    The average is a second model beside the trained one, always in evaluation mode: nothing is swapped, so no callback,
    exception or checkpoint can meet the wrong weights.

    Args:
        model: the model to follow.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise InvalidInput(f"the EMA's decay must be in [0, 1), got {decay}: 0.999 for short runs, 0.9999 for long ones")
        self.decay = decay
        self.module = deepcopy(model).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "ExponentialAverage":
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow ``model`` after optimiser step number ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged: list[Tensor] = list(self.module.parameters())
        current: list[Tensor] = list(model.parameters())
        if averaged:
            torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
