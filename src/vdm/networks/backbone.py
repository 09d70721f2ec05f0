"""What every network of a denoiser has in common, and the precision it runs in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput
from vdm.networks.embedding import NoiseLevelEmbedding


class Backbone(nn.Module, ABC):
    """(x_t, γ_t, condition) ↦ y: a first layer, a body that sees the noise level, a last layer.

    y has x_t's shape, (B, *event), or (B, *event, ``outputs``) where more than one number is asked for each dimension.

    ``low_precision`` (bfloat16, or None) is what the body runs in, its weights rounded as they are used. The rest stays in
    the weights' dtype: bfloat16 has eight bits for γ, for a pixel and for the output, which the bound weighs by the SNR.
    It is a way to run, no part of a model's state.
    """

    event_shape: Sequence[int]
    outputs: int
    embedding: NoiseLevelEmbedding
    last: nn.Module
    low_precision: torch.dtype | None

    def __init__(self, event_shape: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.event_shape, self.outputs, self.low_precision = tuple(event_shape), outputs, None

    def forward(self, x_t: Tensor, gamma_t: Tensor, condition: Tensor | None = None) -> Tensor:
        """x_t (B, *event) and gamma_t (B,) in the weights' dtype.

        Raises:
            InvalidInput: examples of another shape, though convolutions could take them: a bound of other data.
        """
        if x_t.shape[1:] != self.event_shape:
            raise InvalidInput(f"this network is for batches of examples {self.event_shape}, and got {tuple(x_t.shape)}")
        level = self.embedding(gamma_t, condition)
        h = self.stem(x_t)
        with torch.autocast(h.device.type, self.low_precision) if self.low_precision else nullcontext():
            h = self.trunk(h.to(self.low_precision), level)
        y = self.last(h.to(x_t.dtype))
        return y.view_as(x_t) if self.outputs == 1 else y.view(*x_t.shape, self.outputs)

    @abstractmethod
    def stem(self, x_t: Tensor) -> Tensor:
        """The first layer."""

    @abstractmethod
    def trunk(self, h: Tensor, level: Tensor) -> Tensor:
        """All between the first and the last layer."""
