"""Reverse variances: the KL's second term, the optimum on Gaussian data, and what needs discrete time."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

from support.given_draws import GivenDraws
from support.oracles import GaussianData
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime, denoising_kl
from vdm.errors import InvalidInput
from vdm.gamma import snr_difference
from vdm.likelihoods import DenoisedGaussianLikelihood, GaussianLikelihood, PosteriorVariance
from vdm.models import VDM
from vdm.objectives import HybridObjective, SimpleObjective
from vdm.parameterisations import LearnedVarianceParameterisation, NoiseParameterisation, VariedPrediction
from vdm.process import FORWARD, ForwardProcess, widened
from vdm.reverse_variance import (
    LargeReverseVariance,
    OptimalReverseVariance,
    PosteriorReverseVariance,
    VarianceDenoiser,
)
from vdm.schedules import CosineSchedule, LinearSchedule

DATA = GaussianData.isotropic(0.3, 0.25, (2, 3))


def gaussian_model(timesteps, variance=None, gamma_max=40.0, mean=DATA):
    """The ideal denoiser with the optimal decoder, and the optimal reverse variance unless another is given."""
    schedule, time = LinearSchedule(-4.0, gamma_max), DiscreteTime(timesteps)
    gammas = torch.stack(time.gammas(schedule, torch.zeros(1))).flatten()
    if variance is None:
        variance = OptimalReverseVariance(gammas.tolist(), (mean.error(gammas) / mean.dims).tolist())
    likelihood = DenoisedGaussianLikelihood(PosteriorVariance(float(mean.variance.flatten()[0]) ** 0.5))
    return VDM(schedule, VarianceDenoiser(mean.denoiser, variance), likelihood, time), gammas


@pytest.mark.parametrize("shape", [(4,), (4, 2, 3)])
def test_denoising_kl_is_that_of_the_two_kernels(shape):
    draw = torch.Generator().manual_seed(0)
    x_0, x_hat, x_t = (torch.randn(4, 2, 3, dtype=torch.float64, generator=draw) for _ in range(3))
    ratio = torch.randn(shape, dtype=torch.float64, generator=draw)
    s, t = torch.tensor([-9.0, -2.0, 0.0, 3.0]).double(), torch.tensor([-8.9, 0.0, 1.0, 9.0]).double()
    reverse = widened(FORWARD.reverse(x_hat, x_t, s, t), ratio)
    exact = kl_divergence(ForwardProcess().posterior(x_0, x_t, s, t), reverse)
    assert torch.allclose(denoising_kl(x_0, x_hat, s, t, ratio), exact, rtol=1e-8)
    assert torch.allclose(denoising_kl(x_0, x_hat, s, t, 0 * ratio), denoising_kl(x_0, x_hat, s, t), rtol=1e-12)


def test_large_variance_is_that_of_the_forward_step():
    s, t, x = torch.tensor([-3.0, 1.0]).double(), torch.tensor([-2.0, 5.0]).double(), torch.zeros(2, 1).double()
    kernel = widened(FORWARD.reverse(x, x, s, t), LargeReverseVariance().log_ratio(s, t))
    assert torch.allclose(kernel.variance, ForwardProcess().transition(x, s, t).variance)


@pytest.mark.parametrize("timesteps", [2, 3, 20])
def test_optimal_variance_makes_gaussian_chains_exact(timesteps):
    """Each reverse kernel is q(x_s | x_t) over the data, so that every trajectory's weight is p(x) itself, at any T."""
    model, _ = gaussian_model(timesteps)
    x = DATA.sample(5)
    assert torch.allclose(model.log_weight(x, Draws(1)), DATA.log_prob(x), rtol=1e-9)
    assert torch.allclose(model.as_mhvae().log_weight(x, Draws(2)), DATA.log_prob(x), rtol=1e-9)


@pytest.mark.parametrize("timesteps", [2, 3, 20])
def test_bound_of_gaussian_data_has_its_closed_form(timesteps):
    """E KL = ½ D log(1 + ΔSNR e) a step with the optimal variance; the posterior's costs ½ D ΔSNR e, which is more."""
    model, gammas = gaussian_model(timesteps, gamma_max=3.0)
    matching = 0.5 * DATA.dims * torch.log1p(snr_difference(gammas[:-1], gammas[1:]) * DATA.error(gammas[1:]) / DATA.dims)
    x = DATA.sample(4000, seed=1)
    bound = model.elbo_all_times(x, Draws(0))
    found, exact = bound.denoising_matching, matching.sum()
    assert abs(found.mean() - exact) < 4 * found.std() / len(x) ** 0.5
    whole = bound.total
    optimum = DATA.expected_log_prob - float(
        kl_divergence(marginal(gammas[-1]), torch.distributions.Normal(0.0, 1.0).expand((2, 3))).sum()
    )
    assert abs(whole.mean() - optimum) < 4 * whole.std() / len(x) ** 0.5
    assert exact < DATA.denoising_matching(gammas)


def marginal(gamma):
    signal2, noise2 = torch.sigmoid(-gamma), torch.sigmoid(gamma)
    return torch.distributions.Normal(signal2.sqrt() * DATA.mean, (signal2 * DATA.variance + noise2).sqrt())


def test_optimal_variance_beats_its_neighbours():
    s, t = torch.tensor([-2.0]).double(), torch.tensor([1.0]).double()
    error, dims = DATA.error(t) / DATA.dims, DATA.dims
    best = OptimalReverseVariance([1.0], error.tolist()).log_ratio(s, t)

    def cost(ratio):
        return 0.5 * dims * (ratio + torch.expm1(-ratio) + torch.exp(-ratio) * snr_difference(s, t) * error)

    assert cost(best) < min(
        cost(best + 0.01), cost(best - 0.01), cost(torch.zeros(1)), cost(LargeReverseVariance().log_ratio(s, t))
    )


def test_posterior_variance_changes_nothing():
    plain = VDM(LinearSchedule(-4.0, 5.0), DATA.denoiser, GaussianLikelihood(), DiscreteTime(9))
    varied = VDM(
        plain.schedule, VarianceDenoiser(DATA.denoiser, PosteriorReverseVariance()), GaussianLikelihood(), DiscreteTime(9)
    )
    x = DATA.sample(6)
    for method in ("elbo", "elbo_all_times", "consistency_elbo"):
        one, two = (getattr(model, method)(x, Draws(3)).total for model in (plain, varied))
        assert torch.allclose(one, two, rtol=1e-12)
    assert torch.allclose(plain.sample(3, (2, 3), draws=Draws(1)), varied.sample(3, (2, 3), draws=Draws(1)))


def test_measured_errors_are_those_of_the_denoiser():
    schedule, time = LinearSchedule(-4.0, 4.0), DiscreteTime(5)
    x = DATA.sample(5000)
    measured = OptimalReverseVariance.measured(DATA.denoiser, time.gammas(schedule, x), x, Draws(0))
    exact = DATA.error(measured.gammas) / DATA.dims
    assert torch.allclose(measured.errors, exact, rtol=4 * (2 / (6 * 5000)) ** 0.5)


def test_sampling_uses_the_reverse_variance():
    """Ancestral sampling of the exact chain has the data's own variance after three steps."""
    model, _ = gaussian_model(4)
    x = model.sample(40_000, (2, 3), draws=Draws(0)).double()
    assert abs(x.var().item() - 0.25) < 5 * 0.25 * (2 / x.numel()) ** 0.5


class Tabled(torch.nn.Module):
    """Two outputs that depend on x_t and γ."""

    outputs = 2

    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([0.3, -0.4], dtype=torch.float64))

    def forward(self, x, gamma, condition):
        level = torch.tanh(gamma).view(-1, 1, 1)
        return torch.stack([self.weights[0] * x + level, torch.sin(3 * x + level) + self.weights[1]], -1)


def learned_model(timesteps, objective=None):
    denoiser = Denoiser(Tabled(), LearnedVarianceParameterisation(NoiseParameterisation()))
    schedule = LinearSchedule(-5.0, 5.0)
    return VDM(schedule, denoiser, GaussianLikelihood(), DiscreteTime(timesteps), objective=objective)


def test_learned_variance_agrees_with_an_independent_sum():
    """Each term of improved-diffusion's bound, from β and ᾱ alone."""
    T, x = 12, DATA.sample(3)
    model = learned_model(T)
    bound = model.elbo_all_times(x, Draws(7))
    gammas = [-5.0 + 10.0 * i / (T - 1) for i in range(T)]
    bars = [1 / (1 + math.exp(gamma)) for gamma in gammas]
    for t in range(1, T):
        beta, bar, before = 1 - bars[t] / bars[t - 1], bars[t], bars[t - 1]
        eps = Draws(7).normal(f"x_{t + 1}", x)
        x_t = bar**0.5 * x + (1 - bar) ** 0.5 * eps
        mean, v = model.denoiser.network(x_t, torch.full((3,), gammas[t], dtype=torch.float64), None).detach().unbind(-1)
        x_hat = (x_t - (1 - bar) ** 0.5 * mean) / bar**0.5
        first, second = before**0.5 * beta / (1 - bar), (1 - beta) ** 0.5 * (1 - before) / (1 - bar)
        small = beta * (1 - before) / (1 - bar)
        log_variance = (v + 1) / 2 * math.log(beta) + (1 - v) / 2 * math.log(small)
        distance = (first * (x - x_hat)) ** 2
        kl = 0.5 * (log_variance - math.log(small) - 1 + (small + distance) * torch.exp(-log_variance))
        assert torch.allclose(bound.matching[:, t - 1], kl.flatten(1).sum(1), rtol=1e-10)
        u = torch.full((3,), (t - 0.5) / (T - 1), dtype=torch.float64)
        one = model.elbo(x, GivenDraws({"t": u, "x_t": eps, "x_1": eps}))
        assert torch.allclose(one.denoising_matching, (T - 1) * bound.matching[:, t - 1], rtol=1e-10)
    assert second > 0


def test_consistency_form_has_the_same_mean():
    model, x = learned_model(5), DATA.sample(1).repeat(20_000, 1, 1)
    one, two = model.elbo_all_times(x, Draws(1), rows=10**5).total, model.consistency_elbo(x, Draws(2)).total
    assert abs(one.mean() - two.mean()) < 4 * math.hypot(one.std(), two.std()) / len(x) ** 0.5


def test_hybrid_trains_the_variance_by_the_bound_alone():
    reference = CosineSchedule(-5.0, 5.0)
    draws = GivenDraws({"t": torch.tensor([0.2, 0.7]).double(), "x_t": DATA.sample(2), "x_1": DATA.sample(2)})
    x = DATA.sample(2, seed=5)

    def gradient(objective, scale=1.0):
        model = learned_model(9, objective)
        bound = model.elbo(x, draws)
        model.objective.loss(model._one_time(x, draws, model.given(x, draws))[1]).sum().backward()
        return bound, model.denoiser.network.weights.grad

    _, hybrid = gradient(HybridObjective(reference, share=0.01))
    _, whole = gradient(None)
    model = learned_model(9, SimpleObjective(reference))
    estimate = model._one_time(x, draws, model.given(x, draws))[1]
    estimate.squared_error(model.objective.weight(estimate.gamma_t)).sum().backward()
    simple = model.denoiser.network.weights.grad
    assert simple[1] == 0
    assert torch.allclose(hybrid, torch.stack([simple[0], 0.01 * whole[1]]), rtol=1e-9)


def test_reverse_variance_needs_discrete_time():
    model, _ = gaussian_model(4)
    for refused in (lambda: model.at(ContinuousTime()), lambda: learned_model(4).at(ContinuousTime())):
        with pytest.raises(InvalidInput, match="needs discrete time"):
            refused()
    varied = lambda x, gamma: VariedPrediction.of(DATA.denoiser(x, gamma), LargeReverseVariance().log_ratio)  # noqa: E731
    with pytest.raises(InvalidInput, match="needs discrete time"):
        VDM(LinearSchedule(-5.0, 5.0), varied, GaussianLikelihood(), ContinuousTime()).elbo(DATA.sample(2))


@pytest.mark.parametrize(("gammas", "errors"), [([], []), ([1.0, 0.0], [1.0, 1.0]), ([1.0], [0.0]), ([1.0], [1.0, 2.0])])
def test_optimal_variance_refuses_other_tables(gammas, errors):
    with pytest.raises(InvalidInput, match="measure both again"):
        OptimalReverseVariance(gammas, errors)
