"""Embeddings of the noise level and of the condition."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput

NO_CONDITION = "this network was built without a condition: give it a condition embedding"


class ConditionEmbedding(nn.Module, ABC):
    """A condition (B, …), such as class labels or vectors, as a vector (B, channels)."""

    channels: int

    def check(self, condition: Tensor) -> None:
        """Raise InvalidInput for conditions (N, …) that it cannot embed."""

    @abstractmethod
    def forward(self, condition: Tensor) -> Tensor:
        """Map (B, …) to (B, channels)."""


class ClassEmbedding(ConditionEmbedding):
    """An integer label (B,) in 0 … classes − 1."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.table = nn.Embedding(classes, channels)

    def check(self, condition: Tensor) -> None:
        known = self.table.num_embeddings
        if condition.ndim != 1 or condition.min() < 0 or condition.max() >= known:
            raise InvalidInput(
                f"conditions must be labels 0 … {known - 1} of shape (N,), got {condition.min()} to {condition.max()} of "
                f"shape {tuple(condition.shape)}: set classes= of the network's condition to the number of classes"
            )

    def forward(self, condition: Tensor) -> Tensor:
        return self.table(condition.long())


class VectorEmbedding(ConditionEmbedding):
    """A real vector (B, features)."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear = nn.Linear(features, channels)

    def check(self, condition: Tensor) -> None:
        if condition.shape[1:] != (self.linear.in_features,):
            raise InvalidInput(
                f"conditions must be vectors of {self.linear.in_features} features, got shape {tuple(condition.shape)}: set "
                "features= of the network's condition to their number"
            )

    def forward(self, condition: Tensor) -> Tensor:
        return self.linear(condition.to(self.linear.weight.dtype))


def check_condition(network: nn.Module, condition: Tensor | None) -> None:
    """Raise InvalidInput for conditions (N, …), or None, that the network was not built for."""
    embeddings = [part for part in network.modules() if isinstance(part, ConditionEmbedding)]
    if condition is not None and not embeddings and any(isinstance(part, NoiseLevelEmbedding) for part in network.modules()):
        raise InvalidInput(f"the data have conditions: {NO_CONDITION}, or leave data.labels=true out")
    for part in embeddings:
        if condition is None:
            raise InvalidInput("the network was built with a condition, and the data have none: set data.labels=true")
        part.check(condition)


class NoiseLevelEmbedding(nn.Module):
    """γ (B,), and the condition, as one vector (B, channels).

    γ is mapped to 1000 (γ − γ_min)/(γ_max − γ_min), then to sines and cosines of geometric frequencies from 1 to 10⁻⁴ as in
    the official VDM, then through two layers.

    Args:
        channels: of the result.
        gamma_min, gamma_max: constants, the ends of the usual schedule; the network does not depend on a schedule.
        condition: its embedding is joined to the sines and cosines.
        width: number of sines and cosines.
    """

    def __init__(
        self, channels: int, gamma_min: float, gamma_max: float, condition: ConditionEmbedding | None = None, width: int = 64
    ) -> None:
        super().__init__()
        self.gamma_min, self.gamma_max, self.width, self.condition = gamma_min, gamma_max, width, condition
        features = width + (condition.channels if condition is not None else 0)
        self.layers = nn.Sequential(nn.Linear(features, channels), nn.SiLU(), nn.Linear(channels, channels), nn.SiLU())

    def forward(self, gamma: Tensor, condition: Tensor | None = None) -> Tensor:
        features = self.sinusoids(gamma)
        if self.condition is None and condition is not None:
            raise InvalidInput(f"got a condition, but {NO_CONDITION}")
        if self.condition is not None:
            if condition is None:
                raise InvalidInput("this network was built with a condition, and got none: pass condition=")
            features = torch.cat([features, self.condition(condition)], 1)
        return self.layers(features)

    def sinusoids(self, gamma: Tensor) -> Tensor:
        """Map γ (B,) to sines and cosines (B, width)."""
        scaled = self.thousandths(gamma)
        half = self.width // 2
        frequencies = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, dtype=gamma.dtype, device=gamma.device))
        angles = scaled[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)

    def thousandths(self, gamma: Tensor) -> Tensor:
        """Map γ (B,) to 1000 (γ − γ_min)/(γ_max − γ_min)."""
        return 1000 * (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)


class Float32TimeEmbedding(NoiseLevelEmbedding):
    """The embedding with the official VDM's rounding: the angle 1000 t is float32 whatever γ's dtype is."""

    def thousandths(self, gamma: Tensor) -> Tensor:
        t = (gamma - self.gamma_min) / (self.gamma_max - self.gamma_min)
        return (t * 1000).float().to(gamma.dtype)
