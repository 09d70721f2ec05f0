"""The U-Net of OpenAI's improved-diffusion and guided-diffusion, with the names of their parameters.

Nichol & Dhariwal 2021 (arXiv:2102.09672), Dhariwal & Nichol 2021 (arXiv:2105.05233).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdm.errors import InvalidInput, at_least
from vdm.networks.blocks import Dropout, attention, conv, zero_init
from vdm.networks.embedding import NO_CONDITION, ConditionEmbedding


def norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation with 32 groups; raise InvalidInput if 32 does not divide the channels."""
    if channels % 32:
        raise InvalidInput(f"this network normalises in 32 groups, which do not divide {channels} channels: use 32, 64, …")
    return nn.GroupNorm(32, channels)


def step_sinusoids(number: Tensor, width: int) -> Tensor:
    """Map step numbers (B,) to cosines, then sines, of geometric frequencies from 1 down to almost 10⁻⁴, (B, width)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=number.dtype, device=number.device))
    angles = number[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)


class LabelEmbedding(ConditionEmbedding):
    """An integer label (B,) in 0 … classes − 1, added to the embedding of the step."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        self.weight = nn.Parameter(torch.randn(classes, channels))

    def check(self, condition: Tensor) -> None:
        if condition.ndim != 1 or condition.min() < 0 or condition.max() >= self.classes:
            raise InvalidInput(f"conditions must be labels 0 … {self.classes - 1} of shape (N,): this model knows no others")

    def forward(self, condition: Tensor) -> Tensor:
        return F.embedding(condition.long(), self.weight)


class StepBlock(nn.Module):
    """Two 3×3 convolutions, the step's embedding between them, as a shift or as scale and shift; it may resample first."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        level_channels: int,
        scale_shift: bool,
        dropout: float,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift, self.resample = scale_shift, resample or nn.Identity()
        self.in_layers = nn.Sequential(norm(channels), nn.SiLU(), conv(channels, out_channels))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(level_channels, out_channels * (1 + scale_shift)))
        last = zero_init(conv(out_channels, out_channels))
        self.out_layers = nn.Sequential(norm(out_channels), nn.SiLU(), Dropout(dropout), last)
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        h = self.in_layers[2](self.resample(self.in_layers[:2](x)))
        embedded = self.emb_layers(level)[:, :, None, None]
        if self.scale_shift:
            scale, shift = embedded.chunk(2, 1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + embedded)
        return self.skip_connection(self.resample(x)) + h


class SelfAttention(nn.Module):
    """Self-attention over the pixels with a residual; q, k and v of a head are neighbours unless ``new_order``."""

    def __init__(self, channels: int, heads: int, new_order: bool) -> None:
        super().__init__()
        if channels % heads:
            raise InvalidInput(f"{heads} attention heads do not divide {channels} channels: set the model's own number")
        self.heads, self.new_order = heads, new_order
        self.norm, self.qkv = norm(channels), nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.shape
        qkv = self.qkv(self.norm(x).flatten(2))
        if self.new_order:
            parts = qkv.view(b, 3, self.heads, c // self.heads, -1).unbind(1)
        else:
            parts = qkv.view(b, self.heads, 3, c // self.heads, -1).unbind(2)
        attended = attention(*(part.mT for part in parts))
        return x + self.proj_out(attended.mT.reshape(b, c, -1)).view_as(x)


class Downsample(nn.Module):
    """Half the resolution by a strided 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the resolution by repetition, then a 3×3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(double(x))


def halve(x: Tensor) -> Tensor:
    """Mean of 2×2 pixels."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Each pixel repeated 2×2 times."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


@dataclass(eq=False, repr=False)
class OpenAIUNet(nn.Module):
    """(x_t, step number, condition) ↦ y of x_t's shape (B, C, H, W), or (B, C, H, W, 2).

    Args:
        event_shape: (C, H, W).
        channels: ``num_channels``, the width at full resolution before its multiplier.
        multipliers: widths at each resolution as multiples of ``channels``; each resolution is half the one before.
        blocks: ``num_res_blocks`` a resolution on the way down; one more on the way up.
        attention: resolutions (heights) with self-attention.
        heads: attention heads, unless ``head_channels`` gives the channels of each.
        scale_shift: ``use_scale_shift_norm``.
        resampling_blocks: ``resblock_updown``.
        new_order: ``use_new_attention_order``.
        classes: number of labels; None for no condition.
        outputs: 2 for a learned variance.

    Raises:
        InvalidInput: sizes below 1, widths that 32 or the heads do not divide, sides that cannot be halved so often.
    """

    event_shape: Sequence[int]
    channels: int
    multipliers: Sequence[float]
    blocks: int
    attention: Sequence[int] = ()
    heads: int = 1
    head_channels: int | None = None
    scale_shift: bool = True
    resampling_blocks: bool = False
    new_order: bool = False
    classes: int | None = None
    dropout: float = 0.0
    outputs: int = 1

    def __post_init__(self) -> None:
        super().__init__()
        self.event_shape = tuple(self.event_shape)
        at_least(1, channels=self.channels, blocks=self.blocks, heads=self.heads, head_channels=self.head_channels or 1)
        depth = len(self.multipliers) - 1
        if len(self.event_shape) != 3 or depth < 0 or any(side % 2**depth for side in self.event_shape[1:]):
            raise InvalidInput(f"images {list(self.event_shape)} cannot be halved {depth} times: give their own (C, H, W)")
        self.level_channels = 4 * self.channels
        first, second = nn.Linear(self.channels, self.level_channels), nn.Linear(self.level_channels, self.level_channels)
        self.time_embed = nn.Sequential(first, nn.SiLU(), second)
        self.label_emb = None if self.classes is None else LabelEmbedding(self.classes, self.level_channels)
        widths = [int(multiplier * self.channels) for multiplier in self.multipliers]
        skips = self._build_down(widths)
        bottom = widths[-1]
        self.middle_block = nn.ModuleList(
            [self._block(bottom, bottom), self._attention(bottom), self._block(bottom, bottom)]
        )
        self._build_up(widths, skips)
        last = zero_init(conv(widths[0], self.outputs * self.event_shape[0]))
        self.out = nn.Sequential(norm(widths[0]), nn.SiLU(), last)

    def _block(self, n_in: int, n_out: int, resample: Callable[[Tensor], Tensor] | None = None) -> StepBlock:
        return StepBlock(n_in, n_out, self.level_channels, self.scale_shift, self.dropout, resample)

    def _attention(self, channels: int) -> SelfAttention:
        heads = self.heads if self.head_channels is None else max(1, channels // self.head_channels)
        return SelfAttention(channels, heads, self.new_order)

    def _stage(self, n_in: int, n_out: int, depth: int) -> list[nn.Module]:
        """A block, with attention where the resolution has it."""
        attends = self.event_shape[1] >> depth in self.attention
        return [self._block(n_in, n_out), *([self._attention(n_out)] if attends else [])]

    def _build_down(self, widths: Sequence[int]) -> list[int]:
        """Fill ``input_blocks``; return the channels of each one's output."""
        skips = [widths[0]]
        stages = [nn.ModuleList([conv(self.event_shape[0], widths[0])])]
        for depth, width in enumerate(widths):
            for _ in range(self.blocks):
                stages.append(nn.ModuleList(self._stage(skips[-1], width, depth)))
                skips.append(width)
            if depth < len(widths) - 1:
                smaller = self._block(width, width, halve) if self.resampling_blocks else Downsample(width)
                stages.append(nn.ModuleList([smaller]))
                skips.append(width)
        self.input_blocks = nn.ModuleList(stages)
        return skips

    def _build_up(self, widths: Sequence[int], skips: list[int]) -> None:
        """Fill ``output_blocks``, each of which sees the stage before it joined to one of ``skips``, last first."""
        self.output_blocks, current = nn.ModuleList(), widths[-1]
        for depth, width in reversed(list(enumerate(widths))):
            for number in range(self.blocks + 1):
                stage = self._stage(current + skips.pop(), width, depth)
                current = width
                if depth and number == self.blocks:
                    larger = self._block(width, width, double) if self.resampling_blocks else Upsample(width)
                    stage.append(larger)
                self.output_blocks.append(nn.ModuleList(stage))

    def forward(self, x_t: Tensor, number: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return y for x_t (B, C, H, W) and step numbers (B,), both in the weights' dtype.

        Raises:
            InvalidInput: examples of another shape; a condition where none is known, or none where one is needed.
        """
        if x_t.shape[1:] != self.event_shape:
            raise InvalidInput(f"this network takes batches of examples {self.event_shape}, got {tuple(x_t.shape)}")
        if (condition is None) != (self.label_emb is None):
            raise InvalidInput(
                f"got a condition, but {NO_CONDITION}" if condition is not None else "this model needs labels"
            )
        level = self.time_embed(step_sinusoids(number, self.channels))
        if self.label_emb is not None:
            level = level + self.label_emb(condition)
        h, skips = x_t, []
        for stage in self.input_blocks:
            h = run(stage, h, level)
            skips.append(h)
        h = run(self.middle_block, h, level)
        for stage in self.output_blocks:
            h = run(stage, torch.cat([h, skips.pop()], 1), level)
        y = self.out(h)
        return y if self.outputs == 1 else y.unflatten(1, (self.outputs, -1)).movedim(1, -1)


def run(stage: nn.Module, h: Tensor, level: Tensor) -> Tensor:
    """Apply the layers of a stage in order; blocks see the step's embedding too."""
    for layer in stage.children():
        h = layer(h, level) if isinstance(layer, StepBlock) else layer(h)
    return h
