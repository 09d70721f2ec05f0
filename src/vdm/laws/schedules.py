"""The laws of what runs over time: γ(t), the weights of a time, grids of times, and where t is drawn."""

import torch
from torch import Tensor

from vdm.draws import Draws
from vdm.elbo import Time
from vdm.gamma import snr_difference
from vdm.laws.law import require, spread, zeros
from vdm.samplers import Spacing
from vdm.schedules import LinearSchedule, NoiseSchedule
from vdm.times import TimeSampler

POINTS = 500
"""Number of times at which a schedule is looked at."""


def columns(gamma: Tensor) -> Tensor:
    """Return γ as (B, D): one column a dimension, one in all for a scalar schedule."""
    return gamma.detach().reshape(len(gamma), -1)


def check_schedule(schedule: NoiseSchedule, tolerance: float = 1e-5) -> None:
    """Hold γ(t) to its ends, its monotony and its derivative.

    Args:
        tolerance: of the ends, relative and absolute.

    Raises:
        BrokenLaw: with t, the value found and the value due.
    """
    like = zeros(schedule)
    ends = columns(schedule(torch.stack([like, like + 1])))
    require(bool(torch.isfinite(ends).all()), f"gamma(0) and gamma(1) must be finite, got {ends[:, 0].tolist()}")
    if not schedule.learned_ends:
        for end, name, due in ((0, "gamma_min", schedule.gamma_min), (1, "gamma_max", schedule.gamma_max)):
            found = _farthest(ends[end], due)
            require(abs(found - due) <= tolerance * (1 + abs(due)), f"gamma({end}) = {found:.6g}, but {name} = {due:.6g}")
    t = torch.cat([like[None], spread(POINTS, 0.0, 1.0, like), like[None] + 1])
    steps = columns(schedule(t)).diff(dim=0)
    least = steps.min(1).values
    at = int(torch.where(torch.isfinite(least), least, -torch.inf).argmin())
    require(
        bool((steps > 0).all()),
        f"gamma must increase, but from t = {t[at]:.4g} to {t[at + 1]:.4g} it changes by {least[at].item():.4g}",
    )
    _check_rate(schedule, t[1:-1])


def _farthest(values: Tensor, due: float) -> float:
    return float(values[(values - due).abs().argmax()])


def _check_rate(schedule: NoiseSchedule, t: Tensor) -> None:
    """Compare γ′ with central differences of γ, whose step is as small as the schedule's own precision allows."""
    gamma, rate = columns(schedule(t)), columns(schedule.rate(t))
    require(rate.shape == gamma.shape, f"rate(t) has the shape {tuple(rate.shape)}, but gamma(t) {tuple(gamma.shape)}")
    fine = t.dtype == torch.float64 and not torch.equal(gamma, gamma.float().double())
    step, tolerance = (1e-6, 1e-4) if fine else (3e-3, 3e-2)
    inside = (t > step) & (t < 1 - step)
    t, rate = t[inside], rate[inside]
    slope = (columns(schedule(t + step)) - columns(schedule(t - step))) / (2 * step)
    error = ((rate - slope).abs() / slope.abs()).nan_to_num(torch.inf)
    at, dim = divmod(int(error.argmax()), error.shape[1])
    require(
        float(error[at, dim]) <= tolerance,
        f"rate({t[at]:.4g}) = {rate[at, dim].item():.6g}, but gamma changes there at {slope[at, dim].item():.6g}",
    )


def check_time(time: Time) -> None:
    """Hold a time's weights to their sum: E weight over u is SNR(0) − SNR(1), whatever the path."""
    schedule, like = LinearSchedule(-2.0, 2.0), zeros(time)
    u = (torch.arange(10_000, dtype=like.dtype) + 0.5) / 10_000
    gamma, weight = time.gamma_and_weight(schedule, u)[:2]
    ends = schedule(torch.tensor([0.0, 1.0], dtype=like.dtype))
    found, due = weight.mean().item(), snr_difference(ends[0], ends[1]).item()
    # a discrete time of many steps meets u by whole steps only
    require(abs(found / due - 1) <= 1e-2, f"its weights have the mean {found:.6g}, but SNR(0) - SNR(1) = {due:.6g}")
    inside = bool((gamma >= ends[0] - 1e-6).all() and (gamma <= ends[1] + 1e-6).all())
    require(inside, f"gamma_t runs from {gamma.min():.4g} to {gamma.max():.4g}, but the schedule from -2 to 2")


def check_spacing(spacing: Spacing) -> None:
    """Hold a grid to its number of times, its ends and its order."""
    times = spacing.times(LinearSchedule(-8.0, 5.0), 10, torch.device("cpu"))
    require(len(times) == 11, f"10 steps need 11 times, got {len(times)}")
    ends = (round(times[0].item(), 9), round(times[-1].item(), 9))
    require(ends == (1.0, 0.0), f"times must run from 1 to 0, got {ends[0]:g} and {ends[1]:g}")
    require(bool((times.diff() < 0).all()), f"times must decrease, but one step is {times.diff().max().item():.4g}")


class _Recorded(Draws):
    """Draws that remember whether they were spread over the batch."""

    shared = False

    def stratified(self, name: str, like: Tensor) -> Tensor:
        self.shared = True
        return super().stratified(name, like)


def check_times(times: TimeSampler) -> None:
    """Hold a distribution of t to its density: E 1/density over u in any interval is the interval's length.

    From 40,000 draws, within five standard errors.
    """
    like, draws = zeros(times, 40_000, 1), _Recorded(0)
    u, density = times.draw(draws, like)
    low, high = u.min().item(), u.max().item()
    require(low >= 0 and high < 1, f"u must be in [0, 1), got {low:.6g} to {high:.6g}")
    require(bool((density > 0).all()), f"the density of u must be positive, got {density.min().item():.4g}")
    for start, end in [(0.0, 1.0), *((i / 10, (i + 1) / 10) for i in range(10))]:
        weights = ((u >= start) & (u < end)).to(u.dtype) / density
        found, error = weights.mean().item(), 5 * weights.std().item() / len(u) ** 0.5 + 1e-4
        require(
            abs(found - (end - start)) <= error,
            f"E 1/density over u in [{start:g}, {end:g}) = {found:.4g}, but its length is {end - start:.4g}",
        )
    require(
        not (times.independent and draws.shared), "independent = True, but its t are spread over the batch: set it to False"
    )
