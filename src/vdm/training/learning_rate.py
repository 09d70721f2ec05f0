"""Learning-rate schedules, built from an optimiser and the number of steps."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vdm.buildable import buildable
from vdm.errors import InvalidInput, at_least


@buildable
def warmup_cosine(optimizer: Optimizer, steps: int, warmup: int, floor: float = 0.0) -> LambdaLR:
    """Warm up linearly over ``warmup`` steps while decaying along half a cosine to ``floor`` times the peak at ``steps``.

    Raises:
        InvalidInput: negative ``warmup``, or ``floor`` outside [0, 1].
    """
    at_least(0, warmup=warmup, floor=floor)
    if floor > 1:
        raise InvalidInput(f"floor must be in [0, 1], got {floor}: it is a fraction of the peak learning rate")

    def factor(step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        return min(1.0, (step + 1) / max(1, warmup)) * (floor + (1 - floor) * cosine)

    return LambdaLR(optimizer, factor)


@buildable
def warmup_constant(optimizer: Optimizer, steps: int, warmup: int) -> LambdaLR:
    """Warm up linearly over ``warmup`` steps, then stay constant, as the official VDM code does.

    Raises:
        InvalidInput: negative ``warmup``.
    """
    at_least(0, warmup=warmup)
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup)))
