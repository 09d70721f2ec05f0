"""Intervals cover the exact value as often as they say, at any number of replicates."""

import math

import pytest
import torch

import vdm.evaluation.bound
import vdm.evaluation.strata
from support.oracles import GaussianData
from support.rare_levels import OneStreamDraws, rare_levels, rare_levels_bound, rare_levels_model
from vdm.batch import Batch
from vdm.elbo import ContinuousTime
from vdm.evaluation import BoundEvaluation, BoundSummary, StratifiedBound
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.schedules import LinearSchedule
from vdm.terms import TERMS
from vdm.times import StratifiedTimes, UniformTimes

SEEDS = 300
LEAST, MOST = 0.92, 0.98
"""What 95 % intervals may cover over 300 seeds, ± 2.4 standard errors."""

ROUNDING = 1e-6
"""Of x_0 in float32: a term in closed form has no other error."""

GAUSSIAN = GaussianData.isotropic(0.1, 0.25, (4,))
TIMES = {"uniform": UniformTimes(), "stratified": StratifiedTimes()}


@pytest.fixture(autouse=True)
def fast_draws(monkeypatch):
    for module in (vdm.evaluation.bound, vdm.evaluation.strata):
        monkeypatch.setattr(module, "ExampleDraws", OneStreamDraws)


def gaussian(n, times):
    x = GAUSSIAN.sample(n)
    factor = 1 / (4 * math.log(2))
    gammas = torch.linspace(-6, 5, 20_001, dtype=torch.float64)
    middles = (gammas[1:] + gammas[:-1]) / 2
    matching = torch.stack(
        [0.5 * ((-m).exp() * GAUSSIAN.error(m, x)).sum(-1) * 11 / 20_000 for m in middles.split(500)]
    ).sum(0)
    terms = [
        -GAUSSIAN.reconstruction(-6.0) * factor,
        GAUSSIAN.prior_matching(5.0, x).mean().item() * factor,
        matching.mean().item() * factor,
    ]
    model = VDM(LinearSchedule(-6.0, 5.0), GAUSSIAN.denoiser, GaussianLikelihood(), ContinuousTime(), times)
    return model, x, dict(zip(TERMS, [sum(terms), *terms], strict=True))


def heavy(n, times):
    x = rare_levels(n)
    return rare_levels_model(ContinuousTime(), times), x, rare_levels_bound(x)


CASES = {"gaussian": (gaussian, 60), "heavy": (heavy, 300)}


def covered(estimates, exact):
    """Share of the estimates whose interval holds the exact value, by term; 1 for terms without an error."""
    shares = {}
    for name in TERMS:
        intervals = [each[name].interval() for each in estimates]
        shares[name] = sum(low - ROUNDING <= exact[name] <= high + ROUNDING for low, high in intervals) / len(intervals)
    return shares


def assert_covers(estimates, exact):
    shares = covered(estimates, exact)
    assert shares.pop("prior_matching") == 1
    assert all(LEAST <= share <= MOST for share in shares.values()), shares


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("case", ["gaussian", pytest.param("heavy", marks=pytest.mark.slow)])
def test_intervals_of_all_terms_cover(case, times):
    """For 2, 4, 8 and 32 replicates; heavy: 15 of 17 levels have probability 0.002 each."""
    make, n = CASES[case]
    model, x, exact = make(n, TIMES[times])
    batch = Batch(x, torch.arange(n))
    drawn = [BoundEvaluation(32, seed, rows=40_000)(model, batch) for seed in range(SEEDS)]
    for repeats in (2, 4, 8, 32):
        estimates = []
        for terms in drawn:
            summary = BoundSummary(repeats, TERMS, model.independent_draws)
            summary.update(terms[..., :repeats])
            estimates.append(summary.compute())
        assert_covers(estimates, exact)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "target"), [("gaussian", 0.1), ("heavy", 0.1), ("heavy", 0.05)])
def test_target_se_is_met_and_its_intervals_cover(case, target):
    make, n = CASES[case]
    model, x, exact = make(n, None)
    batch = Batch(x, torch.arange(n))
    results = [StratifiedBound(target, seed=s, rows=20_000)(model, batch, lambda done: None)[0] for s in range(SEEDS)]
    assert max(result.terms["bits_per_dim"].mc_se for result in results) <= target
    assert_covers([result.terms for result in results], exact)


def test_two_replicates_of_independent_draws_pool_examples():
    """The replicate means of two may agree by chance; the examples' own spreads do not."""
    model, x, _ = gaussian(60, TIMES["uniform"])
    errors = []
    for seed in range(50):
        summary = BoundSummary(2, TERMS, independent=True)
        summary.update(BoundEvaluation(2, seed)(model, Batch(x, torch.arange(60))))
        errors.append(summary.compute()["bits_per_dim"].mc_se)
    assert max(errors) < 3 * min(errors)
