"""What a broken law is, and what the laws share."""

from typing import Any

import torch
from torch import Tensor

from vdm.draws import scalar_dtype
from vdm.errors import InvalidInput
from vdm.parameterisations import Prediction


class BrokenLaw(InvalidInput):
    """A part that is not what its interface promises; the message gives both numbers."""


def require(holds: bool, what: str) -> None:
    """Raise BrokenLaw with the sentence ``what`` unless it ``holds``."""
    if not holds:
        raise BrokenLaw(what)


def zeros(part: Any, *shape: int) -> Tensor:
    """Return zeros on the device of a part's weights, in the dtype of times: float64 where there is one."""
    tensors = [*part.parameters(), *part.buffers()] if isinstance(part, torch.nn.Module) else []
    device = tensors[0].device if tensors else torch.device("cpu")
    return torch.zeros(shape, dtype=scalar_dtype(device), device=device)


def spread(n: int, low: float, high: float, like: Tensor) -> Tensor:
    """Return n numbers spread irregularly over (low, high), in increasing order: no grid of a part's own meets them."""
    golden = (torch.arange(1, n + 1, dtype=like.dtype, device=like.device) * 0.6180339887498949) % 1
    return low + (high - low) * golden.sort().values


def any_denoise(x_t: Tensor, gamma_t: Tensor) -> Prediction:
    """Some smooth denoiser: a likelihood is normalised whatever a network says."""
    return Prediction.from_x_0(1.3 * torch.sin(2 * x_t), x_t, gamma_t)
