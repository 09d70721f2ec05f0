"""Where a model is, and its mode during an evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn


def device_of(model: nn.Module) -> torch.device:
    """Return where the model's first weight or buffer is; the CPU for a model without."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every part of ``model`` into evaluation mode, and cuDNN out of TF32; afterwards all is as before."""
    modes, tf32 = [(part, part.training) for part in model.modules()], torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = False  # ten bits of mantissa
        model.eval()
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = tf32
        for part, mode in modes:
            part.training = mode
