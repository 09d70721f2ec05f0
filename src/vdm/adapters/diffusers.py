"""Pipelines of Hugging Face's diffusers: a UNet2DModel and the scheduler that it was trained with, from a local folder."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vdm.adapters.folder import Imported, compact
from vdm.adapters.openai import read_state
from vdm.adapters.tables import LEARNED, Table, finite_table, prefix_of, table_model
from vdm.errors import InvalidInput, one_line
from vdm.schedules import cosine_betas, linear_betas

SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler")

VARIANCES = {
    **dict.fromkeys(("fixed_small", "fixed_small_log"), "small"),
    **dict.fromkeys(("fixed_large", "fixed_large_log"), "large"),
    "learned_range": LEARNED,
}

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")

OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Layers of attention in files of early versions, and their names today."""

LARGEST_CONFIG = 2**24


class UNet2D(nn.Module):
    """(x_t, step number, labels) ↦ y by a ``diffusers.UNet2DModel``.

    Args:
        config: its arguments.

    Raises:
        InvalidInput: diffusers is not installed, or a config that it refuses.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        if find_spec("diffusers") is None:
            raise InvalidInput("this model needs diffusers: pip install 'vdm[diffusers]'")
        try:
            self.unet = import_module("diffusers").UNet2DModel(**config)
        except Exception as error:  # a foreign config may break it anywhere
            reason = one_line(error, 120, named=True)
            raise InvalidInput(
                f"diffusers.UNet2DModel refuses this config ({reason}): use an unedited config.json"
            ) from error
        self.outputs = int(config.get("out_channels", 3)) // int(config.get("in_channels", 3))

    def forward(self, x_t: Tensor, number: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return y of x_t's shape (B, C, H, W), or (B, C, H, W, 2) with a learned variance."""
        y = self.unet(x_t, number, class_labels=condition).sample
        return y if self.outputs == 1 else y.unflatten(1, (self.outputs, -1)).movedim(1, -1)


def import_diffusers(
    path: Path, event_shape: Sequence[int] | None = None, variance: str | None = None, clip: bool | None = None
) -> Imported:
    """Read a pipeline's folder with ``unet/`` and ``scheduler/``.

    Args:
        event_shape: (C, H, W), where the config has no sample_size.
        variance: "small" or "large", the reverse variance of a scheduler that names none, as DDIM's; small by default.
        clip: clip x̂_0 to [−1, 1]; as the scheduler's clip_sample by default.

    Raises:
        InvalidInput: a folder without the two, or with the model of an autoencoder's latents; a scheduler of another
            family; settings under which no bound exists.
    """
    _check_pixels(path)
    unet, scheduler = (_config(path / part) for part in ("unet/config.json", "scheduler/scheduler_config.json"))
    if unet.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise InvalidInput(f"{path}: the network is a {str(unet['_class_name'])[:60]}, and only UNet2DModel is supported")
    config = {name: value for name, value in unet.items() if not name.startswith("_")}
    shape = _event_shape(config, event_shape)
    kind, table = _variance(scheduler, variance), Table(*_table(scheduler))
    network = {"_target_": "vdm.adapters.diffusers.UNet2D", "config": config}
    clips = _clips(scheduler) if clip is None else clip
    weights = next((path / "unet" / name for name in WEIGHTS if (path / "unet" / name).is_file()), None)
    if weights is None:
        raise InvalidInput(f"{path}/unet holds no weights: it needs {' or '.join(WEIGHTS)}")
    return Imported(
        model=table_model(network, table, scheduler.get("prediction_type", "epsilon"), kind, clips),
        state={f"{prefix_of(kind)}unet.{name}": compact(value) for name, value in _state(weights).items()},
        event_shape=shape,
        levels=256,
        weights="raw",
        facts={"format": "diffusers", "scheduler": scheduler["_class_name"], "clip": clips, "variance": kind, "step": 0},
        source=weights,
    )


def _check_pixels(path: Path) -> None:
    """Raise InvalidInput unless the folder is a pipeline that works on pixels, not on an autoencoder's latents."""
    if not path.is_dir():
        raise InvalidInput(f"no folder at {path}: name a pipeline with unet/ and scheduler/, saved by save_pretrained")
    for part in ("vae", "vqvae", "vqgan", "text_encoder"):
        if (path / part).exists():
            raise InvalidInput(
                f"{path} has a {part}: its diffusion is not over pixels, so that it has no bits/dim of images"
            )


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidInput(f"no file at {path}: name a pipeline's folder with unet/ and scheduler/")
    try:
        if path.stat().st_size > LARGEST_CONFIG:
            raise ValueError(f"{path.stat().st_size:,} bytes")
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("not a mapping")
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not a config ({' '.join(str(error).split())[:80]}): use an unedited file") from error
    return found


def _event_shape(config: Mapping[str, Any], given: Sequence[int] | None) -> tuple[int, ...]:
    colours, outputs, size = config.get("in_channels", 3), config.get("out_channels", 3), config.get("sample_size")
    if not (isinstance(colours, int) and colours > 0 and outputs in (colours, 2 * colours)):
        raise InvalidInput(f"a network from {colours} to {outputs} channels predicts neither a mean nor mean and variance")
    sides = [size, size] if isinstance(size, int) else size
    if given is None and not (isinstance(sides, list) and len(sides) == 2 and all(isinstance(side, int) for side in sides)):
        raise InvalidInput("the config has no sample_size: add event_shape=[3,32,32] with the images' own")
    shape = tuple(given) if given is not None else (colours, *(sides or ()))
    if len(shape) != 3 or shape[0] != colours or min(shape) < 1:
        raise InvalidInput(f"event_shape must be (C, H, W) with {colours} channels, got {list(shape)}")
    return shape


def _variance(scheduler: Mapping[str, Any], given: str | None) -> str:
    """Return the kind of reverse variance."""
    if scheduler.get("_class_name") not in SCHEDULERS:
        name, known = str(scheduler.get("_class_name"))[:60], ", ".join(SCHEDULERS)
        raise InvalidInput(
            f"the scheduler {name} is not one of DDPM's family ({known}): save the pipeline with one of these"
        )
    own = scheduler.get("variance_type")
    if own is None:
        return given or "small"
    if own not in VARIANCES or given not in (None, VARIANCES[own]):
        raise InvalidInput(
            f"variance_type {str(own)[:40]!r} is not supported, or not the variance={given} that was asked for"
        )
    return VARIANCES[own]


def _clips(scheduler: Mapping[str, Any]) -> bool:
    if scheduler.get("thresholding"):
        raise InvalidInput("dynamic thresholding changes x̂_0 by the batch of pixels: set clip=true or clip=false instead")
    clips = bool(scheduler.get("clip_sample", True))
    if clips and scheduler.get("clip_sample_range", 1.0) != 1.0:
        raise InvalidInput("clip_sample_range is not 1, where the data end: set clip=true or clip=false instead")
    return clips


def _table(scheduler: Mapping[str, Any]) -> tuple[Any, list[float]]:
    """Return the table of α as part of a tree, and its values."""
    if scheduler.get("rescale_betas_zero_snr"):
        raise InvalidInput(
            "rescale_betas_zero_snr: a zero terminal SNR has γ = ∞ at the last step, where ε determines no x̂_0 and the "
            "bound is infinite or undefined: import a model with a schedule that keeps some signal"
        )
    steps, trained = scheduler.get("num_train_timesteps", 1000), scheduler.get("trained_betas")
    first, last = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
    numbers = trained if isinstance(trained, list) else [first, last]
    plain = all(isinstance(n, int | float) and math.isfinite(n) for n in numbers)
    if not (isinstance(steps, int) and 2 <= steps <= 100_000 and plain and len(numbers) <= 100_000):
        raise InvalidInput("the scheduler's steps or β are not numbers in range: use an unedited scheduler_config.json")
    if isinstance(trained, list):
        values = [1 - float(beta) for beta in trained]
        return values, finite_table(values)
    kind = scheduler.get("beta_schedule", "linear")
    if kind == "squaredcos_cap_v2":
        return {"_target_": "vdm.schedules.cosine_betas", "steps": steps}, finite_table(cosine_betas(steps))
    if kind == "linear":
        call = {"_target_": "vdm.schedules.linear_betas", "steps": steps, "first": float(first), "last": float(last)}
        return call, finite_table(linear_betas(steps, first, last))
    if kind not in ("scaled_linear", "sigmoid"):
        raise InvalidInput(f"beta_schedule {str(kind)[:40]!r} is not supported: put its β into trained_betas")
    values = (1 - _betas(kind, steps, float(first), float(last))).tolist()
    return values, finite_table(values)


def _betas(kind: str, steps: int, first: float, last: float) -> Tensor:
    """Return β of "scaled_linear", whose square root is linear, or of "sigmoid"."""
    if kind == "sigmoid":
        return torch.sigmoid(torch.linspace(-6, 6, steps, dtype=torch.float64)) * (last - first) + first
    return torch.linspace(abs(first) ** 0.5, abs(last) ** 0.5, steps, dtype=torch.float64).square()


def _state(path: Path) -> dict[str, Tensor]:
    """Return the weights by the names that diffusers has today."""
    if path.suffix == ".bin":
        state = read_state(path)
    else:
        try:
            state = load_file(path)
        except Exception as error:  # a damaged file may raise anything
            reason = one_line(error, 120)
            raise InvalidInput(f"{path} cannot be read as tensors by name ({reason}): use an unedited file") from error
    found = {}
    for name, value in state.items():
        if not value.is_floating_point():
            raise InvalidInput(f"{path}: {name[:60]!r} is not a floating tensor: use an unedited file")
        old = re.fullmatch(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)", name)
        found[f"{old[1]}.{OLD_NAMES[old[2]]}.{old[3]}" if old else name] = value
    return found
