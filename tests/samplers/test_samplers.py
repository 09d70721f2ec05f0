"""Samplers against exact answers: affine maps, orders of convergence, training points, mixtures."""

from itertools import pairwise

import pytest
import torch

from support.catalogue import concrete, options, part
from support.given_draws import GivenDraws
from support.oracles import Mixture, gaussian_denoiser, training_set_denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.gamma import alpha_bar, sigma2
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.parameterisations import Prediction
from vdm.samplers import (
    AncestralSampler,
    DDIMSampler,
    DPMSolverSampler,
    GammaSpacing,
    HeunSampler,
    Sampler,
    Sampling,
    TimeSpacing,
    trajectory,
)
from vdm.schedules import CosineSchedule, LinearSchedule, time_of

LINEAR, COSINE = LinearSchedule(-6.0, 5.0), CosineSchedule(-6.0, 5.0)


def draw(sampler, denoise, x_T, steps, schedule=LINEAR, spacing=None, seed=0):
    """The last latent, x_1."""
    sampling = Sampling(sampler, spacing or TimeSpacing(), steps)
    *_, last = trajectory(sampling, schedule, denoise, x_T, Draws(seed))
    return last.x_t


def sampler(name):
    return part("model.sampling.sampler", f"sampler={name}")


def test_every_sampler_has_a_yaml():
    assert {type(sampler(name)) for name in options("sampler")} == concrete(Sampler)


@pytest.mark.parametrize("spacing", options("spacing"))
@pytest.mark.parametrize(("rule", "order"), [(DDIMSampler(), 1), (HeunSampler(), 2), (DPMSolverSampler(), 2)])
def test_order_of_convergence(rule, order, spacing):
    """On N(0, ¼) the ODE carries x_T to x_T √(v(γ_min)/v(γ_max)), with v = ᾱ s² + 1 − ᾱ the variance of x_t."""
    x_T = torch.tensor([[1.0], [-0.3]], dtype=torch.float64)
    ends = torch.tensor([-6.0, 5.0], dtype=torch.float64)
    variance = alpha_bar(ends) / 4 + sigma2(ends)
    exact = x_T * (variance[0] / variance[1]).sqrt()
    grid = part("model.sampling.spacing", f"spacing={spacing}")
    steps = (80, 160, 320)
    for schedule in (LINEAR, COSINE):
        errors = [(draw(rule, gaussian_denoiser(0.0, 0.25), x_T, n, schedule, grid) - exact).abs().max() for n in steps]
        for coarse, fine in pairwise(errors):
            assert abs(torch.log2(coarse / fine) - order) < 0.2


def test_ddim_at_eta_one_is_ancestral_path_by_path():
    x_T = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoise = Mixture(torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0] * 3, [0.5] * 3]).double(), 0.04).denoiser
    ancestral, ddim = (draw(rule, denoise, x_T, 20, COSINE) for rule in (AncestralSampler(), DDIMSampler(eta=1.0)))
    assert torch.allclose(ancestral, ddim, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_keeps_the_marginals_of_the_exact_posterior(eta):
    """With the true x_0 for x̂_0, every η carries q(x_t | x_0) to q(x_s | x_0): mean √ᾱ_s x_0, variance 1 − ᾱ_s."""
    gamma_s, gamma_t = torch.tensor([-1.0]).double(), torch.tensor([0.5]).double()
    x_0 = torch.tensor([[0.7]]).double()

    def x_s(z, eps):
        x_t = alpha_bar(gamma_t).sqrt() * x_0 + sigma2(gamma_t).sqrt() * eps
        sampling, draws = Sampling(DDIMSampler(eta), TimeSpacing(), 1), GivenDraws({"step_1": torch.full_like(x_0, z)})
        *_, last = trajectory(sampling, LinearSchedule(-1.0, 0.5), lambda *_: Prediction(x_0, eps), x_t, draws)
        return last.x_t

    zero = torch.zeros_like(x_0)
    mean = x_s(0.0, zero)
    assert torch.allclose(mean, alpha_bar(gamma_s).sqrt() * x_0)
    variance = (x_s(1.0, zero) - mean).square() + (x_s(0.0, zero + 1) - mean).square()
    assert torch.allclose(variance, sigma2(gamma_s))


def moments_of_gaussian(rule, steps, schedule):
    """Mean and variance of x_1 over x_T ~ N(0, I) and the steps' noise, on N(m, s²): exact, by the chain's affine maps."""
    m, s2 = 0.3, 0.25
    denoise = gaussian_denoiser(m, s2)
    names = ["prior", *(f"step_{i}" for i in range(1, steps + 1))]

    one_each = torch.cat([torch.zeros(1, len(names)), torch.eye(len(names))]).double()
    draws = GivenDraws({name: column[:, None] for name, column in zip(names, one_each.T, strict=True)})
    *_, last = trajectory(Sampling(rule, TimeSpacing(), steps), schedule, denoise, draws.tensors["prior"], draws)
    mean, *moved = last.x_t[:, 0]
    return mean, sum((x - mean) ** 2 for x in moved)


@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_ancestral_moments_on_a_gaussian(schedule):
    """The exact moments of the chain after n steps approach those of q(x_1), at order one or better."""
    gamma_1 = torch.tensor(-6.0).double()
    mean, variance = alpha_bar(gamma_1).sqrt() * 0.3, alpha_bar(gamma_1) * 0.25 + sigma2(gamma_1)
    errors = []
    for steps in (40, 80, 160):
        chain = moments_of_gaussian(AncestralSampler(), steps, schedule)
        errors.append((abs(chain[0] - mean), abs(chain[1] - variance)))
    assert errors[-1][0] < 0.02
    assert errors[-1][1] < 0.01
    for coarse, fine in pairwise(errors):
        assert fine[1] < 0.65 * coarse[1]


@pytest.mark.parametrize("name", options("sampler"))
def test_samplers_return_training_points(name):
    """With the ideal denoiser of a finite set, every sample is a training point up to the noise of γ_min."""
    points = torch.tensor([[-0.9, 0.2], [0.1, -0.7], [0.8, 0.8]]).double()
    schedule = LinearSchedule(-13.3, 5.0)
    x_T = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x_1 = draw(sampler(name), training_set_denoiser(points), x_T, 100, schedule)
    distance, nearest = torch.cdist(x_1, points).min(1)
    noise = sigma2(torch.tensor(-13.3).double()).sqrt().item()
    assert distance.max() < 5 * noise
    assert set(nearest.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("name", options("sampler"))
def test_samplers_recover_a_mixture(name):
    """Weights, means and widths of ⅓ N(−1, 0.04) + ⅔ N(½, 0.04), within four standard errors and the grid's bias."""
    mixture = Mixture(torch.tensor([1 / 3, 2 / 3]).double(), torch.tensor([[-1.0], [0.5]]).double(), 0.04)
    n = 4000
    x_T = torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x_1 = draw(sampler(name), mixture.denoiser, x_T, 200, LinearSchedule(-10.0, 6.0))[:, 0]
    right = x_1 > -0.25
    assert abs(right.double().mean() - 2 / 3) < 4 * (2 / 9 / n) ** 0.5 + 0.002
    for side, mean in ((x_1[~right], -1.0), (x_1[right], 0.5)):
        assert abs(side.mean() - mean) < 4 * 0.2 / len(side) ** 0.5 + 0.002
        assert abs(side.std() - 0.2) < 4 * 0.2 / (2 * len(side)) ** 0.5 + 0.004


@pytest.mark.parametrize("name", options("schedule"))
def test_spacings_run_from_one_to_zero(name):
    schedule = part("model.schedule", f"schedule={name}").double()
    cpu = torch.device("cpu")
    for spacing in options("spacing"):
        times = part("model.sampling.spacing", f"spacing={spacing}").times(schedule, 7, cpu)
        assert times[0] == 1
        assert times[-1] == 0
        assert (times.diff() < 0).all()
    gamma = schedule(GammaSpacing().times(schedule, 7, cpu)).detach().flatten(1 if schedule.per_dimension else 0)
    steps = (gamma.mean(1) if gamma.ndim == 2 else gamma).diff()
    assert torch.allclose(steps, steps.mean(), rtol=1e-9)


@pytest.mark.parametrize("name", options("schedule"))
def test_time_of_inverts_every_schedule(name):
    schedule = part("model.schedule", f"schedule={name}").double()
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    gamma = schedule(t).detach()
    again = time_of(schedule, gamma if gamma.ndim == 1 else gamma.flatten(1).mean(1))
    assert torch.allclose(again, t, rtol=0, atol=1e-12)


class TestModel:
    def model(self, time, **settings):
        return VDM(LINEAR, gaussian_denoiser(0.0, 0.25), GaussianLikelihood(), time, **settings)

    def test_default_steps(self):
        assert len(list(self.model(DiscreteTime(8)).trajectory(2, (1,)))) == 8
        assert len(list(self.model(ContinuousTime()).trajectory(2, (1,)))) == 251
        own = Sampling(HeunSampler(), GammaSpacing(), 5)
        assert len(list(self.model(ContinuousTime(), sampling=own).trajectory(2, (1,)))) == 6

    def test_call_overrides_the_models_sampling(self):
        model = self.model(ContinuousTime(), sampling=Sampling(AncestralSampler(), steps=3))
        chosen = model.sample(4, (1,), sampler=HeunSampler(), steps=5, spacing=GammaSpacing(), draws=Draws(0))
        own = self.model(ContinuousTime(), sampling=Sampling(HeunSampler(), GammaSpacing(), 5))
        assert torch.equal(chosen, own.sample(4, (1,), draws=Draws(0)))

    def test_refuses_no_steps(self):
        with pytest.raises(InvalidInput, match="steps must be at least 1, got 0"):
            self.model(ContinuousTime()).sample(2, (1,), steps=0)

    def test_refuses_eta(self):
        with pytest.raises(InvalidInput, match=r"eta must be in \[0, 1\], got 2"):
            DDIMSampler(eta=2)


def test_deterministic_samplers_draw_no_noise():
    for rule in (DDIMSampler(), HeunSampler(), DPMSolverSampler()):
        sampling = Sampling(rule, TimeSpacing(), 3)
        latents = trajectory(sampling, LINEAR, gaussian_denoiser(0.0, 1.0), torch.ones(1, 1), GivenDraws({}))
        assert len(list(latents)) == 4
