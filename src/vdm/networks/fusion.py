"""Networks that fuse tensors of any shapes into tensors of one shape, for learned kernels between latents."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput, at_least
from vdm.networks.blocks import conv, zero_init
from vdm.networks.unet import norm

Shape = Sequence[int]


class FusionNetwork(nn.Module, ABC):
    """(a, b, …) ↦ (y_1, …, y_heads), each y (B, *out_shape).

    At first y_1 is linear in the parents, and equal to the first parent if that has y's shape; the other y are zero. The
    network runs in the weights' dtype and returns the first parent's.
    """

    def forward(self, *parents: Tensor) -> tuple[Tensor, ...]:
        """Return the y for parents (B, *in_shape) each."""
        weights = next(self.parameters())
        return tuple(y.to(parents[0].dtype) for y in self.fuse([parent.to(weights.dtype) for parent in parents]))

    @abstractmethod
    def fuse(self, parents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the heads, in the weights' dtype."""


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class FusionMLP(FusionNetwork):
    """A linear map plus a residual multi-layer perceptron, on flattened tensors.

    Args:
        in_shapes: the parents' event shapes, the nearest first.
        out_shape: y's event shape.
        heads: number of y.
        hidden: width.
        blocks: residual blocks.
    """

    def __init__(
        self, in_shapes: Sequence[Shape], out_shape: Shape, heads: int = 1, hidden: int = 128, blocks: int = 1
    ) -> None:
        super().__init__()
        at_least(1, heads=heads, hidden=hidden)
        at_least(0, blocks=blocks)
        dims, out = [math.prod(shape) for shape in in_shapes], math.prod(out_shape)
        self.out_shape, self.heads = tuple(out_shape), heads
        self.linear = nn.Linear(sum(dims), heads * out)
        first = nn.Linear(sum(dims), hidden)
        middle = [
            Residual(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        ]
        self.rest = nn.Sequential(first, *middle, nn.SiLU(), zero_init(nn.Linear(hidden, heads * out)))
        with torch.no_grad():
            self.linear.weight[out:] = 0
            self.linear.bias.zero_()
            if dims[0] == out:
                self.linear.weight[:out] = torch.eye(out, sum(dims))

    def fuse(self, parents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = torch.cat([parent.flatten(1) for parent in parents], 1)
        y = self.linear(x) + self.rest(x)
        return tuple(head.reshape(-1, *self.out_shape) for head in y.chunk(self.heads, 1))


class FusionConv(FusionNetwork):
    """A 3×3 convolution plus a residual convolutional network, at y's resolution.

    A parent with more pixels is unshuffled, its pixels becoming channels; one with fewer pixels is upsampled.

    Args:
        in_shapes: the parents' event shapes (C, H, W), the nearest first.
        out_shape: y's event shape (C, H, W).
        heads: number of y.
        channels: width.
        blocks: residual blocks.

    Raises:
        InvalidInput: shapes other than (C, H, W), sides that are not multiples of each other, or sizes below 1.
    """

    def __init__(
        self, in_shapes: Sequence[Shape], out_shape: Shape, heads: int = 1, channels: int = 32, blocks: int = 1
    ) -> None:
        super().__init__()
        at_least(1, heads=heads, channels=channels)
        at_least(0, blocks=blocks)
        self.side, self.heads = _image(out_shape)[1:], heads
        inputs, out = sum(self._unshuffled_channels(_image(shape)) for shape in in_shapes), out_shape[0]
        self.linear, first = conv(inputs, out), conv(inputs, channels)
        middle = [self._residual(channels) for _ in range(blocks)]
        self.rest = nn.Sequential(first, *middle, norm(channels), nn.SiLU(), zero_init(conv(channels, heads * out)))
        if tuple(in_shapes[0]) == tuple(out_shape):
            nn.init.dirac_(zero_init(self.linear).weight)

    def fuse(self, parents: Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = torch.cat([self._at_side(parent) for parent in parents], 1)
        first, *others = self.rest(x).chunk(self.heads, 1)
        return first + self.linear(x), *others

    @staticmethod
    def _residual(n: int) -> Residual:
        return Residual(norm(n), nn.SiLU(), conv(n, n), norm(n), nn.SiLU(), zero_init(conv(n, n)))

    def _unshuffled_channels(self, shape: tuple[int, int, int]) -> int:
        channels, *sides = shape
        factors = {(mine, its) for mine, its in zip(self.side, sides, strict=True)}
        if any(max(pair) % min(pair) for pair in factors) or len({its / mine for mine, its in factors}) > 1:
            raise InvalidInput(
                f"latents of {sides[0]}×{sides[1]} and {self.side[0]}×{self.side[1]} pixels do not fit: the sides must be "
                "multiples of each other, by one factor"
            )
        return channels * max(1, sides[0] // self.side[0]) ** 2

    def _at_side(self, parent: Tensor) -> Tensor:
        mine, its = self.side[0], parent.shape[2]
        return F.pixel_unshuffle(parent, its // mine) if its > mine else F.interpolate(parent, size=self.side)


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise InvalidInput(f"the convolutional latents need shapes (C, H, W), got {tuple(shape)}: use latents=mlp")
    return shape[0], shape[1], shape[2]
