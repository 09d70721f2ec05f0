"""Exponential moving average (EMA) of the weights."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput


class ExponentialAverage(nn.Module):
    """EMA copy of a model: θ̄ ← θ̄ + (1 − d_n)(θ − θ̄) after step n, with d_n = min(decay, (1 + n)/(10 + n)).

    The copy is a separate module in evaluation mode. Weights are never swapped between the two models. Buffers are copied.

    Raises:
        InvalidInput: ``decay`` outside [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise InvalidInput(f"the EMA's decay must be in [0, 1), got {decay}: use 0.999, or 0.9999 for long runs")
        self.decay = decay
        self.module = deepcopy(model).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "ExponentialAverage":
        """Stay in evaluation mode for any ``mode``."""
        return super().train(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average in the weights of ``model`` after optimiser step number ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged, current = list[Tensor](self.module.parameters()), list[Tensor](model.parameters())
        if averaged:
            torch._foreach_lerp_(averaged, current, 1 - decay)
        for copy, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
            copy.copy_(buffer)
