"""What both U-Nets are made of."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zero_init(layer: Layer) -> Layer:
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
        self.linear = zero_init(nn.Linear(features, image_channels * outputs))

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.movedim(1, -1)).unflatten(-1, self.shape).movedim(-2, 1)


def image_head(norm: nn.GroupNorm, image_channels: int, outputs: int) -> nn.Sequential:
    """Features ↦ y, zero at first: (B, C, H, W), or (B, C, H, W, outputs) where more than one number is asked for."""
    n = norm.num_channels
    one_number = zero_init(nn.Conv2d(n, image_channels, 3, padding=1))
    return nn.Sequential(norm, nn.SiLU(), one_number if outputs == 1 else PixelHead(n, image_channels, outputs))


class Dropout(nn.Module):
    """Zeroes each number with probability p while training, and divides the others by 1 − p.

    On a CPU four draws come out of 64 random bits, seven times as fast as ``nn.Dropout``: p is in steps of 2⁻¹⁶ there.

    Raises:
        InvalidInput: p outside [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p <= 65535 / 65536:
            raise InvalidInput(f"dropout is a probability from 0 to less than 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        return x * dropout_mask(x, self.p) if self.p else x


def dropout_mask(x: Tensor, p: float) -> Tensor:
    """0 with a probability near p, otherwise the inverse of the probability of that, in x's shape, dtype and layout.

    The inverse is a number of x's dtype, so that the mean stays what it was: in bfloat16 p = 0.1 is 0.0986.
    """
    inverse = torch.tensor(1 / (1 - p), dtype=x.dtype).item()
    out_of = round(65536 * (1 - 1 / inverse))
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[: x.numel()]
    mask = torch.ge(bits.as_strided(x.shape, x.stride()), out_of - 32768, out=torch.empty_like(x.detach()))
    return mask.mul_(65536 / (65536 - out_of))


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1×1 convolution of pixels (B, pixels, channels)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q kᵀ/√d) v, each (B, heads, pixels, d).

    In bfloat16 on a CPU by two matrix products, where torch's fused kernel takes 1.7 times as long.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, -1, dtype=q.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


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
        self.out = zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = pointwise(self.qkv, self.norm(x).flatten(2).mT).view(b, h * w, 3, self.heads, c // self.heads)
        attended = attention(*qkv.permute(2, 0, 3, 1, 4).unbind())
        return x + pointwise(self.out, attended.transpose(1, 2).reshape(b, h * w, c)).mT.reshape(b, c, h, w)


class Block(nn.Module):
    """A residual block (x, noise level) ↦ h, then attention where it is wanted."""

    def __init__(self, block: nn.Module, attention: AttentionBlock | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.block(x, level)
        return h if self.attention is None else self.attention(h)


COMPILED_SHAPES = 64
"""Of stages and batches that are compiled each for itself; beyond as many, torch leaves the rest uncompiled."""


def compile_blocks(model: nn.Module) -> None:
    """Compile U-Nets stage by stage, in place: stages of one shape share their code, and the weights keep their names."""
    torch._dynamo.config.recompile_limit = max(COMPILED_SHAPES, torch._dynamo.config.recompile_limit)
    for part in model.modules():
        if isinstance(part, Block):
            part.compile(dynamic=False)
