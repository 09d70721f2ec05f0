"""What both U-Nets are made of."""

from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The layer with zero weights, so that a residual branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class PixelHead(nn.Module):
    """Features (B, F, H, W) ↦ ``outputs`` numbers for each dimension, (B, C, H, W, outputs): one linear map of a pixel's."""

    def __init__(self, features: int, image_channels: int, outputs: int) -> None:
        super().__init__()
        self.shape = (image_channels, outputs)
        self.linear = zeroed(nn.Linear(features, image_channels * outputs))

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.movedim(1, -1)).unflatten(-1, self.shape).movedim(-2, 1)


def image_head(norm: nn.GroupNorm, image_channels: int, outputs: int) -> nn.Sequential:
    """Features ↦ y, zero at first: (B, C, H, W), or (B, C, H, W, outputs) where more than one number is asked for."""
    n = norm.num_channels
    one_number = zeroed(nn.Conv2d(n, image_channels, 3, padding=1))
    return nn.Sequential(norm, nn.SiLU(), one_number if outputs == 1 else PixelHead(n, image_channels, outputs))


class AttentionBlock(nn.Module):
    """Self-attention over the pixels, with a residual connection; (B, C, H, W) to the same.

    Args:
        norm: what the input goes through first; its channels are C.
        heads: must divide C.
    """

    def __init__(self, norm: nn.GroupNorm, heads: int) -> None:
        super().__init__()
        channels = norm.num_channels
        if channels % heads:
            raise InvalidInput(f"heads={heads} must divide the {channels} channels of the layers with attention")
        self.heads = heads
        self.norm = norm
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).view(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2)
        attended = F.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + self.out(attended.transpose(-1, -2).reshape(b, c, h, w))


class Stage(nn.Module):
    """A residual block (x, noise level) ↦ h, then attention where it is wanted."""

    def __init__(self, block: nn.Module, attention: AttentionBlock | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.block(x, level)
        return h if self.attention is None else self.attention(h)
