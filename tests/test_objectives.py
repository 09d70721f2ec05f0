"""Laws of every objective, found from the configs."""

import pytest
import torch
from torch import nn

from support.catalogue import concrete, options, part
from support.oracles import gaussian_denoiser
from vdm.batch import Batch
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.gamma import snr
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.objectives import (
    EDMObjective,
    ElboObjective,
    MinSNRObjective,
    Objective,
    P2Objective,
    SigmoidObjective,
    SimpleObjective,
)
from vdm.parameterisations import Prediction
from vdm.schedules import CosineSchedule, LinearSchedule, MonotoneSchedule

ENDS = (-8.0, 5.0)
SCHEDULE = CosineSchedule(*ENDS)


def build(name):
    return part("model.objective", f"objective={name}", f"gamma_min={ENDS[0]}", f"gamma_max={ENDS[1]}")


class Targets(nn.Module):
    """The network that makes a parameterisation predict what ``denoise`` does."""

    def __init__(self, denoise, parameterisation):
        super().__init__()
        self.denoise, self.parameterisation = denoise, parameterisation

    def forward(self, x_t, gamma_t, condition):
        x_t = x_t / self.parameterisation.network_input(torch.ones_like(x_t), gamma_t)  # which one of them scales
        return self.parameterisation.target(*self.denoise(x_t, gamma_t), gamma_t)


def model(objective=None, denoiser=None, time=None, schedule=SCHEDULE):
    denoiser = denoiser or gaussian_denoiser(0.1, 0.25)
    return VDM(schedule, denoiser, CategoricalLikelihood(17), time or ContinuousTime(), objective=objective)


def batch(n=64):
    x = torch.randint(17, (n, 5), generator=torch.Generator().manual_seed(0))
    return Batch(x.double(), torch.arange(n))


def test_every_objective_has_a_yaml():
    assert {type(build(name)) for name in options("objective")} == concrete(Objective)


@pytest.mark.parametrize("name", options("objective"))
class TestEveryObjective:
    def test_weight_is_finite_and_not_negative(self, name):
        gamma = torch.linspace(-15, 12, 501, dtype=torch.float64)
        weight = build(name).weight(gamma)
        assert weight.shape == gamma.shape
        assert torch.isfinite(weight).all()
        assert (weight >= 0).all()
        assert (weight > 0).any()

    def test_one_value_a_dimension(self, name):
        gamma = torch.linspace(-9, 6, 24, dtype=torch.float64)
        objective = build(name)
        assert torch.equal(objective.weight(gamma.view(4, 2, 3)).flatten(), objective.weight(gamma))

    @pytest.mark.parametrize("time", [ContinuousTime(), DiscreteTime(9)], ids=["continuous", "discrete"])
    def test_same_loss_for_every_parameterisation(self, name, time):
        """One function in every parameterisation, under the same draws; x̂_0 within the levels, as one of them needs."""

        def denoise(x_t, gamma_t):
            x_0 = gaussian_denoiser(0.1, 0.25)(x_t, gamma_t).x_0
            return Prediction.from_x_0(x_0.clamp(-0.9, 0.9), x_t, gamma_t)

        losses = []
        for parameterisation in options("parameterisation"):
            meaning = part("model.denoiser.parameterisation", f"parameterisation={parameterisation}")
            denoiser = Denoiser(Targets(denoise, meaning), meaning)
            losses.append(model(build(name), denoiser, time).loss(batch(), Draws(3)).value)
        for loss in losses:
            assert torch.allclose(loss, losses[0], rtol=1e-8)

    def test_reports_the_bound(self, name):
        found = model(build(name)).loss(batch(), Draws(3)).bound
        assert torch.equal(found.total, model().elbo(batch().x, Draws(3)).total)


def test_elbo_loss_is_the_bound():
    loss = model(ElboObjective()).loss(batch(), Draws(3))
    assert torch.allclose(loss.value, -loss.bound.total / loss.bound.dims)


def denoising_part(objective, schedule=SCHEDULE):
    loss = model(objective, schedule=schedule).loss(batch(), Draws(3))
    return loss.value * loss.bound.dims + loss.bound.reconstruction - loss.bound.prior_matching


def noise_error(schedule=SCHEDULE):
    """‖ε − ε̂‖² of the same draws, and γ_t."""
    u = Draws(3).uniform("t", batch().x)
    x_0 = CategoricalLikelihood(17).encode(batch().x)
    eps, gamma = Draws(3).normal("x_t", x_0), schedule(u)
    x_t = torch.sigmoid(-gamma).sqrt()[:, None] * x_0 + torch.sigmoid(gamma).sqrt()[:, None] * eps
    return (eps - gaussian_denoiser(0.1, 0.25)(x_t, gamma).eps).square().sum(1), gamma


def test_simple_under_its_own_schedule_is_the_plain_error():
    """With the model's schedule for the reference: ½ ‖ε − ε̂‖², and its published relatives."""
    error, gamma = noise_error()
    ratio = snr(gamma)
    published = {
        SimpleObjective(SCHEDULE): torch.ones_like(gamma),
        MinSNRObjective(SCHEDULE, cap=5.0): ratio.clamp(max=5) / ratio,
        P2Objective(SCHEDULE, k=1.0, power=0.5): 1 / (1 + ratio).sqrt(),
    }
    for objective, weight in published.items():
        assert torch.allclose(denoising_part(objective), 0.5 * weight * error, rtol=1e-7)


def test_simple_depends_on_the_reference_only():
    """The same integral over γ along another schedule: E over t of γ′(t) w(γ_t) h(γ_t) is the reference's E h."""
    t = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    linear, objective = LinearSchedule(*ENDS), SimpleObjective(SCHEDULE)
    along_linear = (linear.rate(t) * objective.weight(linear(t)) * torch.sigmoid(linear(t))).mean()
    assert abs(along_linear - torch.sigmoid(SCHEDULE(t)).mean()) < 1e-5


def test_edm_matches_the_published_loss():
    """∫ w ‖ε − ε̂‖² dγ = E over log σ̃ ~ N(−1.2, 1.2²) of (σ̃² + s²)/(σ̃ s)² ‖x̂_0 − x_0‖², for ‖x̂_0 − x_0‖² = σ̃²/(1 + σ̃²)."""
    s, gamma = 0.5, torch.linspace(-20, 15, 200_001, dtype=torch.float64)
    weight = EDMObjective(s).weight(gamma)
    error = torch.sigmoid(-gamma)
    found = torch.trapezoid(weight * error, gamma)
    log_sigma = torch.linspace(-12, 10, 200_001, dtype=torch.float64)
    sigma2 = (2 * log_sigma).exp()
    density = torch.distributions.Normal(-1.2, 1.2).log_prob(log_sigma).exp()
    published = torch.trapezoid(density * (sigma2 + s**2) / (sigma2 * s**2) * sigma2 / (1 + sigma2), log_sigma)
    assert abs(found - published) < 1e-6 * published


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_settings_are_refused(value):
    reference = LinearSchedule(*ENDS)
    for make in (
        lambda: EDMObjective(0.5, mean=value),
        lambda: EDMObjective(0.5, std=value),
        lambda: P2Objective(reference, power=value),
        lambda: SigmoidObjective(bias=value),
    ):
        with pytest.raises(InvalidInput, match=r"must be (a finite number|positive)"):
            make()


def test_learned_reference_is_refused():
    with pytest.raises(InvalidInput, match="must be fixed"):
        SimpleObjective(MonotoneSchedule(*ENDS))
