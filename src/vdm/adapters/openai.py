"""OpenAI's improved-diffusion and guided-diffusion: state dicts in ``.pt`` files, and the flags of their training."""

import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdm.adapters.folder import Imported, compact
from vdm.adapters.tables import LEARNED, Table, finite_table, prefix_of, table_model
from vdm.errors import InvalidInput, did_you_mean, one_line
from vdm.runs.bounds import check_archive, check_file, check_tensors, load_without_code
from vdm.schedules import cosine_betas, linear_betas

IMPROVED: dict[str, Any] = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_heads": 4,
    "attention_resolutions": "16,8",
    "learn_sigma": False,
    "sigma_small": False,
    "class_cond": False,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "predict_xstart": False,
    "rescale_timesteps": True,
    "use_scale_shift_norm": True,
}
"""Flags of improved-diffusion that a model depends on, with their defaults."""

GUIDED: dict[str, Any] = {
    **{name: value for name, value in IMPROVED.items() if name != "sigma_small"},
    "rescale_timesteps": False,
    "num_head_channels": -1,
    "channel_mult": "",
    "resblock_updown": False,
    "use_new_attention_order": False,
}
"""The same of guided-diffusion."""

IGNORED = (
    *("dropout", "use_checkpoint", "use_fp16", "use_kl", "rescale_learned_sigmas", "timestep_respacing", "lr", "batch_size"),
    *("schedule_sampler", "microbatch"),
)
"""Flags that change the training or the sampling, not the model and its bound."""

MULTIPLIERS = {32: "1,2,2,2", 64: "1,2,3,4", 128: "1,1,2,3,4", 256: "1,1,2,2,4,4", 512: "0.5,1,1,2,2,4,4"}

HYBRID = "--num_channels 128 --num_res_blocks 3 --learn_sigma True --diffusion_steps 4000 --noise_schedule cosine"
LSUN = (
    "--image_size 256 --num_channels 128 --num_res_blocks 2 --num_heads 1 --learn_sigma True --use_scale_shift_norm False "
    "--attention_resolutions 16 --diffusion_steps 1000 --noise_schedule linear --rescale_timesteps False"
)
LARGE = (
    "--attention_resolutions 32,16,8 --diffusion_steps 1000 --learn_sigma True --num_channels 256 --num_res_blocks 2 "
    "--noise_schedule linear --resblock_updown True --use_scale_shift_norm True"
)
PRESETS = {
    "cifar10": (IMPROVED, f"--image_size 32 {HYBRID}"),
    "imagenet64": (IMPROVED, f"--image_size 64 {HYBRID}"),
    "imagenet64_cond": (
        IMPROVED,
        "--image_size 64 --num_channels 192 --num_res_blocks 3 --learn_sigma True --class_cond True --diffusion_steps 4000 "
        "--noise_schedule cosine --rescale_timesteps False",
    ),
    "lsun_bedroom": (IMPROVED, LSUN),
    "guided_imagenet64": (
        GUIDED,
        "--attention_resolutions 32,16,8 --class_cond True --diffusion_steps 1000 --image_size 64 --learn_sigma True "
        "--noise_schedule cosine --num_channels 192 --num_head_channels 64 --num_res_blocks 3 --resblock_updown True "
        "--use_new_attention_order True --use_scale_shift_norm True",
    ),
    "guided_imagenet128": (GUIDED, f"--image_size 128 --class_cond True --num_heads 4 {LARGE}"),
    "guided_imagenet256": (GUIDED, f"--image_size 256 --class_cond True --num_head_channels 64 {LARGE}"),
    "guided_imagenet256_uncond": (GUIDED, f"--image_size 256 --class_cond False --num_head_channels 64 {LARGE}"),
    "guided_imagenet512": (GUIDED, f"--image_size 512 --class_cond True --num_head_channels 64 {LARGE}"),
    "guided_lsun": (GUIDED, f"--image_size 256 --class_cond False --num_head_channels 64 {LARGE}"),
    "improved": (IMPROVED, ""),
    "guided": (GUIDED, ""),
}
"""The published models' flags, from the two projects' READMEs; the last two are the projects' defaults."""


def import_openai(path: Path, preset: str, flags: str = "", clip: bool = True) -> Imported:
    """Read a model of improved-diffusion or guided-diffusion.

    Args:
        preset: a key of ``PRESETS``; "improved" or "guided" with all that differs from the defaults in ``flags``.
        flags: as on OpenAI's command lines, such as "--num_channels 64 --learn_sigma True".
        clip: clip x̂_0 to [−1, 1] in the bound and in sampling, as their ``clip_denoised``, the default of image_nll.py.

    Raises:
        InvalidInput: an unknown preset or flag; a file that is damaged, holds more than tensors, or another model.
    """
    settings = _settings(preset, flags)
    state, (table, values) = read_state(path), _table(settings)
    fixed = "small" if settings.get("sigma_small") else "large"
    variance, prediction = (
        LEARNED if settings["learn_sigma"] else fixed,
        "sample" if settings["predict_xstart"] else "epsilon",
    )
    scale = 1000 / len(values) if settings["rescale_timesteps"] else 1.0
    return Imported(
        model=table_model(_network(settings), Table(table, values, scale), prediction, variance, clip),
        state={f"{prefix_of(variance)}{name}": compact(value) for name, value in state.items()},
        event_shape=(3, settings["image_size"], settings["image_size"]),
        levels=256,
        weights="ema" if "ema" in path.name else "raw",
        facts={"format": "openai", "preset": preset, "flags": flags, "clip": clip, "step": 0},
        source=path,
    )


def _settings(preset: str, flags: str) -> dict[str, Any]:
    """Return the flags of ``preset``, overridden by ``flags``, with the project's defaults for the rest."""
    if preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise InvalidInput(f"there is no preset {preset!r}{did_you_mean(preset, PRESETS, f'choose one of {known}')}")
    defaults, own = PRESETS[preset]
    return defaults | parse_flags(own, defaults) | parse_flags(flags, defaults)


def _table(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[float]]:
    """Return the call that makes the table of α, and its values."""
    kind, steps = settings["noise_schedule"], settings["diffusion_steps"]
    if kind not in ("linear", "cosine") or not 2 <= steps <= 100_000:
        raise InvalidInput(f"noise_schedule {kind!r} with {steps} diffusion_steps: use linear or cosine, with 2 to 100,000")
    if kind == "cosine":
        return {"_target_": "vdm.schedules.cosine_betas", "steps": steps}, finite_table(cosine_betas(steps))
    ends = {"first": 0.1 / steps, "last": 20 / steps}
    return {"_target_": "vdm.schedules.linear_betas", "steps": steps, **ends}, finite_table(linear_betas(steps, **ends))


def parse_flags(text: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``--name value`` pairs, with values of the defaults' types.

    Raises:
        InvalidInput: an unknown name, a missing value, or one of another type.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"flags={text!r} cannot be read ({error}): write --name value …") from error
    if len(words) % 2:
        raise InvalidInput(f"flags={text!r} must be pairs of --name and value")
    found: dict[str, Any] = {}
    for word, value in zip(words[::2], words[1::2], strict=True):
        name = word.removeprefix("--")
        if name in IGNORED:
            continue
        if name not in defaults:
            raise InvalidInput(
                f"there is no flag {word}{did_you_mean(name, defaults, 'see the project that wrote the file')}"
            )
        found[name] = _typed(name, value, type(defaults[name]))
    return found


def _typed(name: str, value: str, kind: type) -> Any:
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f"--{name} must be a {kind.__name__}, got {value!r}") from error


def _network(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the network."""
    size, width = settings["image_size"], settings.get("num_head_channels", -1)
    multipliers = settings.get("channel_mult") or MULTIPLIERS.get(size)
    if multipliers is None:
        raise InvalidInput(
            f"image_size {size} has no usual multipliers: add --channel_mult to flags, or use {[*MULTIPLIERS]}"
        )
    try:
        attention = [int(word) for word in settings["attention_resolutions"].split(",")]
        widths = [float(word) for word in multipliers.split(",")]
    except ValueError as error:
        raise InvalidInput("attention_resolutions and channel_mult must be numbers joined by commas") from error
    return {
        "_target_": "vdm.networks.OpenAIUNet",
        "event_shape": [3, size, size],
        "channels": settings["num_channels"],
        "multipliers": widths,
        "blocks": settings["num_res_blocks"],
        "attention": attention,
        "heads": settings["num_heads"],
        "head_channels": None if width == -1 else width,
        "scale_shift": settings["use_scale_shift_norm"],
        "resampling_blocks": settings.get("resblock_updown", False),
        "new_order": settings.get("use_new_attention_order", False),
        "classes": 1000 if settings["class_cond"] else None,
        "outputs": 2 if settings["learn_sigma"] else 1,
    }


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.pt`` file by name; nothing in it is run.

    Raises:
        InvalidInput: a file that is missing or damaged, or holds more than floating tensors by name.
    """
    if not path.is_file():
        raise InvalidInput(f"no file at {path}: name a checkpoint such as ema_0.9999_500000.pt")
    try:
        check_file(path)
        if zipfile.is_zipfile(path):  # before torch 1.6 they were none
            check_archive(path)
        state = load_without_code(path)
    except Exception as error:  # a damaged file may raise anything
        raise InvalidInput(
            f"{path} cannot be read as tensors by name ({one_line(error, 120)}): use an unedited file"
        ) from error
    if not isinstance(state, dict) or not state:
        raise InvalidInput(f"{path} holds no tensors by name: name the file of a model, not of an optimiser")
    for name, value in state.items():
        plain = isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided
        if not plain or not value.is_floating_point():
            raise InvalidInput(f"{path}: {str(name)[:60]!r} is not a floating tensor by name: use an unedited file")
    check_tensors(state, path)
    return state
