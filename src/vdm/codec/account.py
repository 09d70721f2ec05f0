"""The codec's account: what images cost in the file, by the bound, and by other codes, in bits per dimension."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vdm.batch import Batch, chunks
from vdm.bound import VariationalModel
from vdm.codec.batches import Progress
from vdm.codec.codec import Encoded, Images
from vdm.codec.others import other_sizes
from vdm.codec.spacing import spaced_time
from vdm.elbo import ContinuousTime
from vdm.estimate import Estimate
from vdm.evaluation import BoundEvaluation
from vdm.evaluation.summary import summarise
from vdm.models import DiffusionModel

ROWS = 512
"""Examples in one network call of a bound."""

LABELS = {
    "net": "net: stored less drawn",
    "path": "−(1.46) on the same latents",
    "bound": "bound at this T",
    "bound_continuous": "bound at T = ∞",
    "file": "file",
    "png": "PNG, each image",
    "png_sheet": "PNG, one sheet",
    "webp": "WebP, each image",
    "webp_sheet": "WebP, one sheet",
    "xz": "xz, all images",
}
"""Codelengths and their names for people, in the order of the table."""


def account(
    model: VariationalModel, images: Images, encoded: Encoded, repeats: int | None, seed: int, progress: Progress
) -> dict[str, Any]:
    """Return the ``bits_per_dim``, ``bytes`` and ``per_image`` of compress.json.

    Args:
        model: as it was given to ``encode``; the bounds are evaluated in its own precision.
        repeats: replicates of the bounds; None for no bounds.
    """
    n, dims = len(images.x), math.prod(encoded.header.shape)
    paid = {"net": torch.from_numpy(encoded.spent.net) / dims, "path": torch.from_numpy(encoded.spent.path) / dims}
    entries = {name: {"value": bits.mean().item(), "data_se": _error(bits)} for name, bits in paid.items()}
    per_image = {name: bits.tolist() for name, bits in paid.items()}
    for name, values in bounds(model, images, encoded, repeats, seed, progress).items():
        entries[name] = _entry(summarise(values, independent=False))
        per_image[name] = values.mean(1).tolist()
        if name == "bound":
            entries["net_less_bound"] = _difference(paid["net"] - values.mean(1))
    sizes = other_sizes(images.x.cpu().numpy())
    sizes = {"file": len(encoded.content), **sizes}
    entries |= {name: {"value": 8 * size / (n * dims)} for name, size in sizes.items()}
    return {"bits_per_dim": entries, "bytes": sizes | _parts(encoded), "per_image": per_image}


def bounds(
    model: VariationalModel, images: Images, encoded: Encoded, repeats: int | None, seed: int, progress: Progress
) -> dict[str, Tensor]:
    """Return the bound at the codec's T, and that at T = ∞ of a diffusion model, (n, R) each in bits/dim."""
    if repeats is None:
        return {}
    timed = {"bound": model}
    if isinstance(model, DiffusionModel):
        header = encoded.header
        own_time = spaced_time(model.schedule, header.timesteps, header.spacing)
        timed = {"bound": model.at(own_time), "bound_continuous": model.at(ContinuousTime())}
    evaluation, found = BoundEvaluation(repeats, seed), {}
    data = Batch(images.x, torch.arange(len(images.x)), images.condition)
    for number, (name, each) in enumerate(timed.items()):
        columns: list[Tensor] = []
        for chunk in chunks(data, ROWS):
            columns.append(evaluation(each, chunk)[0])
            progress((number + sum(map(len, columns)) / len(images.x)) / len(timed))
        found[name] = torch.cat(columns)
    return found


def _parts(encoded: Encoded) -> dict[str, float]:
    """Bytes of the file by their purpose: those of the net bits are not whole."""
    initial, checksums = encoded.initial / 8, float(encoded.header.images)
    net = float(np.sum(encoded.spent.net)) / 8
    rest = len(encoded.content) - initial - checksums - net
    return {"of_net": net, "of_initial": initial, "of_checksums": checksums, "of_header_and_names": rest}


def _difference(bits: Tensor) -> dict[str, float | None]:
    """Mean and standard error over images of net bits less the bound: both vary, so the error is of the pair."""
    return {"value": bits.mean().item(), "se": _error(bits)}


def _error(bits: Tensor) -> float | None:
    """Return the standard error over images of the mean of (n,) values; None for one image."""
    return (bits.std() / len(bits) ** 0.5).item() if len(bits) > 1 else None


def _entry(estimate: Estimate) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in estimate._asdict().items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
