"""A down-sampling U-Net with self-attention at chosen resolutions."""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput, at_least
from vdm.networks.backbone import Backbone
from vdm.networks.blocks import AttentionBlock, Block, Dropout, conv, image_head, u_trunk, zero_init
from vdm.networks.embedding import ConditionEmbedding, NoiseLevelEmbedding


def norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation with groups of at least four channels, at most 32 groups."""
    groups = max(g for g in range(1, 33) if channels % g == 0 and channels // g >= min(4, channels))
    return nn.GroupNorm(groups, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, the second scaled and shifted by the noise level; (B, C, H, W) to (B, out, H, W)."""

    def __init__(self, channels: int, out_channels: int, level_channels: int, dropout: float) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = norm(channels), conv(channels, out_channels)
        self.level = nn.Linear(level_channels, 2 * out_channels)
        self.norm_2, self.dropout = norm(out_channels), Dropout(dropout)
        self.conv_2 = zero_init(conv(out_channels, out_channels))
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))
        scale, shift = self.level(level)[:, :, None, None].chunk(2, 1)
        h = F.silu(self.norm_2(h) * (1 + scale) + shift)
        return self.skip(x) + self.conv_2(self.dropout(h))


@dataclass(eq=False, repr=False)
class UNet(Backbone):
    """(x_t, γ_t, condition) ↦ y of x_t's shape (B, C, H, W).

    Args:
        event_shape: (C, H, W); H and W divisible by 2 once for each resolution but the first.
        channels: channels at full resolution.
        multipliers: channels at each resolution as a multiple of ``channels``; each resolution is half the one before.
        blocks: residual blocks at each resolution on the way down; one more on the way up.
        attention: resolutions (heights) with self-attention.
        heads: attention heads.
        dropout: probability, inside every residual block.
        gamma_min, gamma_max, condition: of the ``NoiseLevelEmbedding``.
        outputs: numbers a dimension; from two on y is (B, C, H, W, outputs).

    Raises:
        InvalidInput: another event shape, sides that cannot be halved so often, or sizes below 1.
    """

    event_shape: Sequence[int]
    channels: int
    multipliers: Sequence[int]
    blocks: int
    gamma_min: float
    gamma_max: float
    attention: Sequence[int] = ()
    heads: int = 1
    dropout: float = 0.0
    condition: InitVar[ConditionEmbedding | None] = None
    outputs: int = 1

    def __post_init__(self, condition: ConditionEmbedding | None) -> None:
        super().__init__(self.event_shape, self.outputs)
        self._check_sizes()
        image_channels, height, _ = self.event_shape
        lowest = height >> (len(self.multipliers) - 1)
        self.embedding = NoiseLevelEmbedding(4 * self.channels, self.gamma_min, self.gamma_max, condition)
        self.first = conv(image_channels, self.channels)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips = self._build_down()
        self.middle = nn.ModuleList([self._block(skips[-1], skips[-1], lowest), self._block(skips[-1], skips[-1], 0)])
        self._build_up(skips)
        self.last = image_head(norm(self.channels * self.multipliers[0]), image_channels, self.outputs)

    def _check_sizes(self) -> None:
        multipliers = min(self.multipliers, default=0)
        at_least(1, channels=self.channels, multipliers=multipliers, heads=self.heads, outputs=self.outputs)
        at_least(0, blocks=self.blocks)
        if len(self.event_shape) != 3:
            raise InvalidInput(f"the U-Net needs images (C, H, W), got shape {tuple(self.event_shape)}: use network=mlp")
        _, height, width = self.event_shape
        halvings = len(self.multipliers) - 1
        if height % 2**halvings or width % 2**halvings:
            raise InvalidInput(
                f"{halvings + 1} levels halve the image {halvings} times, which {height}×{width} does not allow: give "
                "fewer multipliers, or pad the images"
            )

    def _block(self, n_in: int, n_out: int, resolution: int) -> Block:
        block = ResidualBlock(n_in, n_out, 4 * self.channels, self.dropout)
        return Block(block, AttentionBlock(norm(n_out), self.heads) if resolution in self.attention else None)

    def _build_down(self) -> list[int]:
        """Fill ``down``; return the channels of the stem's output and of each layer's."""
        skips = [self.channels]
        for depth, multiplier in enumerate(self.multipliers):
            for _ in range(self.blocks):
                self.down.append(self._block(skips[-1], self.channels * multiplier, self.event_shape[1] >> depth))
                skips.append(self.channels * multiplier)
            if depth < len(self.multipliers) - 1:
                self.down.append(nn.Conv2d(skips[-1], skips[-1], 3, stride=2, padding=1))
                skips.append(skips[-1])
        return skips

    def _build_up(self, skips: list[int]) -> None:
        """Fill ``up``, whose blocks see the output of the layer before, joined to one of ``skips``, last first."""
        current = skips[-1]
        for depth, multiplier in reversed(list(enumerate(self.multipliers))):
            n = self.channels * multiplier
            for _ in range(self.blocks + 1):
                self.up.append(self._block(current + skips.pop(), n, self.event_shape[1] >> depth))
                current = n
            if depth > 0:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), conv(n, n)))

    def stem(self, x_t: Tensor) -> Tensor:
        return self.first(x_t)

    def trunk(self, h: Tensor, level: Tensor) -> Tensor:
        return u_trunk(h, level, self.down, self.middle, self.up)
