"""The official VDM (google-research/vdm): ``ckpt-N.flax``, or an npz of its parameters by name."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vdm.adapters.arrays import read_arrays
from vdm.adapters.folder import Imported, compact
from vdm.errors import InvalidInput
from vdm.networks.official import monotone_schedule, network_state, schedule_ends

FLOATS = ("float16", "float32", "float64")


def import_vdm(
    path: Path,
    event_shape: Sequence[int],
    levels: int = 256,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    ema: bool = True,
    float32_time: bool = False,
) -> Imported:
    """Read an official VDM.

    The network's channels, blocks, attention and Fourier features follow from the shapes, the schedule from its parameters:
    learned linear (``gamma/w``, ``gamma/b``), the monotone network (``gamma/l1`` … ``l3``), or none for the fixed line.

    Args:
        event_shape: (C, H, W) of the images.
        levels: K, ``vocab_size`` of the official config.
        gamma_min, gamma_max: of the official config. The network scales γ by these, also where the schedule was learned.
        ema: the averaged parameters if the file holds some; the raw ones otherwise.
        float32_time: round the angle of the time embedding to float32, as the official code does in float64 as well.

    Raises:
        InvalidInput: see ``read_arrays``; parameters that are missing, unknown or not of an official network.
    """
    arrays = read_arrays(path)
    prefix = _prefix(arrays, ema, path)
    own = _parameters(arrays, prefix, path)
    schedule, state = _schedule(own, gamma_min, gamma_max)
    ends = {"gamma_min": float(gamma_min), "gamma_max": float(gamma_max), "float32_time": float32_time}
    network = _network(own, tuple(event_shape), path) | ends
    state |= {f"denoiser.network.{name}": compact(value) for name, value in network_state(own, "score_model/").items()}
    weights = "ema" if prefix == "ema_params/" else "raw"
    facts = {"format": "google-research/vdm", "step": int(arrays["step"].item()) if _is_step(arrays) else 0}
    return Imported(_model(schedule, network, levels), state, tuple(event_shape), levels, weights, facts, path)


def _parameters(arrays: Mapping[str, np.ndarray], prefix: str, path: Path) -> dict[str, np.ndarray]:
    """Return the parameters below ``prefix`` by the rest of their names."""
    own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    for name, array in own.items():
        if array.dtype.name not in FLOATS:
            raise InvalidInput(f"{path}: {name} has type {array.dtype.name}, not floating point: use an unedited file")
    return own


def _is_step(arrays: Mapping[str, np.ndarray]) -> bool:
    return "step" in arrays and arrays["step"].size == 1 and arrays["step"].dtype.kind in "iu"


def _prefix(arrays: Mapping[str, np.ndarray], ema: bool, path: Path) -> str:
    """Return what stands before ``score_model/`` in the names of the parameters that were asked for."""
    wanted = ("ema_params/", "params/", "") if ema else ("params/", "")
    for prefix in wanted:
        if any(name.startswith(f"{prefix}score_model/") for name in arrays):
            return prefix
    raise InvalidInput(f"{path} holds no score_model/ parameters of the official VDM; it has {next(iter(arrays), 'none')!r}")


def _network(own: Mapping[str, np.ndarray], event_shape: tuple[int, ...], path: Path) -> dict[str, Any]:
    """Return the description of the network whose parameters are ``own``."""
    if len(event_shape) != 3:
        raise InvalidInput(f"event_shape must be the (C, H, W) of the images, got {list(event_shape)}: such as [3,32,32]")
    first, last = (_kernel(own, f"score_model/{name}/kernel", path) for name in ("conv_in", "conv_out"))
    colours, channels, inputs = event_shape[0], first.shape[3], first.shape[2]
    if last.shape[3] != colours:
        raise InvalidInput(f"{path} is of images with {last.shape[3]} channels, got event_shape={list(event_shape)}")
    if inputs not in (colours, 5 * colours):
        raise InvalidInput(f"{path}: conv_in takes {inputs} channels, neither {colours} nor, with Fourier features, 5 times")
    numbers = [
        int(found[1]) for name in own if (found := re.fullmatch(r"score_model/down\.block_(\d{1,4})/conv1/bias", name))
    ]
    features = {"_target_": "vdm.networks.FourierFeatures", "exponents": [6, 7]}
    return {
        "_target_": "vdm.networks.VDMUNet",
        "event_shape": list(event_shape),
        "channels": channels,
        "blocks": len(numbers),
        "attention_everywhere": any(name.startswith("score_model/up.attn_") for name in own),
        "fourier": features if inputs == 5 * colours else None,
    }


def _kernel(own: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in own or own[name].ndim != 4:
        raise InvalidInput(f"{path}: {name} is missing or is not the kernel of a 3×3 convolution: use an unedited file")
    return own[name]


def _schedule(own: Mapping[str, np.ndarray], gamma_min: float, gamma_max: float) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the description of the schedule and its weights."""
    names = {name for name in own if name.startswith("gamma/")}
    if any(name.startswith("gamma/l") for name in names):
        learned = monotone_schedule(own, "gamma/")
        tree = {
            "_target_": "vdm.schedules.MonotoneSchedule",
            "gamma_min": learned.gamma_min,
            "gamma_max": learned.gamma_max,
            "hidden": len(learned.offsets),
            "linear_share": 0.0,
        }
        return tree, {f"schedule.{name}": value.double() for name, value in learned.state_dict().items()}
    low, high = schedule_ends(own, "gamma/") if names else (float(gamma_min), float(gamma_max))
    return {"_target_": "vdm.schedules.LinearSchedule", "gamma_min": low, "gamma_max": high}, {}


def _model(schedule: dict[str, Any], network: dict[str, Any], levels: int) -> dict[str, Any]:
    """Return the official model: continuous time, the categorical likelihood, 1000 ancestral steps."""
    return {
        "_target_": "vdm.models.VDM",
        "schedule": schedule,
        "denoiser": {
            "_target_": "vdm.denoiser.Denoiser",
            "network": network,
            "parameterisation": {"_target_": "vdm.parameterisations.ResidualNoiseParameterisation"},
        },
        "likelihood": {"_target_": "vdm.likelihoods.CategoricalLikelihood", "levels": levels},
        "time": {"_target_": "vdm.elbo.ContinuousTime"},
        "times": {"_target_": "vdm.times.StratifiedTimes"},
        "sampling": {
            "_target_": "vdm.samplers.Sampling",
            "sampler": {"_target_": "vdm.samplers.AncestralSampler"},
            "steps": 1000,
        },
    }
