"""OpenAI's U-Net once more: random parameters under its names, and its forward pass written from the names alone."""

import math

import torch
from torch.nn import functional as F


class Architecture:
    """What the flags say, for small networks."""

    def __init__(self, size, width, multipliers, blocks, attention, **options):
        self.size, self.width, self.multipliers, self.blocks, self.attention = size, width, multipliers, blocks, attention
        self.outputs = options.get("outputs", 3)
        self.heads, self.scale_shift = options.get("heads", 1), options.get("scale_shift", True)
        self.updown, self.new_order = options.get("updown", False), options.get("new_order", False)
        self.classes = options.get("classes")


def stages(a):
    """(name, kinds of its layers) of every stage, with (channels in, out) of its blocks."""
    widths, current, skips = [a.width * m for m in a.multipliers], a.width, [a.width]
    down, up, ds = [], [], 1
    for level, width in enumerate(widths):
        for _ in range(a.blocks):
            down.append([("block", current, width)] + ([("attention", width)] if a.size // ds in a.attention else []))
            current = width
            skips.append(width)
        if level < len(widths) - 1:
            down.append([("down", width, width)])
            skips.append(width)
            ds *= 2
    middle = [("block", current, current), ("attention", current), ("block", current, current)]
    for level, width in reversed(list(enumerate(widths))):
        for i in range(a.blocks + 1):
            stage = [("block", current + skips.pop(), width)]
            current = width
            stage += [("attention", width)] if a.size // ds in a.attention else []
            if level and i == a.blocks:
                stage.append(("up", width, width))
                ds //= 2
            up.append(stage)
    return down, middle, up


def random_state(a, seed=0):
    """A state dict, float64."""
    draw, state = torch.Generator().manual_seed(seed), {}

    def add(name, *shape, scale=0.15):
        state[name] = (scale * torch.randn(shape, dtype=torch.float64, generator=draw)).float()

    def affine(name, *shape):
        add(f"{name}.weight", *shape)
        add(f"{name}.bias", shape[0])

    def norm(name, n):
        add(f"{name}.weight", n, scale=1.0)
        add(f"{name}.bias", n)

    def block(name, n_in, n_out):
        norm(f"{name}.in_layers.0", n_in)
        affine(f"{name}.in_layers.2", n_out, n_in, 3, 3)
        affine(f"{name}.emb_layers.1", n_out * (1 + a.scale_shift), 4 * a.width)
        norm(f"{name}.out_layers.0", n_out)
        affine(f"{name}.out_layers.3", n_out, n_out, 3, 3)
        if n_in != n_out:
            affine(f"{name}.skip_connection", n_out, n_in, 1, 1)

    def layer(name, kind, *n):
        if kind == "attention":
            norm(f"{name}.norm", *n)
            affine(f"{name}.qkv", 3 * n[0], n[0], 1)
            affine(f"{name}.proj_out", n[0], n[0], 1)
        elif kind == "block" or a.updown:
            block(name, *n)
        else:
            affine(f"{name}.{'op' if kind == 'down' else 'conv'}", n[0], n[0], 3, 3)

    affine("time_embed.0", 4 * a.width, a.width)
    affine("time_embed.2", 4 * a.width, 4 * a.width)
    if a.classes:
        add("label_emb.weight", a.classes, 4 * a.width)
    affine("input_blocks.0.0", a.width, 3, 3, 3)
    down, middle, up = stages(a)
    for i, stage in enumerate(down, 1):
        for j, (kind, *n) in enumerate(stage):
            layer(f"input_blocks.{i}.{j}", kind, *n)
    for j, (kind, *n) in enumerate(middle):
        layer(f"middle_block.{j}", kind, *n)
    for i, stage in enumerate(up):
        for j, (kind, *n) in enumerate(stage):
            layer(f"output_blocks.{i}.{j}", kind, *n)
    norm("out.0", a.width)
    affine("out.2", a.outputs, a.width, 3, 3)
    return state


class Forward:
    """The output for x (B, 3, H, W) and step numbers (B,), in float64: ``Forward(a, state)(x, number, label)``."""

    def __init__(self, a, state):
        self.a, self.p, self.level = a, {name: value.double() for name, value in state.items()}, None

    def affine(self, name, h, function, **options):
        return function(h, self.p[f"{name}.weight"], self.p[f"{name}.bias"], **options)

    def norm(self, name, h):
        grouped = h.reshape(len(h), 32, -1)
        centred = grouped - grouped.mean(2, keepdim=True)
        h = (centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()).view(h.shape)
        shape = (1, -1, *[1] * (h.ndim - 2))
        return h * self.p[f"{name}.weight"].view(shape) + self.p[f"{name}.bias"].view(shape)

    def block(self, name, h, move=lambda h: h):
        out = self.affine(f"{name}.in_layers.2", move(F.silu(self.norm(f"{name}.in_layers.0", h))), F.conv2d, padding=1)
        embedded = self.affine(f"{name}.emb_layers.1", F.silu(self.level), F.linear)[:, :, None, None]
        n = out.shape[1]
        if self.a.scale_shift:
            out = self.norm(f"{name}.out_layers.0", out) * (1 + embedded[:, :n]) + embedded[:, n:]
        else:
            out = self.norm(f"{name}.out_layers.0", out + embedded)
        out = self.affine(f"{name}.out_layers.3", F.silu(out), F.conv2d, padding=1)
        h = move(h)
        skip = f"{name}.skip_connection"
        return out + (self.affine(skip, h, F.conv2d) if f"{skip}.weight" in self.p else h)

    def attention(self, name, h):
        b, c, height, width = h.shape
        qkv = self.affine(f"{name}.qkv", self.norm(f"{name}.norm", h).view(b, c, -1), F.conv1d)
        d, heads = c // self.a.heads, []
        for i in range(self.a.heads):
            first = [k * c + i * d if self.a.new_order else (3 * i + k) * d for k in range(3)]
            q, k, v = (qkv[:, start : start + d] for start in first)
            share = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / math.sqrt(d), 2)
            heads.append(torch.einsum("bts,bcs->bct", share, v))
        return h + self.affine(f"{name}.proj_out", torch.cat(heads, 1), F.conv1d).view(b, c, height, width)

    def layer(self, name, kind, h):
        if kind in ("attention", "block"):
            return getattr(self, kind)(name, h)
        if self.a.updown:
            return self.block(name, h, halved if kind == "down" else doubled)
        if kind == "down":
            return self.affine(f"{name}.op", h, F.conv2d, padding=1, stride=2)
        return self.affine(f"{name}.conv", doubled(h), F.conv2d, padding=1)

    def stage(self, name, kinds, h):
        for j, (kind, *_) in enumerate(kinds):
            h = self.layer(f"{name}.{j}", kind, h)
        return h

    def __call__(self, x, number, label=None):
        half = self.a.width // 2
        angles = number[:, None] * torch.exp(-math.log(10_000) * torch.arange(half).double() / half)
        level = self.affine("time_embed.0", torch.cat([angles.cos(), angles.sin()], 1), F.linear)
        self.level = self.affine("time_embed.2", F.silu(level), F.linear)
        if self.a.classes:
            self.level = self.level + self.p["label_emb.weight"][label]
        h = self.affine("input_blocks.0.0", x, F.conv2d, padding=1)
        down, middle, up = stages(self.a)
        skips = [h]
        for i, kinds in enumerate(down, 1):
            h = self.stage(f"input_blocks.{i}", kinds, h)
            skips.append(h)
        h = self.stage("middle_block", middle, h)
        for i, kinds in enumerate(up):
            h = self.stage(f"output_blocks.{i}", kinds, torch.cat([h, skips.pop()], 1))
        return self.affine("out.2", F.silu(self.norm("out.0", h)), F.conv2d, padding=1)


def halved(h):
    return h.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))


def doubled(h):
    return h.repeat_interleave(2, 2).repeat_interleave(2, 3)


def forward(a, state, *arguments):
    return Forward(a, state)(*arguments)
