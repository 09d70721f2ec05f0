"""Conversion of the parameters of the official VDM (google-research/vdm, flax) to the ``state_dict`` of :class:`VDMUNet`.

Names are paths joined by "/", as in ``params/score_model/down.block_0/conv1/kernel``. The mapping is by name, so it holds
for any depth, any number of image channels, with or without Fourier features and attention everywhere. Flax stores kernels
with the outputs last, and takes images channels last; the state dict is PyTorch's.
"""

import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vdm.errors import InvalidInput
from vdm.schedules import MonotoneSchedule

MODULES = {
    r"dense0": "embedding.layers.0",
    r"dense1": "embedding.layers.2",
    r"conv_in": "first",
    r"down\.block_(\d+)": "down.{0}.block",
    r"down\.attn_(\d+)": "down.{0}.attention",
    r"mid\.block_1": "middle.0.block",
    r"mid\.attn_1": "middle.0.attention",
    r"mid\.block_2": "middle.1.block",
    r"up\.block_(\d+)": "up.{0}.block",
    r"up\.attn_(\d+)": "up.{0}.attention",
    r"GroupNorm_0": "last.0",
    r"conv_out": "last.2",
}
"""Modules of the official network, and the same modules of :class:`VDMUNet`."""

BLOCK = {
    "GroupNorm_0": "norm_1",
    "conv1": "conv_1",
    "cond_proj": "level",
    "GroupNorm_1": "norm_2",
    "conv2": "conv_2",
    "nin_shortcut": "skip",
}

ATTENTION = {"GroupNorm_0": "norm", "q": "q", "k": "k", "v": "v", "proj_out": "out"}

KINDS = {"kernel": "weight", "scale": "weight", "bias": "bias"}

POINTWISE = ("skip", "q", "k", "v", "out")
"""Dense layers over the channels of an image, which here are 1×1 convolutions."""


def network_state(arrays: Mapping[str, np.ndarray], prefix: str = "params/score_model/") -> dict[str, Tensor]:
    """Return the ``state_dict`` of the :class:`VDMUNet` with the parameters under ``prefix``; other names are ignored.

    The official first dense layer has one more input, a conditioning scalar that is 0 in every published configuration; its
    row is dropped.

    Raises:
        InvalidInput: no parameter under ``prefix``, or an unknown one.
    """
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    if not own:
        raise InvalidInput(f"no parameter's name begins with {prefix!r}; names are like {next(iter(arrays), None)!r}")
    state = {}
    for name, array in own.items():
        module, kind = _module_and_kind(name)
        state[f"{module}.{kind}"] = _as_torch(module, array[:-1] if name == "dense0/kernel" else array)
    for name in [name for name in state if ".q." in name]:
        q_k_v = [state.pop(name.replace(".q.", f".{part}.")) for part in "qkv"]
        state[name.replace(".q.", ".qkv.")] = torch.cat(q_k_v)
    return state


def schedule_ends(arrays: Mapping[str, np.ndarray], prefix: str = "params/gamma/") -> tuple[float, float]:
    """Return (gamma_min, gamma_max) of the official scalar schedule γ(t) = b + |w| t.

    Raises:
        InvalidInput: parameters of another schedule than the scalar one.
    """
    try:
        w, b = (float(np.asarray(arrays[prefix + name]).item()) for name in ("w", "b"))
    except KeyError as error:
        raise InvalidInput(f"the scalar schedule's parameters are {prefix}w and {prefix}b: {error} is missing") from error
    return b, b + abs(w)


def monotone_schedule(arrays: Mapping[str, np.ndarray], prefix: str = "params/gamma/") -> MonotoneSchedule:
    """Return the official monotone network, γ(t) = l_1(t) + l_3(2 sigmoid(l_2(2t − 1)) − 1)/K, as a float64 schedule.

    Its dense layers use the absolute values of their kernels. With τ = 2t − 1 it is, up to a constant,
    a τ + Σ_k v_k sigmoid(w_k τ + b_k) where a = |l_1|/2, v = 2 |l_3|/K and w = |l_2|: ``MonotoneSchedule`` without a further
    straight line.

    Raises:
        InvalidInput: parameters of another schedule.
    """
    try:
        names = ("l1/kernel", "l1/bias", "l2/kernel", "l2/bias", "l3/kernel")
        k_1, b_1, k_2, b_2, k_3 = (
            torch.from_numpy(np.array(arrays[prefix + name], dtype=np.float64)).flatten() for name in names
        )
    except KeyError as error:
        raise InvalidInput(f"the monotone schedule's parameters are {prefix}l1 … l3: {error} is missing") from error
    if not (len(k_1) == len(b_1) == 1 and len(k_2) == len(b_2) == len(k_3) > 0):
        raise InvalidInput(f"the parameters {prefix}l1 … l3 have shapes that do not fit together: use an unedited file")
    v, w, b = 2 * k_3.abs() / len(k_3), k_2.abs(), b_2
    low, high = ((v * torch.sigmoid(sign * w + b)).sum() for sign in (-1, 1))
    gamma_min = (b_1 + low - v.sum() / 2).item()
    gamma_max = gamma_min + (k_1.abs() + high - low).item()
    schedule = MonotoneSchedule(gamma_min, gamma_max, hidden=len(v), linear_share=0.0).double()
    with torch.no_grad():
        schedule.offsets.copy_(b)
        for parameter, value in ((schedule.slope, k_1[0].abs() / 2), (schedule.heights, v), (schedule.steepness, w)):
            parameter.copy_(inverse_softplus(value))
    return schedule


def inverse_softplus(value: Tensor) -> Tensor:
    """Return y with softplus(y) = ``value`` ≥ 0, elementwise; 0 becomes 1e-300."""
    value = value.clamp(min=1e-300)
    return torch.where(value > 20, value, value + torch.log(-torch.expm1(-value)))  # torch's softplus(y) is y above 20


def _module_and_kind(name: str) -> tuple[str, str]:
    """(path of the module in :class:`VDMUNet`, "weight" or "bias") of an official parameter."""
    path, _, kind = name.rpartition("/")
    outer, _, inner = path.partition("/")
    for pattern, module in MODULES.items():
        match = re.fullmatch(pattern, outer)
        parts = BLOCK if module.endswith("block") else ATTENTION if module.endswith("attention") else {"": ""}
        if match and inner in parts and kind in KINDS:
            return f"{module.format(*match.groups())}.{parts[inner]}".rstrip("."), KINDS[kind]
    raise InvalidInput(f"{name!r} is not a parameter of the official VDM's network: name its parameters by prefix")


def _as_torch(module: str, array: np.ndarray) -> Tensor:
    """Put a kernel's outputs first, (h, w, in, out) or (in, out); keep biases and scales as they are."""
    tensor = torch.from_numpy(np.array(array))
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1).contiguous()
    if tensor.ndim == 2:
        kernel = tensor.T.contiguous()
        return kernel[:, :, None, None] if module.rpartition(".")[2] in POINTWISE else kernel
    return tensor
