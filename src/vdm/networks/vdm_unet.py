"""The network of the official VDM (Kingma et al. 2021): a U-Net that never down-samples."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import InitVar, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.buildable import buildable
from vdm.errors import InvalidInput, at_least
from vdm.networks.backbone import Backbone
from vdm.networks.blocks import AttentionBlock, Block, Dropout, conv, image_head, u_trunk, zero_init
from vdm.networks.embedding import ConditionEmbedding, Float32TimeEmbedding, NoiseLevelEmbedding


class FourierFeatures:
    """x (B, C, H, W) ↦ (x, sin 2π 2ⁿ x, cos 2π 2ⁿ x), (B, (1 + 2N) C, H, W), for N exponents n.

    With 256 levels neighbouring centres are 2⁻⁷ apart, which n = 6 and 7 resolve.
    """

    def __init__(self, exponents: Sequence[int] = (6, 7)) -> None:
        self.exponents = tuple(exponents)

    @classmethod
    @buildable
    def for_levels(cls, levels: int, exponents: Sequence[int] = (6, 7)) -> "FourierFeatures | None":
        """Return features for data with so many levels; None for 32 levels or fewer, which need no finer resolution."""
        return cls(exponents) if levels > 32 else None

    def channels(self, channels: int) -> int:
        """Return the channels of the features of an image with ``channels`` channels."""
        return (1 + 2 * len(self.exponents)) * channels

    def __call__(self, x: Tensor) -> Tensor:
        angles = torch.stack([2 * math.pi * 2**n * x for n in self.exponents], 2).flatten(1, 2)
        return torch.cat([x, angles.sin(), angles.cos()], 1)


def official_norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation with 32 groups if 32 divides the channels, else with fewer, of two channels or more."""
    groups = 32 if channels % 32 == 0 else max(1, math.gcd(32, channels) // 2)
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ShiftedBlock(nn.Module):
    """Two 3×3 convolutions, the noise level added between them; (B, C, H, W) to (B, out, H, W)."""

    def __init__(self, channels: int, out_channels: int, level_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = official_norm(channels), conv(channels, out_channels)
        self.level = nn.Linear(level_channels, out_channels, bias=False)
        nn.init.zeros_(self.level.weight)
        self.norm_2, self.dropout = official_norm(out_channels), Dropout(dropout)
        self.conv_2 = zero_init(conv(out_channels, out_channels))
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x))) + self.level(level)[:, :, None, None]
        h = F.silu(self.norm_2(h))
        return self.skip(x) + self.conv_2(self.dropout(h))


@dataclass(eq=False, repr=False)
class VDMUNet(Backbone):
    """(x_t, γ_t, condition) ↦ y of x_t's shape (B, C, H, W), all at full resolution.

    ``blocks`` blocks down, two in the middle with one-head attention between them, ``blocks`` + 1 up, each joined to the
    output of its counterpart on the way down. On RGB with Fourier features it has 30.6M weights at 32 blocks of 128
    channels, as published for CIFAR-10, 8.9M at 8 of 128 and 2.24M at 8 of 64. The official network adds x_t to its
    output, which here is ``ResidualNoiseParameterisation``.

    The noise level shifts each channel before a group normalisation, which removes the shift from groups of one channel: the
    official network with exactly 32 channels, in 32 groups, does not depend on γ. It can be built, with a warning.

    Args:
        event_shape: (C, H, W).
        channels: channels of every layer; the official network has a multiple of 32, at least 64.
        blocks: blocks on the way down; the paper calls them levels.
        attention_everywhere: attention after every block, not in the middle only.
        dropout: probability, inside every block.
        fourier: features of x_t for the first layer; none by default.
        gamma_min, gamma_max, condition: of the ``NoiseLevelEmbedding``.
        outputs: numbers a dimension; from two on y is (B, C, H, W, outputs).
        float32_time: round the time embedding's angle to float32, as the official network does in every precision.

    Raises:
        InvalidInput: another event shape, or sizes below 1.
    """

    event_shape: Sequence[int]
    channels: int
    blocks: int
    gamma_min: float
    gamma_max: float
    attention_everywhere: bool = False
    dropout: float = 0.0
    fourier: FourierFeatures | None = None
    condition: InitVar[ConditionEmbedding | None] = None
    outputs: int = 1
    float32_time: bool = False

    def __post_init__(self, condition: ConditionEmbedding | None) -> None:
        super().__init__(self.event_shape, self.outputs)
        self._check_sizes()
        channels, image_channels = self.channels, self.event_shape[0]
        inputs = image_channels if self.fourier is None else self.fourier.channels(image_channels)
        embedding = Float32TimeEmbedding if self.float32_time else NoiseLevelEmbedding
        self.embedding = embedding(4 * channels, self.gamma_min, self.gamma_max, condition, width=channels)
        self.first = conv(inputs, channels)
        self.down = nn.ModuleList(self._block(channels, self.attention_everywhere) for _ in range(self.blocks))
        self.middle = nn.ModuleList([self._block(channels, True), self._block(channels, False)])
        self.up = nn.ModuleList(self._block(2 * channels, self.attention_everywhere) for _ in range(self.blocks + 1))
        self.last = image_head(official_norm(channels), image_channels, self.outputs)

    def _check_sizes(self) -> None:
        at_least(1, channels=self.channels, outputs=self.outputs)
        at_least(0, blocks=self.blocks)
        if len(self.event_shape) != 3:
            raise InvalidInput(f"the VDM U-Net needs images (C, H, W), got shape {tuple(self.event_shape)}: use network=mlp")
        n = self.channels
        if official_norm(n).num_groups == n:
            warnings.warn(f"{n} channels in {n} groups: the norm hides the noise level; use 64", stacklevel=4)

    def _block(self, n_in: int, attention: bool) -> Block:
        block = ShiftedBlock(n_in, self.channels, 4 * self.channels, self.dropout)
        return Block(block, AttentionBlock(official_norm(self.channels), heads=1) if attention else None)

    def stem(self, x_t: Tensor) -> Tensor:
        return self.first(x_t if self.fourier is None else self.fourier(x_t))

    def trunk(self, h: Tensor, level: Tensor) -> Tensor:
        return u_trunk(h, level, self.down, self.middle, self.up)
