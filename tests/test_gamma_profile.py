"""Profiles of the one-t estimate over γ."""

import math

import pytest
import torch
from torch.nn.functional import softplus

from support.oracles import GaussianData
from vdm.batch import Batch
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.gamma_profile import GammaProfile, one_t_variance, per_gamma
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.schedules import CosineSchedule, LinearSchedule
from vdm.terms import bits_per_dim
from vdm.times import LossMomentTimes, UniformTimes


def test_profile_bins_preserve_mean_and_variance():
    """Law of total variance over bins, with values outside of the ends."""
    stream = torch.Generator().manual_seed(0)
    gamma, value = 20 * torch.rand(500, generator=stream) - 12, torch.randn(500, generator=stream).double() ** 2
    profile = GammaProfile.empty(torch.tensor([-8.0, 5.0]), bins=7)
    for rows in torch.arange(500).split(64):
        profile.add(gamma[rows], value[rows])
    found = profile.bins()
    assert [each.low for each in found] == pytest.approx([-8 + 13 / 7 * k for k in range(7)])
    assert sum(each.draws for each in found) == 500
    assert sum(y * (each.high - each.low) for y, each in zip(per_gamma(found), found, strict=True)) == pytest.approx(
        value.mean().item()
    )
    assert one_t_variance(found) == pytest.approx(value.var(unbiased=False).item())
    third = value[(gamma >= found[2].low) & (gamma < found[2].high)]
    assert (found[2].draws, found[2].mean) == (len(third), pytest.approx(third.mean().item()))
    assert found[2].variance == pytest.approx(third.var(unbiased=False).item())


@pytest.mark.parametrize("times", [UniformTimes(), LossMomentTimes(bins=10)], ids=["uniform", "importance"])
@pytest.mark.parametrize("schedule", [LinearSchedule(-6.0, 5.0), CosineSchedule(-6.0, 5.0)], ids=["linear", "cosine"])
@pytest.mark.parametrize("time", [ContinuousTime(), DiscreteTime(5001)], ids=str)
def test_bound_per_gamma_has_its_closed_form_on_any_schedule(time, schedule, times):
    """N(0, s² I) with its ideal denoiser: ½ E‖ε − ε̂‖² = D/2 · sigmoid(log s² − γ), within 4 standard errors a bin."""
    data, n = GaussianData.isotropic(0.0, 0.25, (3,)), 40_000
    model = VDM(schedule, data.denoiser, GaussianLikelihood(), time, times)
    for seed in (2, 1):  # the first pass updates the loss history of ``times``
        loss = model.loss(Batch(data.sample(n), torch.arange(n)), Draws(seed))
    profile = GammaProfile.empty(torch.tensor([-6.0, 5.0]), bins=11)
    profile.add(loss.gamma_t, bits_per_dim(loss.bound.denoising_matching, 3))
    found = profile.bins()
    step = schedule.rate(torch.linspace(0, 1, 1001, dtype=torch.float64)).max().item() / 5000
    slack = 1.5 * step if isinstance(time, DiscreteTime) else 0.0  # expm1(Δγ)/Δγ, and steps that cross a bin edge
    for y, each in zip(per_gamma(found), found, strict=True):
        low, high = (softplus(torch.tensor(math.log(0.25) - gamma)).item() for gamma in (each.low, each.high))
        share, width = each.draws / n, each.high - each.low
        variance = share * (each.variance + each.mean**2) - (share * each.mean) ** 2
        exact = (low - high) / (2 * math.log(2) * width)
        assert abs(y - exact) < 4 * math.sqrt(variance / n) / width + slack * exact
