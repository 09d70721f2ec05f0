"""The bound to a target error, on a case with known variances: unbiased, calibrated, near the fewest calls."""

import math

import pytest
import torch

from support.oracles import GaussianData
from vdm.batch import Batch
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.evaluation.strata import neyman_allocation
from vdm.evaluation.stratified_bound import StratifiedBound
from vdm.gamma import alpha_bar, sigma2, snr_difference
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.schedules import LinearSchedule

DIMS = 4
DATA = GaussianData.isotropic(0.1, 0.25, (DIMS,))
POINT = torch.tensor([[0.3, -0.4, 0.9, 0.2]]).double()
BITS = 1 / (DIMS * math.log(2))


def model(time):
    return VDM(LinearSchedule(-6.0, 5.0), DATA.denoiser, GaussianLikelihood(), time)


def known_variances(timesteps):
    """Variances in (bits/dim)² at ``POINT``: D/2 nats² for the reconstruction, and of w/2 Σ (a + b ε)² for each t."""
    gammas = torch.linspace(-6, 5, timesteps, dtype=torch.float64)
    gamma = gammas[1:, None]
    signal2, noise2 = alpha_bar(gamma), sigma2(gamma)
    gain = signal2.sqrt() * 0.25 / (signal2 * 0.25 + noise2)
    a, b2 = (1 - gain * signal2.sqrt()) * (0.1 - POINT), gain.square() * noise2
    weight = 0.5 * snr_difference(gammas[:-1], gammas[1:])
    denoising = weight.square() * (2 * b2.square() + 4 * a.square() * b2).sum(1)
    return BITS**2 * torch.cat([torch.tensor([DIMS / 2]).double(), denoising])


def run(target, time, n=50, seed=0, **settings):
    data = Batch(POINT.expand(n, DIMS), torch.arange(n))
    return StratifiedBound(target, seed=seed, **settings)(model(time), data, lambda done: None)[0]


@pytest.mark.parametrize("timesteps", [5, 30])
class TestKnownVariances:
    def test_calls_are_within_a_fifth_of_the_minimum(self, timesteps):
        sd = known_variances(timesteps).sqrt()
        target = sd.sum().item() / 20_000**0.5  # the minimum is then 20,000 calls
        result = run(target, DiscreteTime(timesteps))
        assert result.calls <= 1.2 * 20_000
        assert result.terms["bits_per_dim"].mc_se <= 1.02 * target
        assert result.facts["floor_calls"] == pytest.approx(20_000, rel=0.05)
        full = len(sd) * sd.square().sum().item() / target**2
        assert result.facts["full_sum_calls"] == pytest.approx(full, rel=0.1)

    def test_value_is_unbiased_with_calibrated_mc_se(self, timesteps):
        gammas = torch.linspace(-6, 5, timesteps, dtype=torch.float64)
        exact = -DATA.elbo(gammas, POINT).item() * BITS
        target = known_variances(timesteps).sqrt().sum().item() / 2_000**0.5
        results = [run(target, DiscreteTime(timesteps), seed=seed, pilot=16).terms["bits_per_dim"] for seed in range(25)]
        z = torch.tensor([(r.value - exact) / r.mc_se for r in results])
        assert abs(z.mean()) < 4 / 5
        assert z.std() < 1 + 4 / (2 * 24) ** 0.5


def test_mc_se_includes_the_choice_of_examples():
    """With different examples, the estimate is centred on the bound of this data set."""
    x = DATA.sample(40)
    gammas = torch.linspace(-6, 5, 10, dtype=torch.float64)
    exact = -DATA.elbo(gammas, x).mean().item() * BITS
    data = Batch(x, torch.arange(40))
    results = [
        StratifiedBound(0.05, seed=s, pilot=16)(model(DiscreteTime(10)), data, lambda done: None)[0] for s in range(25)
    ]
    z = torch.tensor([(r.terms["bits_per_dim"].value - exact) / r.terms["bits_per_dim"].mc_se for r in results])
    assert abs(z.mean()) < 4 / 5
    assert z.std() < 1 + 4 / (2 * 24) ** 0.5


def test_data_se_excludes_monte_carlo_error():
    """data_se is the spread of the examples' exact bounds, and vanishes if all examples are one point."""
    x, gammas = DATA.sample(400), torch.linspace(-6, 5, 10, dtype=torch.float64)
    exact = (DATA.elbo(gammas, x) * BITS).var().item() / 400
    data = Batch(x, torch.arange(400))
    seeds = range(12)
    found = [
        StratifiedBound(0.01, seed=s)(model(DiscreteTime(10)), data, lambda done: None)[0].terms["bits_per_dim"]
        for s in seeds
    ]
    squares = torch.tensor([estimate.data_se**2 for estimate in found])
    assert abs(squares.mean() - exact) < 4 * squares.std() / 12**0.5
    alike = [run(0.1, DiscreteTime(10), seed=seed).terms["bits_per_dim"] for seed in range(25)]
    assert sum(e.data_se**2 for e in alike) < 0.3 * sum(e.mc_se**2 for e in alike)


def test_continuous_time_agrees_with_closed_form():
    x = DATA.sample(4_000)
    data = Batch(x, torch.arange(4_000))
    result = StratifiedBound(0.01)(model(ContinuousTime()), data, lambda done: None)[0]
    estimate = result.terms["bits_per_dim"]
    exact = -DATA.continuous_elbo(-6.0, 5.0) * BITS
    assert abs(estimate.value - exact) < 4 * (estimate.mc_se**2 + estimate.data_se**2) ** 0.5


def test_terms_sum_to_total():
    terms = run(0.05, DiscreteTime(6)).terms
    parts = sum(terms[name].value for name in ("reconstruction", "prior_matching", "denoising_matching"))
    assert terms["bits_per_dim"].value == pytest.approx(parts, abs=1e-12)


def test_result_is_independent_of_rows():
    wide, narrow = (run(0.1, DiscreteTime(6), rows=rows).terms["bits_per_dim"].value for rows in (512, 7))
    assert wide == pytest.approx(narrow, abs=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_allocation_refuses_non_finite_draws(value):
    with pytest.raises(InvalidInput, match="draws are not finite"):
        neyman_allocation(torch.tensor([1.0, value, 1.0]), variance=1e-4)


def test_unreachable_target_is_refused_after_the_pilot():
    """The refusal comes before memory is allocated for the calls."""
    with pytest.raises(InvalidInput, match=r"would take \d\.\de\+\d+ calls of the network: ask for a larger one"):
        run(1e-9, DiscreteTime(6))


@pytest.mark.parametrize("settings", [{"target_se": 0.0}, {"target_se": 0.1, "pilot": 2}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InvalidInput):
        StratifiedBound(**settings)
