"""What trains a scalar γ in continuous time: the bound its ends, the variance of the loss the path between them.

With one γ for all dimensions the bound is ½ ∫ E‖ε − ε̂‖² dγ between the ends: the path drops out of it, and what gradient
reaches the path is noise. The path matters for the variance of the one-t estimate (Kingma et al. 2021, appendix I), so
that is what it minimises. Both happen in one backward pass, with ordinary autograd.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vdm.schedules.base import NoiseSchedule


class GammaAndRate(NamedTuple):
    """γ(t) and γ′(t), each (B,) or (B, *event)."""

    gamma: Tensor
    rate: Tensor


def endpoint_gradients_only(schedule: NoiseSchedule, t: Tensor) -> GammaAndRate:
    """γ(t) and γ′(t) as functions of the ends γ_0 and γ_1 alone: γ = γ_0 + (γ_1 − γ_0) s(t) with the path s held fixed.

    The values are the schedule's own. Where γ has one value a dimension nothing is held: the bound sees the whole path.
    """
    noise = GammaAndRate(schedule(t), schedule.rate(t))
    if not schedule.variance_trains_path:
        return noise
    gamma, rate = (value.detach() for value in noise)
    low, high = _ends(schedule, t)
    span = (high - low).detach()
    share = (gamma - low.detach()) / span
    return GammaAndRate(
        gamma + (1 - share) * (low - low.detach()) + share * (high - high.detach()), rate * ((high - low) / span)
    )


def path_variance_loss(schedule: NoiseSchedule, t: Tensor, estimate: Tensor) -> Tensor:
    """Zero, (B,), with the gradient of the second moment E estimate² with respect to the path; none reaches the ends.

    Zero altogether where γ has one value a dimension.

    With ``estimate`` = γ′(t) h at γ(t), t uniform and h a function of γ and of the noise, the second moment is
    ∫ γ′(t(γ)) E[h² | γ] dγ. Its gradient, E[2 · estimate · ∂ estimate] by the chain rule at fixed t, is at fixed γ
    E[estimate² ∂ log γ′(t(γ))]: the same number, and no gradient has to pass through the denoiser. That t(γ) moves with
    the path by ∂t = −∂γ(t)/γ′(t). The mean of the estimate does not depend on the path, so this is also the gradient of
    the variance.
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
