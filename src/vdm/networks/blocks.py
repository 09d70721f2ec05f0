"""Layers of both U-Nets."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zero_init(layer: Layer) -> Layer:
    """Set a layer's weights to zero, so that its residual branch adds nothing at first; return the layer."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def conv(n_in: int, n_out: int) -> nn.Conv2d:
    """Return a 3×3 convolution that keeps the resolution."""
    return nn.Conv2d(n_in, n_out, 3, padding=1)


class PixelHead(nn.Module):
    """Features (B, F, H, W) ↦ (B, C, H, W, outputs): one linear map of each pixel's features, zero at first."""

    def __init__(self, features: int, image_channels: int, outputs: int) -> None:
        super().__init__()
        self.shape = (image_channels, outputs)
        self.linear = zero_init(nn.Linear(features, image_channels * outputs))

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.movedim(1, -1)).unflatten(-1, self.shape).movedim(-2, 1)


def image_head(norm: nn.GroupNorm, image_channels: int, outputs: int) -> nn.Sequential:
    """Return a head, features ↦ y, zero at first: (B, C, H, W) for one output, else (B, C, H, W, outputs)."""
    n = norm.num_channels
    one_number = zero_init(conv(n, image_channels))
    return nn.Sequential(norm, nn.SiLU(), one_number if outputs == 1 else PixelHead(n, image_channels, outputs))


class Dropout(nn.Module):
    """Set each number to zero with probability p in training, and divide the others by 1 − p.

    On a CPU four draws use 64 random bits, seven times as fast as ``nn.Dropout``, with p in steps of 2⁻¹⁶.

    Raises:
        InvalidInput: p outside [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p <= 65535 / 65536:
            raise InvalidInput(f"dropout must be a probability from 0 to less than 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return F.dropout(x, self.p, self.training)
        return x * dropout_mask(x, self.p) if self.p else x


def dropout_mask(x: Tensor, p: float) -> Tensor:
    """Return a mask in x's shape, dtype and layout: 0 with a probability q near p, otherwise 1/(1 − q).

    q is chosen so that 1/(1 − q) is exact in x's dtype and the mean is preserved: in bfloat16 p = 0.1 becomes 0.0986.
    """
    inverse = torch.tensor(1 / (1 - p), dtype=x.dtype).item()
    out_of = round(65536 * (1 - 1 / inverse))
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[: x.numel()]
    mask = torch.ge(bits.as_strided(x.shape, x.stride()), out_of - 32768, out=torch.empty_like(x.detach()))
    return mask.mul_(65536 / (65536 - out_of))


def pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 1×1 convolution to pixels (B, pixels, channels)."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q kᵀ/√d) v, each (B, heads, pixels, d).

    In bfloat16 on a CPU two matrix products are 1.7 times as fast as torch's fused kernel.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        return torch.softmax((q * q.shape[-1] ** -0.5) @ k.mT, -1, dtype=q.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


class AttentionBlock(nn.Module):
    """Self-attention over the pixels, with a residual connection; (B, C, H, W) to the same.

    Args:
        norm: the first layer; its channels are C.
        heads: attention heads; must divide C.

    Raises:
        InvalidInput: ``heads`` does not divide C.
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
    """A residual block (x, noise level) ↦ h, then attention if there is one."""

    def __init__(self, block: nn.Module, attention: AttentionBlock | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.block(x, level)
        return h if self.attention is None else self.attention(h)


def u_trunk(h: Tensor, level: Tensor, down: nn.ModuleList, middle: nn.ModuleList, up: nn.ModuleList) -> Tensor:
    """Pass h (B, C, H, W) down and up; each block of ``up`` sees the last output on the way down that none has seen yet.

    Layers that are no ``Block`` change the resolution.
    """
    skips = [h]
    for layer in down:
        h = layer(h, level) if isinstance(layer, Block) else layer(h)
        skips.append(h)
    for layer in middle:
        h = layer(h, level)
    for layer in up:
        h = layer(torch.cat([h, skips.pop()], 1), level) if isinstance(layer, Block) else layer(h)
    return h


def compile_blocks(model: nn.Module) -> None:
    """Compile U-Nets block by block, in place: blocks of one shape share their code, and the weights keep their names.

    At least 64 shapes of blocks and batches are compiled; the rest runs uncompiled.
    """
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for part in model.modules():
        if isinstance(part, Block):
            part.compile(dynamic=False)
