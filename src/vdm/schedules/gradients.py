"""Gradients of a scalar γ(t) in continuous time: the bound trains its ends, the variance of the loss its path.

With one γ for all dimensions the bound is ½ ∫ E‖ε − ε̂‖² dγ between the ends. It does not depend on the path, whose gradient
from a one-t estimate is noise. The variance of that estimate depends on the path, which therefore minimises it (Kingma et
al. 2021, appendix I). Both gradients come from one backward pass of ordinary autograd.
"""

import torch
from torch import Tensor

from vdm.schedules.base import NoiseSchedule


def endpoint_gradients_only(schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return γ(t) and γ′(t) with gradients to the ends γ_0 and γ_1 only: γ = γ_0 + (γ_1 − γ_0) s(t), s without gradient.

    The values are the schedule's own, (B,) each. If γ has one value a dimension, they are (B, *event) and all gradients
    stay: the bound depends on the path.
    """
    gamma, rate = schedule(t), schedule.rate(t)
    if not schedule.variance_trains_path:
        return gamma, rate
    gamma, rate = gamma.detach(), rate.detach()
    low, high = _ends(schedule, t)
    span = (high - low).detach()
    share = (gamma - low.detach()) / span
    gamma = gamma + (1 - share) * (low - low.detach()) + share * (high - high.detach())
    return gamma, rate * ((high - low) / span)


def path_variance_loss(schedule: NoiseSchedule, t: Tensor, estimate: Tensor) -> Tensor:
    """Return zero, (B,), with the gradient of the second moment E estimate² with respect to the path, and none to the ends.

    If γ has one value a dimension, the gradient is zero as well.

    With ``estimate`` = γ′(t) h at γ(t), t uniform and h a function of γ and of the noise, the second moment is
    ∫ γ′(t(γ)) E[h² | γ] dγ. Its gradient at fixed t is E[2 · estimate · ∂ estimate]; at fixed γ it is
    E[estimate² ∂ log γ′(t(γ))], the same number without a gradient through the denoiser. There t(γ) moves with the path by
    ∂t = −∂γ(t)/γ′(t). The mean of the estimate does not depend on the path, so this is also the gradient of the variance.
    """
    if not schedule.variance_trains_path:
        return torch.zeros_like(estimate)
    gamma, (low, high) = schedule(t), _ends(schedule, t)
    share = (gamma - low) / (high - low)
    slope = (schedule.rate(t) / (high - low)).detach()
    moved = t - (share - share.detach()) / slope
    log_rate = torch.log(schedule.rate(moved) / (high - low))
    return estimate.detach().square() * (log_rate - log_rate.detach())


def _ends(schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor]:
    low, high = schedule(torch.arange(2, dtype=t.dtype, device=t.device))
    return low, high
