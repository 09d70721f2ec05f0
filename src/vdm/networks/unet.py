"""A down-sampling U-Net with self-attention at chosen resolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput, at_least
from vdm.networks.backbone import Backbone
from vdm.networks.blocks import AttentionBlock, Block, Dropout, image_head, zero_init
from vdm.networks.embedding import ConditionEmbedding, NoiseLevelEmbedding


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with groups of at least four channels, at most 32 groups."""
    groups = max(g for g in range(1, 33) if channels % g == 0 and channels // g >= min(4, channels))
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, the second scaled and shifted by the noise level; (B, C, H, W) to (B, out, H, W)."""

    def __init__(self, channels: int, out_channels: int, level_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = norm(channels), nn.Conv2d(channels, out_channels, 3, padding=1)
        self.level = nn.Linear(level_channels, 2 * out_channels)
        self.norm_2, self.dropout = norm(out_channels), Dropout(dropout)
        self.conv_2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.level(level)[:, :, None, None].chunk(2, 1)
        h = F.silu(self.norm_2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv_2(self.dropout(h))


class UNet(Backbone):
    """(x_t, γ_t, condition) ↦ y of x_t's shape (B, C, H, W).

    Args:
        event_shape: (C, H, W); H and W divisible by 2 for each level but the first.
        channels: channels at full resolution.
        multipliers: channels of each level as a multiple of ``channels``; each level halves the resolution.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: resolutions (heights) with self-attention.
        heads: attention heads.
        dropout: probability, inside every residual block.
        gamma_min, gamma_max: the ends that the noise level is measured between.
        condition: how a condition enters, if there is one.
        outputs: numbers for each dimension; from two on y is (B, C, H, W, outputs).

    Raises:
        InvalidInput: an event that is not an image, sides that cannot be halved that often, or sizes below 1.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        channels: int,
        multipliers: Sequence[int],
        blocks: int,
        gamma_min: float,
        gamma_max: float,
        attention: Sequence[int] = (),
        heads: int = 1,
        dropout: float = 0.0,
        condition: ConditionEmbedding | None = None,
        outputs: int = 1,
    ) -> None:
        super().__init__(event_shape, outputs)
        at_least(1, channels=channels, multipliers=min(multipliers, default=0), heads=heads, outputs=outputs)
        at_least(0, blocks=blocks)
        if len(event_shape) != 3:
            raise InvalidInput(f"the U-Net needs images (C, H, W), got shape {tuple(event_shape)}: use network=mlp")
        image_channels, height, width = event_shape
        halvings = 2 ** (len(multipliers) - 1)
        if height % halvings or width % halvings:
            raise InvalidInput(
                f"{len(multipliers)} levels halve the image {len(multipliers) - 1} times, which {height}×{width} does not "
                "allow: give fewer multipliers, or pad the images"
            )
        level_channels = 4 * channels
        widths = [channels * m for m in multipliers]

        def stage(n_in: int, n_out: int, resolution: int) -> Block:
            block = ResidualBlock(n_in, n_out, level_channels, dropout)
            return Block(block, AttentionBlock(norm(n_out), heads) if resolution in attention else None)

        self.embedding = NoiseLevelEmbedding(level_channels, gamma_min, gamma_max, condition)
        self.first = nn.Conv2d(image_channels, channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, current = [channels], channels
        for depth, n in enumerate(widths):
            for _ in range(blocks):
                self.down.append(stage(current, n, height >> depth))
                current = n
                skips.append(current)
            if depth < len(widths) - 1:
                self.down.append(nn.Conv2d(current, current, 3, stride=2, padding=1))
                skips.append(current)
        lowest = height >> (len(widths) - 1)
        self.middle = nn.ModuleList([stage(current, current, lowest), stage(current, current, 0)])
        for depth, n in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(stage(current + skips.pop(), n, height >> depth))
                current = n
            if depth > 0:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(current, current, 3, padding=1)))
        self.last = image_head(norm(current), image_channels, outputs)

    def stem(self, x_t: Tensor) -> Tensor:
        return self.first(x_t)

    def trunk(self, h: Tensor, level: Tensor) -> Tensor:
        skips = [h]
        for layer in self.down:
            h = layer(h, level) if isinstance(layer, Block) else layer(h)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, level)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], 1), level) if isinstance(layer, Block) else layer(h)
        return h
