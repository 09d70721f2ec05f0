"""What both U-Nets are made of."""

from typing import TypeVar

import torch
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


class Dropout(nn.Module):
    """Zeroes each number with probability p while training, and divides the others by 1 − p; p in steps of 2⁻¹⁶.

    Four draws come out of each 64 random bits: ``nn.Dropout`` on a CPU takes seven times as long for the same.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.out_of = round(p * 65536)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.out_of):
            return x
        return x * (keep(x.numel(), self.out_of, x.device).view(x.shape).to(x.dtype) * (65536 / (65536 - self.out_of)))


@torch.library.custom_op("vdm::keep", mutates_args=())
def keep(n: int, out_of: int, device: torch.device) -> Tensor:
    bits = torch.empty(-(-n // 4), dtype=torch.int64, device=device).random_(-(2**63), None).view(torch.int16)[:n]
    return bits >= out_of - 32768


@keep.register_fake
def _(n: int, out_of: int, device: torch.device) -> Tensor:
    return torch.empty(n, dtype=torch.bool, device=device)


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.linear(x, conv.weight.flatten(1), conv.bias)


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
        qkv = pointwise(self.qkv, self.norm(x).flatten(2).mT).view(b, h * w, 3, self.heads, c // self.heads)
        attended = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind())
        return x + pointwise(self.out, attended.transpose(1, 2).reshape(b, h * w, c)).mT.reshape(b, c, h, w)


class Stage(nn.Module):
    """A residual block (x, noise level) ↦ h, then attention where it is wanted."""

    def __init__(self, block: nn.Module, attention: AttentionBlock | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.block(x, level)
        return h if self.attention is None else self.attention(h)
