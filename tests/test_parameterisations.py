"""Laws of every parameterisation, found from the configs."""

import pytest
import torch

from support.catalogue import options, part
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, sigma2
from vdm.levels import level_centres, level_logits, level_to_real, real_to_level
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.networks import MLP
from vdm.parameterisations import (
    LevelPosteriorParameterisation,
    NoiseParameterisation,
    PreconditionedParameterisation,
    Prediction,
    RoundedParameterisation,
    VelocityParameterisation,
)
from vdm.process import q_sample
from vdm.schedules import LinearSchedule
from vdm.times import StratifiedTimes

GAMMA = torch.tensor([-13.3, -9.0, -4.0, 0.0, 2.0, 5.0, 12.0], dtype=torch.float64)
NAMES = options("parameterisation")


def build(name):
    return part("model.denoiser.parameterisation", f"parameterisation={name}")


def pair(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x_0 = (torch.rand(len(GAMMA), 2, 3, dtype=dtype, generator=generator) * 2 - 1) * 0.9  # within the levels
    return x_0, torch.randn(x_0.shape, dtype=dtype, generator=generator)


@pytest.mark.parametrize("name", NAMES)
def test_prediction_from_the_target_is_exact(name):
    x_0, eps = pair()
    parameterisation = build(name)
    prediction = parameterisation.predict(parameterisation.target(x_0, eps, GAMMA), q_sample(x_0, eps, GAMMA), GAMMA)
    assert torch.allclose(prediction.x_0, x_0, atol=1e-8)
    assert torch.allclose(prediction.eps, eps, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_prediction_is_consistent_for_any_output(name):
    """√ᾱ x̂_0 + σ ε̂ = x_t whatever the network says."""
    x_0, eps = pair()
    x_t = q_sample(x_0, eps, GAMMA)
    parameterisation = build(name)
    numbers = torch.arange(parameterisation.outputs).squeeze()
    y = torch.sin(7 * x_t[..., None] + numbers) if parameterisation.outputs > 1 else torch.sin(7 * x_t)
    x_hat, eps_hat = parameterisation.predict(y, x_t, GAMMA)
    again = align(alpha_bar(GAMMA).sqrt(), x_t) * x_hat + align(sigma2(GAMMA).sqrt(), x_t) * eps_hat
    assert torch.allclose(again, x_t, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_one_function_has_one_bound(name):
    """The same denoising function, spoken in each parameterisation, has the same ELBO under the same draws."""

    def teacher(x_t, gamma):
        return Prediction.from_x_0(torch.tanh(x_t) * 0.9, x_t, gamma)

    parameterisation = build(name)

    def network(seen, gamma, condition):
        x_t = seen / parameterisation.network_input(torch.ones_like(seen), gamma)
        x_0, eps = teacher(x_t, gamma)
        return parameterisation.target(x_0, eps, gamma)

    x = (torch.arange(24).view(4, 1, 2, 3) % 17).double()
    schedule, likelihood = LinearSchedule(-8.0, 5.0), CategoricalLikelihood(17)
    totals = [
        VDM(schedule, denoiser, likelihood, ContinuousTime()).elbo(x, Draws(seed=3)).total
        for denoiser in (teacher, Denoiser(network, parameterisation))
    ]
    assert torch.allclose(*totals, rtol=1e-9)


def test_preconditioned_is_minus_the_velocity_at_unit_variance():
    x_0, eps = pair()
    velocity = VelocityParameterisation().target(x_0, eps, GAMMA)
    assert torch.allclose(PreconditionedParameterisation(1.0).target(x_0, eps, GAMMA), -velocity, atol=1e-12)


def test_preconditioned_target_has_unit_variance():
    s, n = 0.3, 200_000
    generator = torch.Generator().manual_seed(0)
    for gamma in GAMMA:
        x_0 = s * torch.randn(n, 1, dtype=torch.float64, generator=generator)
        eps = torch.randn(n, 1, dtype=torch.float64, generator=generator)
        variance = PreconditionedParameterisation(s).target(x_0, eps, gamma.expand(n)).var()
        assert abs(variance - 1) < 4 * (2 / n) ** 0.5


def test_level_posterior_is_bayes_rule():
    """Pixels that depend on each other: given log p(k | the other pixels of x_t), x̂_0 is the exact E[x_0 | x_t]."""
    levels, n = 3, 2
    generator = torch.Generator().manual_seed(0)
    joint = torch.rand(levels, levels, dtype=torch.float64, generator=generator)
    joint /= joint.sum()
    gamma = torch.tensor([-4.0, -1.0, 0.0, 2.0, 5.0], dtype=torch.float64)
    x_t = torch.randn(len(gamma), n, dtype=torch.float64, generator=generator)
    each = level_logits(x_t, gamma, levels).exp()  # (B, 2, K): p(x_t,i | x_i = k), unscaled
    posterior = joint * each[:, 0, :, None] * each[:, 1, None, :]
    posterior /= posterior.sum((1, 2), keepdim=True)
    centres = level_centres(levels, x_t)
    exact = torch.stack([posterior.sum(2) @ centres, posterior.sum(1) @ centres], 1)
    others = torch.stack([each[:, 1] @ joint.T, each[:, 0] @ joint], 1)

    parameterisation = LevelPosteriorParameterisation(levels).double()
    parameterisation.init_from_data(torch.tensor([[0, 1], [0, 2], [0, 0]]))
    y = others.log() - parameterisation.prior
    assert torch.allclose(parameterisation.predict(y, x_t, gamma).x_0, exact, atol=1e-12)


def test_level_posterior_prior_is_the_level_shares():
    """y = 0 on independent pixels is the ideal denoiser, so that the bound is their entropy but for the two ends."""
    shares = torch.tensor([0.6, 0.1, 0.05, 0.25], dtype=torch.float64)
    x = torch.multinomial(shares, 20_000, replacement=True, generator=torch.Generator().manual_seed(0)).view(2_000, 10)
    parameterisation = LevelPosteriorParameterisation(4).double()
    parameterisation.init_from_data(x)

    def silent(x_t, gamma, condition):
        return torch.zeros(*x_t.shape, 4, dtype=x_t.dtype)

    schedule, likelihood = LinearSchedule(-12.0, 8.0), CategoricalLikelihood(4)
    vdm = VDM(schedule, Denoiser(silent, parameterisation), likelihood, ContinuousTime(), StratifiedTimes()).double()
    bits = torch.cat([vdm.elbo(x, Draws(seed)).bits_per_dim for seed in range(8)])
    counts = torch.bincount(x.flatten()) / x.numel()
    entropy = -(counts * counts.log2()).sum()
    assert abs(bits.mean() - entropy) < 4 * bits.std() / len(bits) ** 0.5 + 1e-3  # the ends cost 0.0005


def test_level_posterior_is_exact_under_autocast():
    """x̂_0 in bfloat16 would cost 0.17 bits/dim at 256 levels."""
    parameterisation, gamma = LevelPosteriorParameterisation(256), torch.full((2,), -9.0)
    x_t, y = torch.randn(2, 3), torch.zeros(2, 3, 256)
    exact = parameterisation.predict(y, x_t, gamma).x_0
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(parameterisation.predict(y, x_t, gamma).x_0, exact)


@pytest.mark.parametrize("gamma", [-13.3, -11.0, -9.9, -9.6, -8.0, 0.0])
def test_rounded_is_bayes_rule_for_single_pixels(gamma):
    """y = 0 is E[x_0 | x_t] of a pixel whose 256 levels have the shares of a Gaussian, here by a sum over all of them.

    The Gaussian is narrow, so that the scale's ends are nothing. On both sides of where the noise is a level wide, −9.7.
    """
    s, levels = 0.1, 256
    centres = level_centres(levels, torch.empty(0, dtype=torch.float64))
    x_t = torch.linspace(-0.4, 0.4, 401, dtype=torch.float64)[:, None]
    prior = -0.5 * (centres / s).square()
    posterior = torch.softmax(prior + level_logits(x_t, torch.tensor([gamma]).double().expand(401), levels), -1)
    x_hat, _ = RoundedParameterisation(s, levels).predict(torch.zeros_like(x_t), x_t, torch.full((401,), gamma).double())
    assert torch.allclose(x_hat, posterior @ centres, rtol=0, atol=1e-8 * 2 / levels)


def test_rounded_is_linear_at_high_noise():
    """There it is ``preconditioned``; where the noise is finer, the nearest level, whatever small y says."""
    x_0, eps = pair()
    y, rounded, linear = torch.sin(9 * eps), RoundedParameterisation(0.5, 256), PreconditionedParameterisation(0.5)
    coarse = GAMMA > -9
    found, expected = (p.predict(y, q_sample(x_0, eps, GAMMA), GAMMA).x_0 for p in (rounded, linear))
    assert torch.equal(found[coarse], expected[coarse])
    fine = torch.full_like(GAMMA, -18.0)
    on_levels = level_to_real(real_to_level(x_0, 256).double(), 256)
    exact = rounded.predict(y, q_sample(on_levels, eps, fine), fine).x_0
    assert torch.allclose(exact, on_levels, rtol=0, atol=1e-12)


def test_level_posterior_beats_linear_at_low_noise():
    """With no network at all (y = 0) fine noise costs nothing, where the linear preconditioning pays in full."""
    x = torch.randint(0, 17, (400, 1, 4, 4), generator=torch.Generator().manual_seed(0))

    def cost(parameterisation):
        def silent(x_t, gamma, condition):
            y = torch.zeros(*x_t.shape, parameterisation.outputs)
            return y if parameterisation.outputs > 1 else y.squeeze(-1)

        denoiser = Denoiser(silent, parameterisation)
        vdm = VDM(LinearSchedule(-12.0, -8.0), denoiser, CategoricalLikelihood(17), ContinuousTime())
        return vdm.elbo(x, Draws(seed=1)).denoising_matching.mean() / 16

    assert cost(LevelPosteriorParameterisation(17)) < 0.01
    assert cost(RoundedParameterisation(0.7, 17)) < 0.01
    assert cost(PreconditionedParameterisation(0.7)) == pytest.approx(0.5 * 4, rel=0.05)


def test_wrong_number_of_outputs_is_refused():
    with pytest.raises(InvalidInput, match="outputs=17"):
        Denoiser(MLP((2,), 8, 1, -8.0, 5.0), LevelPosteriorParameterisation(17))
    with pytest.raises(InvalidInput, match="two levels"):
        LevelPosteriorParameterisation(1)


def test_output_errors_cost_little_at_high_snr():
    """float32: the SNR-weighted error that rounding an exact output leaves at γ = −13.3, per dimension.

    Emitting x_0 itself pays SNR · (rounding)²; a preconditioned or noise output does not feel it.
    """
    x_0, eps = pair()
    gamma = torch.full((len(x_0),), -13.3, dtype=torch.float64)
    x_t = q_sample(x_0, eps, gamma)

    def cost(parameterisation):
        y = parameterisation.target(x_0, eps, gamma).bfloat16().double()
        return (0.5 * torch.exp(-gamma[0]) * (parameterisation.predict(y, x_t, gamma).x_0 - x_0).square()).mean()

    careful = max(cost(PreconditionedParameterisation(0.5)), cost(NoiseParameterisation()))
    assert cost(build("data")) > 1000 * careful
