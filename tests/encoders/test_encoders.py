"""Laws of every encoder, found from the configs, and of the process that it makes."""

import math
from functools import cache

import pytest
import torch
from torch import nn
from torch.distributions import kl_divergence

from support.catalogue import options, part
from support.equal_models import assert_same_estimates, assert_same_forms
from support.given_draws import GivenDraws
from support.oracles import GaussianData, gaussian_denoiser
from vdm.batch import Batch
from vdm.divergence import ExactDivergence
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime, denoising_kl
from vdm.encoders import DataPredicting, IdentityEncoder, LinearEncoder, MeanPredicting, NetworkEncoder
from vdm.errors import InvalidInput
from vdm.evaluation import FlowLikelihood, NoDequantisation
from vdm.gamma import align, alpha_bar, sigma2, snr_difference
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM, RelaxedVDM
from vdm.parameterisations import Prediction
from vdm.process import FORWARD, q_sample
from vdm.samplers import DDIMSampler, GammaSpacing, Sampling, Step, trajectory
from vdm.schedules import LinearSchedule

SHAPE = (1, 4, 4)
PAIRS = [(-13.3, -13.0), (-3.0, 1.0), (0.0, 5.0)]
NAMES = options("encoder")


@cache
def process(name):
    """The process of a yaml in float64, a network's last layer away from zero."""
    made = part("model.process", f"encoder={name}", "data.event_shape=[1,4,4]").double()
    generator = torch.Generator().manual_seed(0)
    for module in made.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            module.weight.data.normal_(0, 0.2, generator=generator)
    return made.requires_grad_(False)


def data(seed, n=5):
    return torch.randn(n, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def levels(*gammas, n=5):
    return [torch.full((n,), gamma, dtype=torch.float64) for gamma in gammas]


@pytest.mark.parametrize("name", NAMES)
class TestEveryEncoder:
    def test_rate_is_the_derivative(self, name):
        encoder, (gamma,), x, h = process(name).encoder, levels(0.7), data(0), 1e-6
        mean, rate = encoder.with_rate(x, gamma)
        assert torch.allclose(mean, encoder(x, gamma), rtol=1e-12)
        slope = (encoder(x, gamma + h) - encoder(x, gamma - h)) / (2 * h)
        assert torch.allclose(rate, slope, rtol=1e-4, atol=1e-6)

    def test_little_noise_leaves_the_data(self, name):
        """The reconstruction term at 256 levels, where half a level is 1/256, hardly notices the encoder."""
        x, (gamma,) = data(0).clamp(-1, 1), levels(-13.3)
        assert (process(name).encoder(x, gamma) - x).abs().max() < 1e-4

    @pytest.mark.parametrize("pair", PAIRS)
    def test_transition_after_marginal_is_the_marginal(self, name, pair):
        q, x, (s, t) = process(name), data(0), levels(*pair)
        step = q.transition(q.marginal(x, s).mean, s, t, x)
        assert torch.allclose(step.mean, q.marginal(x, t).mean, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("pair", PAIRS)
    def test_posterior_is_bayes_rule(self, name, pair):
        q, x, (s, t) = process(name), data(0), levels(*pair)
        x_t = q_sample(x, data(1), t, q)
        posterior = q.posterior(x, x_t, s, t)
        x_s = posterior.mean + posterior.stddev * data(2)
        bayes = q.transition(x_s, s, t, x).log_prob(x_t) + q.marginal(x, s).log_prob(x_s) - q.marginal(x, t).log_prob(x_t)
        assert torch.allclose(posterior.log_prob(x_s), bayes, rtol=1e-8)

    @pytest.mark.parametrize("pair", PAIRS)
    def test_kl_is_the_snr_weighted_error(self, name, pair):
        q, x, x_t, (s, t) = process(name), data(0), data(1), levels(*pair)
        x_hat = x + 0.1 * data(2)
        kl = kl_divergence(q.posterior(x, x_t, s, t), q.reverse(x_hat, x_t, s, t))
        assert torch.allclose(denoising_kl(q.target(x, s, t), q.estimate(x_hat, s, t), s, t), kl, rtol=1e-8)

    def test_limit_of_short_steps(self, name):
        """Target, estimate and the flow's estimate at s = t − 10⁻⁷ are those of s → t, up to the step."""
        q, x, (s, t) = process(name), data(0), levels(0.5 - 1e-7, 0.5)
        guess = Prediction(x, data(1))
        for short, limit in (
            (q.target(x, s, t), q.target(x, None, t)),
            (q.estimate(x, s, t), q.estimate(x, None, t)),
            (q.along(guess, s, t).x_0, q.along(guess, None, t).x_0),
            (q.along(guess, s, t).eps, q.along(guess, None, t).eps),
        ):
            assert torch.allclose(short, limit, atol=1e-4)

    def test_ddim_at_eta_one_is_ancestral(self, name):
        q, x_t, (s, t) = process(name), data(1), levels(-1.0, 0.5)
        guess, zero = Prediction.from_x_0(data(0), x_t, t), torch.zeros_like(x_t)
        kernel = q.reverse(guess.x_0, x_t, s, t)
        for noise in (zero, zero + 1):
            step = Step(x_t, s, t, guess, lambda noise=noise: noise, None, q)
            assert torch.allclose(DDIMSampler(1.0).step(lambda *_: guess, step), kernel.mean + kernel.stddev * noise)

    def test_chain_is_not_markovian(self, name):
        vdm = VDM(LinearSchedule(-6.0, 5.0), gaussian_denoiser(0.0, 1.0), GaussianLikelihood(), DiscreteTime(3))
        with pytest.raises(InvalidInput, match="no Markovian"):
            RelaxedVDM(vdm, process(name)).as_mhvae()


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("encoder", [LinearEncoder(1.0), LinearEncoder(0.5)], ids=["one", "half"])
def test_ddim_keeps_the_marginals(encoder, eta):
    """With the true x for x̂, every η carries q(x_t | x) to q(x_s | x)."""
    q, x, (s, t) = DataPredicting(encoder), data(0), levels(-1.0, 0.5)

    def x_s(eps, z):
        x_t = q_sample(x, eps, t, q)
        step = Step(x_t, s, t, Prediction.from_x_0(x, x_t, t), lambda: z, None, q)
        return DDIMSampler(eta).step(None, step)

    zero = torch.zeros_like(x)
    mean = x_s(zero, zero)
    assert torch.allclose(mean, q.marginal(x, s).mean)
    variance = (x_s(zero, zero + 1) - mean).square() + (x_s(zero + 1, zero) - mean).square()
    assert torch.allclose(variance, align(sigma2(s), x).expand_as(x))


class TestIdentity:
    """With f = x each form of the bound, every sampler and the flow are the VDM's, bit for bit."""

    x = GaussianData.isotropic(0.3, 0.25, (2,)).sample(6)

    def models(self, time):
        vdm = VDM(LinearSchedule(-6.0, 5.0), gaussian_denoiser(0.3, 0.25), GaussianLikelihood(), time)
        return vdm, RelaxedVDM(vdm, DataPredicting(IdentityEncoder()))

    @pytest.mark.parametrize("time", [DiscreteTime(7), ContinuousTime()], ids=str)
    def test_estimates(self, time):
        assert_same_estimates(*self.models(time), self.x)

    def test_forms_of_the_bound(self):
        assert_same_forms(*self.models(DiscreteTime(7)), self.x)

    @pytest.mark.parametrize("name", options("sampler"))
    def test_samples(self, name):
        rule = part("model.sampling.sampler", f"sampler={name}")
        plain, relaxed = self.models(ContinuousTime())
        first, second = (m.sample(4, (2,), sampler=rule, steps=5, draws=Draws(1)) for m in (plain, relaxed))
        assert torch.equal(first, second)

    def test_flow(self):
        estimator = FlowLikelihood(ExactDivergence(), NoDequantisation(), rows=6)
        values = [
            estimator(m, Batch(self.x, torch.arange(6)), lambda _: None)[0].terms for m in self.models(ContinuousTime())
        ]
        assert values[0] == values[1]


S2 = 0.49
"""Variance of the Gaussian data, whose mean is zero."""


def linear_denoiser(power, variance=S2):
    """E[x | x_t] for x ~ N(0, s²) and q(x_t | x) = N(√ᾱ ᾱ^p x, σ²)."""

    def denoise(x_t, gamma):
        signal, noise2 = align(alpha_bar(gamma) ** (0.5 + power), x_t), align(sigma2(gamma), x_t)
        x_hat = signal * variance / (signal**2 * variance + noise2) * x_t
        return Prediction.from_x_0(x_hat, x_t, gamma)

    return denoise


def linear_model(power, time, ends=(-6.0, 5.0), variance=S2):
    vdm = VDM(LinearSchedule(*ends), linear_denoiser(power, variance), GaussianLikelihood(), time)
    return RelaxedVDM(vdm, DataPredicting(LinearEncoder(power)))


def closed_terms(power, gammas, variance=S2):
    """(reconstruction, prior matching, denoising KLs) of that model over the data, at the latents' γ."""
    a = alpha_bar(gammas) ** power
    signal2, noise2 = alpha_bar(gammas), sigma2(gammas)
    bias = (a[0] - 1) ** 2 * variance / gammas[0].exp()
    first = -0.5 * (math.log(2 * math.pi) + gammas[0] + 1 + bias)
    prior = 0.5 * (signal2[-1] * a[-1] ** 2 * variance + noise2[-1] - 1 - noise2[-1].log())
    c = -torch.expm1(gammas[:-1] - gammas[1:])
    slope = a[1:] + (a[:-1] - a[1:]) / c
    error = variance * noise2[1:] / (signal2[1:] * a[1:] ** 2 * variance + noise2[1:])
    return first, prior, 0.5 * snr_difference(gammas[:-1], gammas[1:]) * slope**2 * error


@pytest.mark.parametrize("timesteps", [2, 5, 30])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_linear_encoder_on_gaussian_data(power, timesteps):
    """Every term, exactly: they are quadratic in x and in the noise, whose means over ±1 standard deviation are exact."""
    model = linear_model(power, DiscreteTime(timesteps))
    x = S2**0.5 * torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)[:, None]
    eps = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)[:, None]
    bound = model.elbo_all_times(x, GivenDraws({f"x_{i}": eps for i in range(1, timesteps + 1)}))
    gammas = model.schedule(torch.linspace(0, 1, timesteps, dtype=torch.float64))
    first, prior, kls = closed_terms(power, gammas)
    assert bound.reconstruction.mean().item() == pytest.approx(first.item(), rel=1e-10)
    assert bound.prior_matching.mean().item() == pytest.approx(prior.item(), rel=1e-10)
    assert torch.allclose(bound.matching.mean(0), kls, rtol=1e-9)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_both_forms_have_one_mean(power):
    """The consistency form's mean over all trajectories, again exact: moves by ±1 in x and in each latent's noise."""
    timesteps = 6
    model = linear_model(power, DiscreteTime(timesteps))
    moves = torch.cat([torch.zeros(1, timesteps + 1), torch.eye(timesteps + 1), -torch.eye(timesteps + 1)]).double()
    draws = GivenDraws({f"x_{i}": moves[:, i, None] for i in range(1, timesteps + 1)})
    total = model.consistency_elbo(S2**0.5 * moves[:, :1], draws).total
    mean = total[0] + (total[1:] - total[0]).sum() / 2
    gammas = model.schedule(torch.linspace(0, 1, timesteps, dtype=torch.float64))
    first, prior, kls = closed_terms(power, gammas)
    assert mean.item() == pytest.approx((first - prior - kls.sum()).item(), rel=1e-9)


def excess(power, variance=1.0):
    """½ ∫ SNR E Var(∂f/∂γ | x_t) dγ, with ∂f/∂γ = −p σ² ᾱ^p x."""
    gamma = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    signal2, noise2, fade = alpha_bar(gamma), sigma2(gamma), alpha_bar(gamma) ** power
    posterior = variance * noise2 / (signal2 * fade**2 * variance + noise2)
    return torch.trapezoid(0.5 * signal2 / noise2 * (power * noise2 * fade) ** 2 * posterior, gamma).item()


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_price_of_a_moving_mean(power):
    """T = ∞ with the ideal denoiser: −ELBO is the entropy and the variance of ∂f/∂γ given x_t. For ᾱ x: 1.48040."""
    n = 20_000
    u = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).repeat(4)
    x, eps = (
        torch.tensor(signs, dtype=torch.float64).repeat_interleave(n)[:, None] for signs in ([1, 1, -1, -1], [1, -1] * 2)
    )
    bound = linear_model(power, ContinuousTime(), (-16.0, 12.0), 1.0).elbo(x, GivenDraws({"t": u, "x_t": eps, "x_1": eps}))
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert -bound.total.mean().item() == pytest.approx(entropy + excess(power), abs=2e-5)
    if power == 1:
        assert entropy + excess(power) == pytest.approx(1.48040, abs=1e-5)


def test_many_latents_approach_the_price():
    """At T = 10⁵ −ELBO is within 0.001 of 1.48040, and its distance to the limit falls like 1/T."""
    values = []
    for timesteps in (10_000, 100_000, 1_000_000):
        gammas = LinearSchedule(-13.3, 12.0)(torch.linspace(0, 1, timesteps, dtype=torch.float64))
        first, prior, kls = closed_terms(1.0, gammas, 1.0)
        values.append(-(first - prior - kls.sum()).item())
    assert 1.48040 < values[1] < 1.48140
    assert values[0] - values[1] == pytest.approx(10 * (values[1] - values[2]), rel=0.01)


@pytest.mark.parametrize("name", options("sampler"))
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_samplers_recover_the_data(name, power):
    """The variance of samples of N(0, 0.49), from the sampler's affine map with exact moments."""
    steps = 400
    rule, names = part("model.sampling.sampler", f"sampler={name}"), ["prior", *(f"step_{i}" for i in range(1, steps + 1))]
    one_each = torch.eye(len(names), dtype=torch.float64)
    draws = GivenDraws({key: column[:, None] for key, column in zip(names, one_each.T, strict=True)})
    sampling = Sampling(rule, GammaSpacing(), steps)
    q, schedule = DataPredicting(LinearEncoder(power)), LinearSchedule(-9.0, 9.0)
    *_, last = trajectory(sampling, schedule, linear_denoiser(power), draws.tensors["prior"], draws, q)
    assert last.x_t.square().sum().item() == pytest.approx(S2, rel=0.03)


def test_flow_is_exact():
    """The flow of f = ᾱ x with the ideal denoiser has the data's density, whatever the price of the bound."""
    x = torch.linspace(-1.5, 1.5, 5, dtype=torch.float64)[:, None]
    model = linear_model(1.0, ContinuousTime(), (-12.0, 12.0))
    estimator = FlowLikelihood(ExactDivergence(), NoDequantisation(), tolerance=1e-8, rows=5)
    (result,) = estimator(model, Batch(x, torch.arange(5)), lambda _: None)
    exact = 0.5 * (math.log(2 * math.pi * S2) + (x.square() / S2).mean().item()) / math.log(2)
    assert result.terms["bits_per_dim"].value == pytest.approx(exact, abs=1e-4)


def test_mean_predicting_takes_its_own_step():
    """DiffEnc's ancestral mean: √(ᾱ_s/ᾱ_t) (1 − c) x_t + √ᾱ_s (c + (γ_t − γ_s) σ_t²) x̂."""
    q, x_hat, x_t, (s, t) = MeanPredicting(IdentityEncoder()), data(0), data(1), levels(-1.0, 0.5)
    c = -math.expm1(-1.5)
    signal_s, signal_t = alpha_bar(s)[0].sqrt(), alpha_bar(t)[0].sqrt()
    mean = signal_s / signal_t * (1 - c) * x_t + signal_s * (c + 1.5 * sigma2(t)[0]) * x_hat
    assert torch.allclose(q.reverse(x_hat, x_t, s, t).mean, mean, rtol=1e-12)


def test_a_network_refuses_a_gamma_for_each_pixel():
    q, x = process("learned"), data(0)
    with pytest.raises(InvalidInput, match="one γ for all dimensions"):
        q.marginal(x, torch.zeros_like(x))


def test_dropout_is_refused():
    network = part("model.denoiser.network", "network=mlp")
    network.dropout = 0.1
    with pytest.raises(InvalidInput, match="dropout=0"):
        NetworkEncoder(network)


def test_plain_process_ignores_x_0():
    x, (s, t) = data(0), levels(-1.0, 0.5)
    assert torch.equal(FORWARD.transition(x, s, t, data(1)).mean, FORWARD.transition(x, s, t).mean)
