"""Embeddings of the noise level and of the condition."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from vdm.errors import InvalidInput

NO_LABEL = -1
"""The label of an example without one, for an ``OptionalClassEmbedding``."""

NO_CONDITION = "this network was built without a condition: give it a condition embedding"


class ConditionEmbedding(nn.Module, ABC):
    """A condition (B, …), such as class labels or vectors, as a vector (B, channels)."""

    channels: int

    def check_data(self, condition: Tensor | None) -> None:
        """Raise InvalidInput for a data set's conditions (N, …), or none, that it was not built for."""
        if condition is None:
            raise InvalidInput("the network was built with a condition, and the data have none: set data.labels=true")
        self.check(condition)

    def check(self, condition: Tensor) -> None:
        """Raise InvalidInput for conditions (N, …) that it cannot embed."""

    def absent(self, rows: int, like: Tensor) -> Tensor:
        """Return the condition (B, …) that stands for none; raise InvalidInput if there is no such thing."""
        raise InvalidInput("this network was built with a condition, and got none: pass condition=")

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


class OptionalClassEmbedding(ClassEmbedding):
    """A label, or ``NO_LABEL``, which a share of the training examples gets: the network learns both densities.

    Args:
        classes, channels: as for ``ClassEmbedding``.
        dropout: the share; drawn from torch's generator, like other dropout.
    """

    def __init__(self, classes: int, channels: int, dropout: float = 0.1) -> None:
        super().__init__(classes + 1, channels)
        if not 0 <= dropout <= 1:
            raise InvalidInput(f"dropout of labels must be in [0, 1], got {dropout}")
        self.dropout = float(dropout)

    def check(self, condition: Tensor) -> None:
        super().check(condition)
        classes = self.table.num_embeddings - 1
        if condition.max() >= classes:
            raise InvalidInput(f"conditions must be labels 0 … {classes - 1}, got {condition.max()}: set classes=")

    def forward(self, condition: Tensor) -> Tensor:
        label, none = condition.long(), self.table.num_embeddings - 1
        dropped = label == NO_LABEL
        if self.training:
            dropped = dropped | (torch.rand(label.shape, device=label.device) < self.dropout)
        return self.table(torch.where(dropped, none, label))


class IndicatorEmbedding(VectorEmbedding):
    """The indicator (B, features) of an augmentation; none is zero. It has no bias, so that zero adds nothing."""

    def __init__(self, features: int, channels: int = 16) -> None:
        super().__init__(features, channels)
        self.linear = nn.Linear(features, channels, bias=False)

    def check_data(self, condition: Tensor | None) -> None:
        if condition is not None:
            raise InvalidInput("this network's condition is what augmentation did: use data without labels")

    def absent(self, rows: int, like: Tensor) -> Tensor:
        return like.new_zeros(rows, self.linear.in_features)


class LatentEmbedding(ConditionEmbedding):
    """A vector (B, features) that the model itself makes, such as an auxiliary latent, as it is."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.channels = features

    def check_data(self, condition: Tensor | None) -> None:
        if condition is not None:
            raise InvalidInput("this network's condition is a latent of the model: use data without labels")

    def forward(self, condition: Tensor) -> Tensor:
        return condition


def check_condition(network: nn.Module, condition: Tensor | None) -> None:
    """Raise InvalidInput for conditions (N, …), or None, that the network was not built for."""
    embeddings = [part for part in network.modules() if isinstance(part, ConditionEmbedding)]
    if condition is not None and not embeddings and any(isinstance(part, NoiseLevelEmbedding) for part in network.modules()):
        raise InvalidInput(f"the data have conditions: {NO_CONDITION}, or leave data.labels=true out")
    for part in embeddings:
        part.check_data(condition)


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
            condition = self.condition.absent(len(gamma), features) if condition is None else condition
            features = torch.cat([features, self.condition(condition).to(features.dtype)], 1)
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
