"""Laws of every parameterisation, found from the configs."""

import math

import pytest
import torch

from catalogue import options, part
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, noised
from vdm.gamma import align, alpha_bar, sigma2
from vdm.levels import level_to_real
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.parameterisations import (
    LevelPreconditionedParameterisation,
    NoiseParameterisation,
    PreconditionedParameterisation,
    Prediction,
    VelocityParameterisation,
)
from vdm.schedules import LinearSchedule

GAMMA = torch.tensor([-13.3, -9.0, -4.0, 0.0, 2.0, 5.0, 12.0], dtype=torch.float64)
NAMES = options("parameterisation")


def build(name):
    return part("model.denoiser.parameterisation", f"parameterisation={name}")


def pair(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(len(GAMMA), 2, 3, dtype=dtype, generator=generator) * 2 - 1
    return x_0, torch.randn(x_0.shape, dtype=dtype, generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_prediction_from_the_target_is_exact(name):
    x_0, eps = pair()
    parameterisation = build(name)
    prediction = parameterisation.predict(parameterisation.target(x_0, eps, GAMMA), noised(x_0, eps, GAMMA), GAMMA)
    assert torch.allclose(prediction.x_0, x_0, atol=1e-8)
    assert torch.allclose(prediction.eps, eps, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_prediction_is_consistent_for_any_output(name):
    """√ᾱ x̂_0 + σ ε̂ = x_t whatever the network says."""
    x_0, eps = pair()
    x_t = noised(x_0, eps, GAMMA)
    x_hat, eps_hat = build(name).predict(torch.sin(7 * x_t), x_t, GAMMA)
    again = align(alpha_bar(GAMMA).sqrt(), x_t) * x_hat + align(sigma2(GAMMA).sqrt(), x_t) * eps_hat
    assert torch.allclose(again, x_t, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_one_function_has_one_bound(name):
    """The same denoising function, spoken in each parameterisation, has the same ELBO under the same draws."""

    def teacher(x_t, gamma):
        return Prediction.from_x_0(torch.tanh(x_t) * 0.9, x_t, gamma)

    parameterisation = build(name)

    def network(x_t, gamma, condition):
        x_0, eps = teacher(x_t, gamma)
        return parameterisation.target(x_0, eps, gamma)

    x = (torch.arange(24).view(4, 1, 2, 3) % 17).double()
    schedule, likelihood = LinearSchedule(-8.0, 5.0), CategoricalLikelihood(17)
    totals = [
        VDM(schedule, denoiser, likelihood, ContinuousTime()).elbo(x, Draws(seed=3)).total
        for denoiser in (teacher, Denoiser(network, parameterisation))
    ]
    assert torch.allclose(*totals, rtol=1e-9)


def test_unit_variance_data_is_preconditioned_by_minus_the_velocity():
    x_0, eps = pair()
    velocity = VelocityParameterisation().target(x_0, eps, GAMMA)
    assert torch.allclose(PreconditionedParameterisation(1.0).target(x_0, eps, GAMMA), -velocity, atol=1e-12)


def test_preconditioned_target_has_unit_variance_at_every_noise_level():
    s, n = 0.3, 200_000
    generator = torch.Generator().manual_seed(0)
    for gamma in GAMMA:
        x_0 = s * torch.randn(n, 1, dtype=torch.float64, generator=generator)
        eps = torch.randn(n, 1, dtype=torch.float64, generator=generator)
        variance = PreconditionedParameterisation(s).target(x_0, eps, gamma.expand(n)).var()
        assert abs(variance - 1) < 4 * (2 / n) ** 0.5


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_level_preconditioned_target_has_about_unit_variance(levels):
    """Where pixels can be mistaken at all; and the target is nothing where x_t gives them away."""
    parameterisation = LevelPreconditionedParameterisation(levels)
    generator = torch.Generator().manual_seed(0)
    n = 20_000
    x_0 = level_to_real(torch.randint(0, levels, (n, 1), generator=generator).double(), levels)
    eps = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    edge = 2 * math.log(1 / levels)  # σ = 1/K, half the distance between levels
    for gamma in (edge, edge + 2, 0.0, 5.0):
        variance = parameterisation.target(x_0, eps, torch.full((n,), gamma, dtype=torch.float64)).square().mean()
        assert 0.8 < variance < 1.25, gamma
    assert parameterisation.target(x_0, eps, torch.full((n,), edge - 5, dtype=torch.float64)).abs().max() < 1e-3


def test_level_preconditioning_knows_the_levels():
    """With no network at all (y = 0) fine noise costs nothing, where the linear preconditioning pays in full."""
    x = torch.randint(0, 17, (400, 1, 4, 4), generator=torch.Generator().manual_seed(0))

    def silent(x_t, gamma, condition):
        return torch.zeros_like(x_t)

    def cost(parameterisation):
        vdm = VDM(
            LinearSchedule(-12.0, -8.0), Denoiser(silent, parameterisation), CategoricalLikelihood(17), ContinuousTime()
        )
        return vdm.elbo(x, Draws(seed=1)).denoising_matching.mean() / 16

    assert cost(LevelPreconditionedParameterisation(17)) < 0.01
    assert cost(PreconditionedParameterisation(0.7)) == pytest.approx(0.5 * 4, rel=0.05)


def test_output_errors_cost_little_at_high_snr():
    """float32: the SNR-weighted error that rounding an exact output leaves at γ = −13.3, per dimension.

    Emitting x_0 itself pays SNR · (rounding)²; a preconditioned or noise output does not feel it.
    """
    x_0, eps = pair()
    gamma = torch.full((len(x_0),), -13.3, dtype=torch.float64)
    x_t = noised(x_0, eps, gamma)

    def cost(parameterisation):
        y = parameterisation.target(x_0, eps, gamma).bfloat16().double()
        return (0.5 * torch.exp(-gamma[0]) * (parameterisation.predict(y, x_t, gamma).x_0 - x_0).square()).mean()

    careful = max(cost(PreconditionedParameterisation(0.5)), cost(NoiseParameterisation()))
    assert cost(build("data")) > 1000 * careful
