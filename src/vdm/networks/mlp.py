"""A residual multi-layer perceptron, for toy data."""

import math

from torch import Tensor, nn

from vdm.errors import at_least
from vdm.networks.backbone import Backbone
from vdm.networks.blocks import zero_init
from vdm.networks.embedding import ConditionEmbedding, NoiseLevelEmbedding


class MLP(Backbone):
    """(x_t, γ_t, condition) ↦ y of x_t's shape, flattened inside.

    Args:
        event_shape: the shape of one example.
        hidden: width of every layer.
        blocks: number of residual blocks.
        gamma_min, gamma_max, condition: of the ``NoiseLevelEmbedding``.
        outputs: numbers a dimension; from two on y is (B, *event, outputs).

    Raises:
        InvalidInput: sizes below 1.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        hidden: int,
        blocks: int,
        gamma_min: float,
        gamma_max: float,
        condition: ConditionEmbedding | None = None,
        outputs: int = 1,
    ) -> None:
        super().__init__(event_shape, outputs)
        at_least(1, hidden=hidden, outputs=outputs)
        at_least(0, blocks=blocks)
        dims = math.prod(event_shape)
        self.embedding = NoiseLevelEmbedding(hidden, gamma_min, gamma_max, condition)
        self.first = nn.Linear(dims, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        )
        self.shifts = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.last = zero_init(nn.Linear(hidden, dims * outputs))

    def stem(self, x_t: Tensor) -> Tensor:
        return self.first(x_t.flatten(1))

    def trunk(self, h: Tensor, level: Tensor) -> Tensor:
        for block, shift in zip(self.blocks, self.shifts, strict=True):
            h = h + block(h + shift(level))
        return nn.functional.silu(h)
