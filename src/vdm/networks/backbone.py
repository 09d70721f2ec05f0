"""The base of every denoiser's network, and the precision it runs in."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput
from vdm.networks.embedding import NoiseLevelEmbedding


class Backbone(nn.Module, ABC):
    """(x_t, γ_t, condition) ↦ y: a stem, a trunk that depends on the noise level, and a head.

    Attributes:
        event_shape: the shape of one example.
        outputs: numbers a dimension: y has x_t's shape (B, *event) for one, else the shape (B, *event, outputs).
        embedding: of the noise level and the condition.
        last: the head. (The name is part of checkpoints.)
        low_precision: dtype of the trunk, bfloat16 or None, with its weights rounded as they are used. Stem, head and
            embedding keep the weights' dtype: bfloat16 has eight bits for γ, for a pixel and for the output, which the
            bound weighs by the SNR. A run-time setting, not part of a model's state.
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
        """Return y for x_t (B, *event) and gamma_t (B,), both in the weights' dtype.

        Raises:
            InvalidInput: examples of another shape, which convolutions would accept.
        """
        if x_t.shape[1:] != self.event_shape:
            raise InvalidInput(f"this network takes batches of examples {self.event_shape}, got {tuple(x_t.shape)}")
        level = self.embedding(gamma_t, condition)
        h = self.stem(x_t)
        with torch.autocast(h.device.type, self.low_precision) if self.low_precision else nullcontext():
            h = self.trunk(h.to(self.low_precision), level)
        y = self.last(h.to(x_t.dtype))
        return y.view_as(x_t) if self.outputs == 1 else y.view(*x_t.shape, self.outputs)

    @abstractmethod
    def stem(self, x_t: Tensor) -> Tensor:
        """The first layer, x_t ↦ h."""

    @abstractmethod
    def trunk(self, h: Tensor, level: Tensor) -> Tensor:
        """The layers between stem and head, (h, noise level) ↦ h."""
