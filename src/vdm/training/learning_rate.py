"""Learning-rate schedules, from an optimiser and a number of steps."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vdm.buildable import buildable
from vdm.errors import InvalidInput, at_least


@buildable
def warmup_cosine(optimizer: Optimizer, steps: int, warmup: int, floor: float = 0.0) -> LambdaLR:
    """Rises linearly over ``warmup`` steps, then falls along half a cosine to ``floor`` times the peak at ``steps``.

    Raises:
        InvalidInput: a warm-up of fewer than 0 steps, or a floor outside of [0, 1].
    """
    at_least(0, warmup=warmup, floor=floor)
    if floor > 1:
        raise InvalidInput(f"floor is a part of the peak and must be in [0, 1], got {floor}")

    def factor(step: int) -> float:
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        return min(1.0, (step + 1) / max(1, warmup)) * (floor + (1 - floor) * fall)

    return LambdaLR(optimizer, factor)


@buildable
def warmup_constant(optimizer: Optimizer, steps: int, warmup: int) -> LambdaLR:
    """Rises linearly over ``warmup`` steps, then stays: the official VDM's.

    Raises:
        InvalidInput: a warm-up of fewer than 0 steps.
    """
    at_least(0, warmup=warmup)
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup)))
