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
