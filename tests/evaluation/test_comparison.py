"""Differences between results: coverage of the intervals on models whose true difference is known."""

import math

import numpy as np
import pytest
import torch

from support.oracles import GaussianData, Mixture
from vdm.draws import Draws, StackedDraws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.evaluation.comparison import (
    band_edges,
    by_band,
    difference,
    difference_of_means,
    holm,
    simultaneous,
    t_quantile,
)
from vdm.gamma import align, snr, snr_difference
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.parameterisations import Prediction
from vdm.schedules import CosineSchedule, LinearSchedule
from vdm.times import StratifiedTimes

TRIALS = 300
ENDS = (-4.0, 5.0)
STEPS = 20
"""Latents of model B; a short chain has a much worse bound."""

GAUSSIAN = GaussianData.isotropic(0.0, 0.25, (1,))
MIXTURE = Mixture(torch.tensor([0.4, 0.6], dtype=torch.float64), torch.tensor([[-1.0], [0.7]], dtype=torch.float64), 0.04)
A_TIME, B_TIME = ContinuousTime(), DiscreteTime(STEPS)


def shifted(denoise, shifts):
    """The denoiser of a batch in equal blocks: block s has x̂_0 off by shifts[s]."""

    def call(x_t, gamma_t):
        x_hat = denoise(x_t, gamma_t).x_0 + align(shifts.repeat_interleave(len(x_t) // len(shifts)), x_t)
        return Prediction.from_x_0(x_hat, x_t, gamma_t)

    return call


def evaluate(data, time, schedule, x, seed, repeats, shifts):
    """Return the bound (S, n, R) in bits/dim of S models that differ by their shift."""
    denoise = shifted(data.denoiser, shifts.repeat(repeats))
    model = VDM(schedule, denoise, GaussianLikelihood(), time, StratifiedTimes())
    draws = StackedDraws([Draws(seed, r) for r in range(repeats) for _ in shifts])
    with torch.no_grad():
        bits = model.elbo(x.repeat(len(shifts) * repeats, 1), draws).bits_per_dim
    return bits.view(repeats, len(shifts), len(x)).permute(1, 2, 0).numpy()


def mean_error(data, gamma):
    """E ‖x̂_0(x_t) − x_0‖² at each γ (N,) for one-dimensional data with their ideal denoiser, by quadrature over x_t."""
    if isinstance(data, GaussianData):
        return data.error(gamma)
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]
    second = float((data.weights * (data.means[:, 0].square() + data.variance)).sum())
    errors = []
    for each in gamma:
        level = each.expand(len(grid))
        density = data.smoothed_log_prob(grid, level).exp()
        predicted = data.denoiser(grid, level).x_0[:, 0]
        errors.append(second - torch.trapezoid(density * predicted.square(), grid[:, 0]))
    return torch.stack(errors)


def matching(data, gammas):
    """The denoising term in nats over latents at ``gammas`` (T,)."""
    return float(0.5 * (snr_difference(gammas[:-1], gammas[1:]) * mean_error(data, gammas[1:])).sum())


def true_difference(data, schedules, shift2):
    """E [bound of A − bound of B] in bits/dim; both have the terms at the ends in common.

    A is in continuous time: its term is the mean of a fine chain's upper and lower sums. A shift adds ½ ΔSNR E shift².
    """
    fine = torch.linspace(*ENDS, 3001, dtype=torch.float64)
    weight, errors = snr_difference(fine[:-1], fine[1:]), mean_error(data, fine)
    continuous = float(0.25 * (weight * (errors[1:] + errors[:-1])).sum())
    chain = schedules[1](torch.linspace(0, 1, STEPS, dtype=torch.float64))
    ends = torch.tensor(ENDS, dtype=torch.float64)
    drop = float(snr(ends[0]) - snr(ends[1]))
    return (continuous - matching(data, chain) + 0.5 * drop * (shift2[0] - shift2[1])) / math.log(2)


@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("pairing", ["draws", "examples", "none"])
@pytest.mark.parametrize(
    "data", [pytest.param(GAUSSIAN, id="gaussian"), pytest.param(MIXTURE, id="mixture", marks=pytest.mark.slow)]
)
def test_intervals_cover_the_true_difference(data, pairing, seeds):
    """92 to 98 % of the 95 % intervals of 300 evaluations contain the difference of the models' expected bounds."""
    schedules, repeats = (LinearSchedule(*ENDS), CosineSchedule(*ENDS)), 10
    shift2 = (0.01, 0.005) if seeds > 1 else (0.0, 0.0)
    truth, stream = true_difference(data, schedules, shift2), torch.Generator().manual_seed(seeds)
    covered = 0
    for trial in range(TRIALS):
        x = data.sample(120, seed=trial)
        other = data.sample(100, seed=TRIALS + trial) if pairing == "none" else x
        draws = trial if pairing == "draws" else TRIALS + trial
        z = torch.randn(2, seeds, dtype=torch.float64, generator=stream).clamp(-3, 3)
        shifts = [(mean * (1 + 0.3 * row)).sqrt() for mean, row in zip(shift2, z, strict=True)]
        a = evaluate(data, A_TIME, schedules[0], x, trial, repeats, shifts[0])
        b = evaluate(data, B_TIME, schedules[1], other, draws, repeats, shifts[1])
        low, high = difference(a, b, pairing).interval()
        covered += low <= truth <= high
    assert 0.92 * TRIALS <= covered <= 0.98 * TRIALS


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_paired_difference_cancels_what_results_share():
    """A difficulty common to both, of examples and of draws, leaves no error."""
    common = 100 * values(1, 50, 9)
    found = difference(common + 0.25, common, "draws")
    assert found.value == pytest.approx(0.25)
    assert found.se == pytest.approx(0, abs=1e-12)
    assert difference(common + 0.25, common, "none").se > 1


def test_difference_is_antisymmetric():
    a, b = values(3, 40, 10), values(2, 40, 10, seed=1)
    one, other = difference(a, b, "draws"), difference(b, a, "draws")
    assert (one.value, one.se, one.df) == pytest.approx((-other.value, other.se, other.df))
    assert one.interval() == pytest.approx(tuple(-x for x in reversed(other.interval())))


def test_few_replicates_give_the_paired_t_interval():
    """Below eight replicates the interval is the paired t interval over examples."""
    a, b = values(1, 30, 2), values(1, 30, 2, seed=1)
    d = (a - b).mean((0, 2))
    found = difference(a, b, "draws")
    assert (found.value, found.se, found.df) == pytest.approx((d.mean(), d.std(ddof=1) / 30**0.5, 29))


def test_several_seeds_of_equal_examples_give_welch():
    """If examples and draws do not vary, the interval is Welch's over the seeds' means."""
    a, b = (np.broadcast_to(np.array(means)[:, None, None], (len(means), 20, 8)) for means in ((1.0, 2.0, 4.0), (0.0, 1.0)))
    found, parts = difference(a, b, "draws"), (np.var([1, 2, 4], ddof=1) / 3, 0.5 / 2)
    assert found.se**2 == pytest.approx(sum(parts))
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 1))


def test_one_example_has_no_interval():
    assert math.isnan(difference(values(1, 1, 2), values(1, 1, 2, seed=1), "draws").se)


def test_equal_results_have_no_difference():
    a = values(1, 20, 8)
    found = difference(a, a, "draws")
    assert (found.value, found.se, found.p, found.interval()) == (0, 0, 1, (0, 0))


def test_bands_add_up_to_the_denoising_term():
    matching, gammas = values(2, 7, 3), [values(2, 7, 3, seed=1), values(2, 7, 3, seed=2)]
    edges = band_edges(gammas, 5)
    assert by_band(matching, gammas[0], edges).sum(0) == pytest.approx(matching)
    assert (edges[0], edges[-1]) == (min(g.min() for g in gammas), max(g.max() for g in gammas))


def test_band_holds_the_draws_between_its_edges():
    parts = by_band(np.array([[[1.0, 2.0, 4.0]]]), np.array([[[0.5, 1.0, 9.0]]]), np.array([0.0, 1.0, 2.0]))
    assert parts.tolist() == [[[[1.0, 0.0, 0.0]]], [[[0.0, 2.0, 4.0]]]]


def test_difference_of_means_adds_the_squared_errors():
    found = difference_of_means(2.0, (0.3, 0.4))
    assert (found.value, found.se, found.df) == pytest.approx((2.0, 0.5, math.inf))


def test_holm_multiplies_the_smallest_by_their_number():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_simultaneous_intervals_are_bonferronis():
    assert simultaneous(1) == pytest.approx(0.95)
    assert simultaneous(5) == pytest.approx(0.99)


@pytest.mark.parametrize(("df", "quantile"), [(1, 12.706), (9, 2.262), (math.inf, 1.960)])
def test_t_quantile_is_the_tables(df, quantile):
    assert t_quantile(0.975, df) == pytest.approx(quantile, abs=5e-4)
