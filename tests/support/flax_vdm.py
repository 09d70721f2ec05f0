"""The official VDM once more: random parameters under its names, its network and its learned schedule, written out."""

import math

import msgpack
import numpy as np
import torch
from torch.nn import functional as F


def flax_parameters(colours, channels, depth, everywhere, fourier):
    """Random parameters of an official network of some size, under its names."""
    random, arrays = np.random.default_rng(0), {}

    def add(name, *shape):
        arrays[f"params/score_model/{name}"] = 0.3 * random.standard_normal(shape)

    def norm(name, n):
        add(f"{name}/scale", n)
        add(f"{name}/bias", n)

    def dense(name, *shape):
        add(f"{name}/kernel", *shape)
        add(f"{name}/bias", shape[-1])

    def block(name, n):
        norm(f"{name}/GroupNorm_0", n)
        dense(f"{name}/conv1", 3, 3, n, channels)
        add(f"{name}/cond_proj/kernel", 4 * channels, channels)
        norm(f"{name}/GroupNorm_1", channels)
        dense(f"{name}/conv2", 3, 3, channels, channels)
        if n != channels:
            dense(f"{name}/nin_shortcut", n, channels)

    def attention(name):
        norm(f"{name}/GroupNorm_0", channels)
        for layer in ("q", "k", "v", "proj_out"):
            dense(f"{name}/{layer}", channels, channels)

    dense("dense0", channels + 1, 4 * channels)
    dense("dense1", 4 * channels, 4 * channels)
    dense("conv_in", 3, 3, colours * (5 if fourier else 1), channels)
    names = [(f"down.{{}}_{i}", channels) for i in range(depth)] + [(f"up.{{}}_{i}", 2 * channels) for i in range(depth + 1)]
    for name, n in names:
        block(name.format("block"), n)
        if everywhere:
            attention(name.format("attn"))
    block("mid.block_1", channels)
    attention("mid.attn_1")
    block("mid.block_2", channels)
    norm("GroupNorm_0", channels)
    dense("conv_out", 3, 3, channels, colours)
    return arrays


def flax_forward(arrays, z, level, rounded=False):
    """ε̂ of channels-last images z, written from the parameters' names alone; ``level`` is (γ − γ_min)/(γ_max − γ_min).

    ``rounded``: the angle 1000 · level in float32, as the official code has it.
    """
    p = {name.removeprefix("params/score_model/"): torch.from_numpy(np.asarray(a)) for name, a in arrays.items()}

    def dense(name, h):
        return h @ p[f"{name}/kernel"] + p.get(f"{name}/bias", 0)

    def conv(name, h):
        out = F.conv2d(h.movedim(-1, 1), p[f"{name}/kernel"].permute(3, 2, 0, 1), p[f"{name}/bias"], padding=1)
        return out.movedim(1, -1)

    def norm(name, h):
        grouped = h.reshape(len(h), -1, 32, h.shape[-1] // 32)
        mean, variance = grouped.mean((1, 3), keepdim=True), grouped.var((1, 3), correction=0, keepdim=True)
        return ((grouped - mean) / (variance + 1e-6).sqrt()).reshape(h.shape) * p[f"{name}/scale"] + p[f"{name}/bias"]

    def block(name, h):
        out = conv(f"{name}/conv1", F.silu(norm(f"{name}/GroupNorm_0", h)))
        out = out + dense(f"{name}/cond_proj", condition)[:, None, None]
        out = conv(f"{name}/conv2", F.silu(norm(f"{name}/GroupNorm_1", out)))
        return (dense(f"{name}/nin_shortcut", h) if f"{name}/nin_shortcut/kernel" in p else h) + out

    def attention(name, h):
        if f"{name}/q/kernel" not in p:
            return h
        flat = norm(f"{name}/GroupNorm_0", h).flatten(1, 2)
        q, k, v = (dense(f"{name}/{part}", flat) for part in "qkv")
        share = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), 2)
        return h + dense(f"{name}/proj_out", share @ v).view_as(h)

    channels = p["dense1/kernel"].shape[0] // 4
    half = channels // 2
    angle = (level * 1000).float().double() if rounded else level * 1000
    angles = angle[:, None] * torch.exp(torch.arange(half).double() * -math.log(10_000) / (half - 1))
    embedded = torch.cat([angles.sin(), angles.cos(), torch.zeros(len(z), 1).double()], 1)
    condition = F.silu(dense("dense1", F.silu(dense("dense0", embedded))))
    h = z
    if p["conv_in/kernel"].shape[2] > z.shape[-1]:
        waves = (2 * math.pi * z[..., None] * torch.tensor([64.0, 128.0]).double()).flatten(-2)
        h = torch.cat([z, waves.sin(), waves.cos()], -1)
    h = conv("conv_in", h)
    skips = [h]
    depth = sum(name.startswith("down.block") and name.endswith("conv1/bias") for name in p)
    for i in range(depth):
        h = attention(f"down.attn_{i}", block(f"down.block_{i}", h))
        skips.append(h)
    h = block("mid.block_2", attention("mid.attn_1", block("mid.block_1", h)))
    for i in range(depth + 1):
        h = attention(f"up.attn_{i}", block(f"up.block_{i}", torch.cat([h, skips.pop()], -1)))
    return conv("conv_out", F.silu(norm("GroupNorm_0", h))) + z


def official_monotone(features=1024, seed=0, line=18.3):
    """Parameters as the official code would hold them, in float32's numbers, some kernels negative; and γ(t) written out."""
    rng = np.random.default_rng(seed)
    arrays = {
        "params/gamma/l1/kernel": np.array([[-line]]),
        "params/gamma/l1/bias": np.array([-13.3]),
        "params/gamma/l2/kernel": rng.normal(0, 5, (1, features)),
        "params/gamma/l2/bias": rng.normal(0, 3, features),
        "params/gamma/l3/kernel": rng.normal(0, 20, (features, 1)),
    }
    arrays = {name: array.astype(np.float32).astype(np.float64) for name, array in arrays.items()}

    def gamma(t):
        hidden = np.abs(arrays["params/gamma/l2/kernel"]) * (2 * (t[:, None] - 0.5)) + arrays["params/gamma/l2/bias"]
        bent = 2 * (1 / (1 + np.exp(-hidden)) - 0.5) @ np.abs(arrays["params/gamma/l3/kernel"])[:, 0] / features
        (first,), ((slope,),) = arrays["params/gamma/l1/bias"], arrays["params/gamma/l1/kernel"]
        return first + abs(slope) * t + bent

    return arrays, gamma


def as_flax(arrays, step=7):
    """The bytes of a checkpoint ``ckpt-N.flax`` with the averaged parameters ``arrays``, and other raw ones."""
    averaged = {name.removeprefix("params/"): array for name, array in arrays.items()}
    raw = {name: array + 1 for name, array in averaged.items()}
    moments = {"0": {"count": np.array(step, np.int32), "mu": nested(raw)}}
    state = {"step": step, "params": nested(raw), "ema_params": nested(averaged), "opt_state": moments}
    return msgpack.packb(state, default=extension)


def nested(arrays):
    tree = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree


def extension(array):
    """Flax's way to store an array: extension 1, which holds (shape, name of the dtype, bytes)."""
    return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))
