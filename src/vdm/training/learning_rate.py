"""Learning-rate schedules, from an optimiser and a number of steps."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, steps: int, warmup: int, floor: float = 0.0) -> LambdaLR:
    """Rises linearly over ``warmup`` steps, then falls along half a cosine to ``floor`` times the peak at ``steps``."""

    def factor(step: int) -> float:
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * fall)

    return LambdaLR(optimizer, factor)


def warmup_constant(optimizer: Optimizer, steps: int, warmup: int) -> LambdaLR:
    """Rises linearly over ``warmup`` steps, then stays: the official VDM's."""
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
