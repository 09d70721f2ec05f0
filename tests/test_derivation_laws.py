"""Laws of docs/derivation.md, by quadrature and in closed form; the page says which equation each test holds.

A Gauss-Hermite rule with n nodes a latent is exact for polynomials of degree 2n − 1. The log-ratio of two Gaussian
kernels of equal variance is one of degree 2 where the denoiser is affine, so that three nodes give an exact mean.
"""

import itertools
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from support.given_draws import GivenDraws
from support.linear_gaussian import exact
from support.oracles import GaussianData
from vdm.consistency import consistency_at, consistency_elbo, latents, literal_consistency, literal_gap
from vdm.divergence import ExactDivergence
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime, denoising_kl
from vdm.gamma import alpha_bar, snr
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.parameterisations import Prediction
from vdm.process import FORWARD, ForwardProcess, isotropic, q_sample
from vdm.schedules import CosineSchedule, LinearSchedule

PAGE = Path(__file__).parents[1] / "docs/derivation.md"
ENDS = (-2.0, 3.0)
DATA = GaussianData.isotropic(0.2, 0.25, (1,))
X = torch.tensor([[0.7]], dtype=torch.float64)
q = ForwardProcess()


def affine(x_t, gamma_t):
    """An affine denoiser that is far from the ideal one."""
    return Prediction.from_x_0(0.4 * x_t - 0.1, x_t, gamma_t)


def bent(x_t, gamma_t):
    """A denoiser whose reverse kernels make no Gaussian chain."""
    return Prediction.from_x_0(torch.tanh(x_t), x_t, gamma_t)


DENOISERS = [pytest.param(affine, 3, id="affine"), pytest.param(bent, 48, id="bent")]


def diffusion(timesteps, denoiser=affine, ends=ENDS):
    return VDM(LinearSchedule(*ends), denoiser, GaussianLikelihood(), DiscreteTime(timesteps))


def gammas(timesteps, ends=ENDS):
    return [torch.full((1,), g, dtype=torch.float64) for g in np.linspace(*ends, timesteps)]


def rule(names, nodes):
    """Standard normal noise by name, (nodes^len(names), 1) each, and the rows' weights: E f(ε) = Σ weight f(ε)."""
    points, weights = (torch.tensor(part) for part in np.polynomial.hermite_e.hermegauss(nodes))
    shape = (-1, len(names))
    noise = torch.cartesian_prod(*[points] * len(names)).reshape(shape)
    share = torch.cartesian_prod(*[weights / math.sqrt(2 * math.pi)] * len(names)).reshape(shape).prod(1)
    return {name: column[:, None] for name, column in zip(names, noise.unbind(1), strict=True)}, share


def path_rule(timesteps, nodes):
    noise, share = rule([f"x_{i}" for i in range(1, timesteps + 1)], nodes)
    return GivenDraws(noise), share


def log_normal(x, mean, variance):
    return isotropic(mean.expand_as(x), torch.as_tensor(variance, dtype=x.dtype).expand(len(x))).log_prob(x)


@dataclass
class PathDensities:
    """Log-densities on one trajectory of 1-D data, (B,) each, written with α_t and ᾱ_t and without vdm.process."""

    x: list[Tensor]
    alpha_bars: list[float]
    denoiser: object

    @property
    def top(self):
        return len(self.x) - 1

    def bar(self, t):
        return self.alpha_bars[t - 1] if t else 1.0

    def alpha(self, t):
        return self.bar(t) / self.bar(t - 1)

    def prior(self):
        """log p(x_T) = log N(0, I)."""
        return log_normal(self.x[-1], torch.zeros(()), 1.0)

    def q(self, t):
        """log q(x_t | x_{t−1})."""
        return log_normal(self.x[t], math.sqrt(self.alpha(t)) * self.x[t - 1], 1 - self.alpha(t))

    def marginal(self, t):
        """log q(x_t | x_0)."""
        return log_normal(self.x[t], math.sqrt(self.bar(t)) * self.x[0], 1 - self.bar(t))

    def mean(self, t, x_0):
        """(1.88) and (1.96), as a function of what stands for x_0."""
        bar, before, alpha = self.bar(t), self.bar(t - 1), self.alpha(t)
        return (math.sqrt(alpha) * (1 - before) * self.x[t] + math.sqrt(before) * (1 - alpha) * x_0) / (1 - bar)

    def variance(self, t):
        """(1.89)."""
        return (1 - self.alpha(t)) * (1 - self.bar(t - 1)) / (1 - self.bar(t))

    def posterior(self, t):
        """log q(x_{t−1} | x_t, x_0)."""
        return log_normal(self.x[t - 1], self.mean(t, self.x[0]), self.variance(t))

    def p(self, t):
        """log p_θ(x_{t−1} | x_t); at t = 1 the Gaussian likelihood N(x_1/√ᾱ_1, (1 − ᾱ_1)/ᾱ_1 I)."""
        if t == 1:
            return log_normal(self.x[0], self.x[1] / math.sqrt(self.bar(1)), (1 - self.bar(1)) / self.bar(1))
        gamma_t = torch.full((len(self.x[t]),), math.log(1 / self.bar(t) - 1), dtype=torch.float64)
        return log_normal(self.x[t - 1], self.mean(t, self.denoiser(self.x[t], gamma_t).x_0), self.variance(t))


def path_densities(timesteps, denoiser, draws, rows, x=X):
    x_0 = x.expand(rows, 1)
    levels = gammas(timesteps)
    drawn = [latent.x_t for latent in latents(x_0, levels, draws)]
    return PathDensities([x_0, *drawn], [alpha_bar(g).item() for g in levels], denoiser)


def between(first, last):
    return range(first, last + 1)


class TestMarkovianHVAE:
    """(1.26)–(1.32) with two latents: x, z_1, z_2 jointly Gaussian, q the true posterior with each mean off by 0.3."""

    model, joint = exact("mhvae", 2, shift=0.3)

    def test_marginal_is_the_integral_of_the_joint(self):
        step = 0.1
        grid = torch.arange(-9, 9 + step, step, dtype=torch.float64)
        z_1, z_2 = (part[:, None] for part in torch.cartesian_prod(grid, grid).unbind(1))
        x = X.expand_as(z_1)
        log_joint = self.model.decoder.log_prob(x, (z_1,)) + self.model.reverse(2, z_2).log_prob(z_1)
        log_joint = log_joint + self.model.prior(z_2).log_prob(z_2)
        whole = MultivariateNormal(torch.zeros(3).double(), self.joint.covariance)
        assert torch.allclose(log_joint, whole.log_prob(torch.cat([x, z_1, z_2], 1)), rtol=1e-9, atol=1e-9)
        assert torch.allclose((log_joint.exp().sum() * step**2).log(), self.joint.log_prob(X), rtol=0, atol=1e-9)

    def test_mean_weight_is_the_marginal(self):
        draws, share = path_rule(2, 24)
        log_weight = self.model.log_weight(X.expand(len(share), 1), draws)
        assert log_weight.std() > 0.1
        assert torch.allclose((share * log_weight.exp()).sum().log(), self.joint.log_prob(X), rtol=0, atol=1e-9)

    def test_jensen_gap_is_the_kl_to_the_posterior(self):
        draws, share = path_rule(2, 3)
        gap = self.joint.log_prob(X) - (share * self.model.elbo(X.expand(len(share), 1), draws).total).sum()
        kl = sum(0.3**2 / 2 / self.joint.given(t, [t - 1])[1].item() for t in (1, 2))
        assert abs(gap.item() - kl) < 1e-10


class TestChainOfTheVDM:
    """(1.35)–(1.39): with the ideal denoiser of Gaussian data the marginal of the whole chain is known."""

    timesteps = 3
    exact_log_p = staticmethod(lambda: DATA.chain_log_prob(X, torch.tensor(np.linspace(*ENDS, 3))))

    def test_marginal_is_the_integral_of_the_joint(self):
        step = 0.2
        grid = torch.arange(-8, 8 + step, step, dtype=torch.float64)
        x_1, x_2, x_3 = (part[:, None] for part in torch.cartesian_prod(grid, grid, grid).unbind(1))
        chain, x = diffusion(self.timesteps, DATA.denoiser).as_mhvae(), X.expand_as(x_1)
        log_joint = chain.prior(x).log_prob(x_3) + chain.decoder.log_prob(x, (x_1,))
        log_joint = log_joint + chain.reverse(3, x_3).log_prob(x_2) + chain.reverse(2, x_2).log_prob(x_1)
        assert torch.allclose((log_joint.exp().sum() * step**3).log(), self.exact_log_p(), rtol=0, atol=1e-9)

    def test_mean_weight_is_the_marginal(self):
        draws, share = path_rule(self.timesteps, 48)
        log_weight = diffusion(self.timesteps, DATA.denoiser).log_weight(X.expand(len(share), 1), draws)
        assert log_weight.std() > 0.1
        assert torch.allclose((share * log_weight.exp()).sum().log(), self.exact_log_p(), rtol=0, atol=1e-6)

    def test_mean_log_weight_is_below_the_marginal(self):
        draws, share = path_rule(self.timesteps, 3)
        bound = (share * diffusion(self.timesteps, DATA.denoiser).log_weight(X.expand(len(share), 1), draws)).sum()
        assert bound.item() == pytest.approx(DATA.elbo(torch.tensor(np.linspace(*ENDS, 3)), X).item(), abs=1e-9)
        assert bound < self.exact_log_p() - 0.01


INTEGRANDS = {
    "1.40": lambda w, T: w.prior() + sum(w.p(t) for t in between(1, T)) - sum(w.q(t) for t in between(1, T)),
    "1.41": lambda w, T: (
        (w.prior() + w.p(1) + sum(w.p(t) for t in between(2, T))) - (w.q(T) + sum(w.q(t) for t in between(1, T - 1)))
    ),
    "1.42": lambda w, T: (
        (w.prior() + w.p(1) + sum(w.p(t + 1) for t in between(1, T - 1))) - (w.q(T) + sum(w.q(t) for t in between(1, T - 1)))
    ),
    "1.44": lambda w, T: w.p(1) + (w.prior() - w.q(T)) + sum(w.p(t + 1) - w.q(t) for t in between(1, T - 1)),
    "1.53": lambda w, T: (
        w.prior() + w.p(1) + sum(w.p(t) for t in between(2, T)) - w.q(1) - sum(w.q(t) for t in between(2, T))
    ),
    "1.56": lambda w, T: (
        (w.prior() + w.p(1) - w.q(1))
        + sum(w.p(t) - (w.posterior(t) + w.marginal(t) - w.marginal(t - 1)) for t in between(2, T))
    ),
    "1.58": lambda w, T: (
        (w.prior() + w.p(1) - w.q(1)) + (w.marginal(1) - w.marginal(T)) + sum(w.p(t) - w.posterior(t) for t in between(2, T))
    ),
    "1.59": lambda w, T: w.prior() + w.p(1) - w.marginal(T) + sum(w.p(t) - w.posterior(t) for t in between(2, T)),
}


@pytest.mark.parametrize("timesteps", [2, 5])
@pytest.mark.parametrize("equation", INTEGRANDS)
def test_integrand_is_the_log_weight_on_every_path(equation, timesteps):
    """(1.40)–(1.44) and (1.52)–(1.59) rewrite one number, here with a denoiser that is not affine."""
    draws, rows = Draws(3), 40
    model = diffusion(timesteps, bent)
    written = INTEGRANDS[equation](path_densities(timesteps, bent, draws, rows), timesteps)
    assert torch.allclose(written, model.log_weight(X.expand(rows, 1), draws), rtol=1e-9, atol=1e-9)
    assert torch.allclose(written, model.as_mhvae().log_weight(X.expand(rows, 1), draws), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("t", [2, 3, 4])
def test_transition_is_the_posterior_times_a_ratio_of_marginals(t):
    """(1.50): Bayes' rule for t ≥ 2 along a path, and x_0 adds nothing to x_{t−1} about x_t."""
    path = path_densities(4, affine, Draws(5), 30)
    x_0, before, now = path.x[0], path.x[t - 1], path.x[t]
    gamma_s, gamma_t = (g.expand(30) for g in gammas(4)[t - 2 : t])
    ratio = q.marginal(x_0, gamma_t).log_prob(now) - q.marginal(x_0, gamma_s).log_prob(before)
    turned = q.posterior(x_0, now, gamma_s, gamma_t).log_prob(before) + ratio
    assert torch.allclose(q.transition(before, gamma_s, gamma_t).log_prob(now), turned, rtol=1e-9, atol=1e-9)
    assert torch.allclose(path.q(t), path.posterior(t) + path.marginal(t) - path.marginal(t - 1), rtol=1e-9, atol=1e-9)
    before, now = path.bar(t - 1), path.bar(t)
    s2 = 0.25  # variance of x_0
    across = math.sqrt(path.alpha(t)) * (before * s2 + 1 - before)  # Cov(x_{t−1}, x_t)
    covariance = torch.tensor(
        [
            [s2, math.sqrt(before) * s2, math.sqrt(now) * s2],
            [math.sqrt(before) * s2, before * s2 + 1 - before, across],
            [math.sqrt(now) * s2, across, now * s2 + 1 - now],
        ],
        dtype=torch.float64,
    )
    weight_x_0, weight_below = torch.linalg.solve(covariance[:2, :2], covariance[:2, 2])
    assert abs(weight_x_0) < 1e-12
    assert weight_below.item() == pytest.approx(math.sqrt(path.alpha(t)), rel=1e-12)


@pytest.mark.parametrize("j", [1, 2, 3, 4])
def test_mean_of_one_latent_needs_its_marginal_alone(j):
    """(1.48) for f(x) = x⁴ − x³, exact with three nodes: over the chain's own conditionals, and over q(x_j | x_0)."""
    levels = gammas(4)
    draws, share = path_rule(4, 3)
    f = lambda x: (x**4 - x**3).squeeze(1)  # noqa: E731
    x_0 = X.expand(len(share), 1)
    joint = (share * f([latent.x_t for latent in latents(x_0, levels, draws)][j - 1])).sum()
    noise, share = rule(["x_j"], 3)
    alone = (share * f(q_sample(X.expand(3, 1), noise["x_j"], levels[j - 1].expand(3)))).sum()
    assert joint.item() == pytest.approx(alone.item(), rel=1e-12)


def test_latents_are_correlated_given_the_data():
    """Cov(x_i, x_j | x_0) = √(ᾱ_j/ᾱ_i) (1 − ᾱ_i): the product Π q(x_t | x_0) is not the law of the path."""
    levels = gammas(4)
    draws, share = path_rule(4, 3)
    x = torch.cat([latent.x_t for latent in latents(X.expand(len(share), 1), levels, draws)], 1)
    centred = x - (share[:, None] * x).sum(0)
    covariance = (share[:, None] * centred).T @ centred
    bars = torch.cat([alpha_bar(g) for g in levels])
    first = torch.minimum(torch.arange(4)[:, None], torch.arange(4))
    last = torch.maximum(torch.arange(4)[:, None], torch.arange(4))
    assert torch.allclose(covariance, (bars[last] / bars[first]).sqrt() * (1 - bars[first]), rtol=1e-10)
    assert covariance[0, 2] > 0.02


class TestExpectations:
    @pytest.mark.parametrize(("denoiser", "nodes"), DENOISERS)
    def test_both_forms_have_one_mean(self, denoiser, nodes):
        """(1.46) = (1.62), exactly and not within an error."""
        draws, share = path_rule(3, nodes)
        model, x = diffusion(3, denoiser), X.expand(len(share), 1)
        sampled, closed = model.consistency_elbo(x, draws), model.elbo_all_times(x, draws, rows=10**6)
        assert ((sampled.total - closed.total).abs() > 0.1).any()
        assert (share * sampled.total).sum().item() == pytest.approx((share * closed.total).sum().item(), abs=1e-7)

    @pytest.mark.parametrize("t", [1, 2, 3])
    def test_consistency_summand_needs_three_latents(self, t):
        """(1.45) → (1.46)."""
        draws, share = path_rule(4, 3)
        whole = (share * diffusion(4).consistency_elbo(X.expand(len(share), 1), draws).log_ratios[:, t - 1]).sum()
        levels = [torch.full((1,), -40.0, dtype=torch.float64), *gammas(4)]
        noise, share = rule(["x_s", "x_t", "x_u"], 3)
        here = [g.expand(len(share)) for g in levels[t - 1 : t + 2]]
        three = (share * consistency_at(X.expand(len(share), 1), here, GivenDraws(noise), affine)).sum()
        assert whole.item() == pytest.approx(three.item(), abs=1e-8)

    @pytest.mark.parametrize(("denoiser", "nodes"), DENOISERS)
    @pytest.mark.parametrize("t", [2, 3])
    def test_denoising_summand_is_the_mean_kl(self, t, denoiser, nodes):
        """(1.60) → (1.61) → (1.62): over whole paths, over (x_t, x_{t−1}), and over x_t of a closed KL."""
        draws, share = path_rule(3, nodes)
        path = path_densities(3, denoiser, draws, len(share))
        whole = (share * (path.posterior(t) - path.p(t))).sum()

        gamma_s, gamma_t = gammas(3)[t - 2 : t]
        noise, share = rule(["now", "before"], nodes)
        x_0 = X.expand(len(share), 1)
        x_t = q_sample(x_0, noise["now"], gamma_t)
        posterior = q.posterior(x_0, x_t, gamma_s, gamma_t)
        x_s = posterior.mean + posterior.stddev * noise["before"]
        ratio = posterior.log_prob(x_s) - FORWARD.reverse(denoiser(x_t, gamma_t).x_0, x_t, gamma_s, gamma_t).log_prob(x_s)
        closed = denoising_kl(x_0, denoiser(x_t, gamma_t).x_0, gamma_s, gamma_t)
        assert (share * ratio).sum().item() == pytest.approx((share * closed).sum().item(), abs=1e-9)
        assert whole.item() == pytest.approx((share * closed).sum().item(), abs=1e-7)

    def test_transition_prior_is_the_mean_log_ratio(self):
        """(1.49): the KL over x_T given x_{T−1} is closed, because q(x_T | x_{T−1}) and p(x_T) see nothing above x_T."""
        draws, share = path_rule(4, 3)
        form = diffusion(4).consistency_elbo(X.expand(len(share), 1), draws)
        assert (share * form.prior_log_ratio).sum().item() == pytest.approx((share * form.prior_kl).sum().item(), abs=1e-9)

    @pytest.mark.parametrize(("denoiser", "nodes"), DENOISERS)
    def test_literal_reading_is_off_by_the_stein_term(self, denoiser, nodes):
        """(1.47) − (1.46) is Σ √α_{t+1} (1 − α_t)/σ_q²(t+1) E ∇·μ_θ(x_{t+1}), summand by summand, by quadrature."""
        draws, share = path_rule(3, nodes)
        levels, x_0 = gammas(3), X.expand(len(share), 1)
        sampled = diffusion(3, denoiser).consistency_elbo(x_0, draws).log_ratios
        literal = literal_consistency(x_0, levels, draws, denoiser)
        gap = literal_gap(x_0, levels, draws, denoiser, ExactDivergence())
        mean = lambda columns: (share[:, None] * columns).sum(0)  # noqa: E731
        assert torch.allclose(mean(literal - sampled), mean(gap), rtol=0, atol=1e-7)
        assert (mean(gap) > 0.1).all()


def table():
    """The rows of the page's table of exact values: T, then (1.62), (1.47), the prior of (1.49), that of (1.62)."""
    text = PAGE.read_text().split("<!-- table of exact values -->")[1].split("\n\n")[1]
    return [row.strip("| ").split(" | ") for row in text.splitlines() if re.match(r"\| \d", row)]


@pytest.mark.parametrize("row", table(), ids=lambda row: f"T={row[0]}")
def test_table_of_exact_values(row):
    """N(0, ¼), γ from −6 to 5, the ideal denoiser: means over the data too, to the last digit of the page."""
    data, timesteps = GaussianData.isotropic(0.0, 0.25, (1,)), int(row[0])
    levels = gammas(timesteps, (-6.0, 5.0))
    noise, share = rule(["data", "x_1", "x_2", "x_3"], 3)
    x_0, draws = 0.5 * noise["data"], GivenDraws(noise)

    def mean(value):
        return (share * value).sum().item()

    likelihood, sums = GaussianLikelihood(), {"closed": 0.0, "sampled": 0.0, "literal": 0.0}
    for t in between(1, timesteps - 1):  # x_{t−1}, x_t and x_{t+1} are all that a summand needs
        three = levels[max(t - 2, 0) : t + 1]
        sums["sampled"] += mean(consistency_elbo(likelihood, x_0, three, draws, data.denoiser).log_ratios[:, -1])
        sums["literal"] += mean(literal_consistency(x_0, three, draws, data.denoiser)[:, -1])
        x_t = q_sample(x_0, noise["x_1"], levels[t])
        sums["closed"] += mean(denoising_kl(x_0, data.denoiser(x_t, levels[t]).x_0, levels[t - 1], levels[t]))
    last = consistency_elbo(likelihood, x_0, levels[-2:], draws, data.denoiser)
    prior = kl_divergence(q.marginal(x_0, levels[-1]), isotropic(torch.zeros_like(x_0), x_0.new_ones(len(x_0))))
    values = [
        sums["closed"] + mean(prior),
        sums["sampled"] + mean(last.prior_log_ratio),
        sums["literal"] + mean(last.prior_kl),
        mean(last.prior_kl),
        mean(prior),
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-8)
    for value, printed in zip([values[0], *values[2:]], row[1:], strict=True):
        assert f"{value:.{len(printed.split('.')[1])}f}" == printed


def test_composing_every_step_gives_alpha_bar():
    """(1.64)–(1.73) by fifty steps of (1.63): mean and variance of x_T, with ᾱ_T the product of the α_t."""
    levels = CosineSchedule(*ENDS)(torch.linspace(0, 1, 50, dtype=torch.float64))[:, None]
    mean, variance, product = q.marginal(X, levels[0]).mean, q.marginal(X, levels[0]).variance, alpha_bar(levels[0])
    for before, now in itertools.pairwise(levels):
        step = q.transition(mean, before, now)
        alpha = alpha_bar(now) / alpha_bar(before)
        assert torch.allclose(step.variance, (1 - alpha)[:, None], rtol=1e-9)
        mean, variance, product = step.mean, alpha * variance + step.variance, product * alpha
    assert torch.allclose(product, alpha_bar(levels[-1]), rtol=1e-12)
    assert torch.allclose(mean, product.sqrt() * X, rtol=1e-12)
    assert torch.allclose(variance, 1 - product[:, None], rtol=1e-10)


def exponents(bar, before, x_t, x_0, y):
    """The exponents of (1.76)–(1.86) as functions of y = x_{t−1}, each up to what does not depend on y."""
    alpha = bar / before
    one, rest = 1 - alpha, 1 - before
    linear = math.sqrt(alpha) * x_t / one + math.sqrt(before) * x_0 / rest
    precision = (1 - bar) / (one * rest)
    data = (x_t - math.sqrt(bar) * x_0) ** 2 / (1 - bar)
    squares = (x_t - math.sqrt(alpha) * y) ** 2 / one + (y - math.sqrt(before) * x_0) ** 2 / rest - data
    mean = (math.sqrt(alpha) * rest * x_t + math.sqrt(before) * one * x_0) / (1 - bar)
    return {
        "1.76": -(
            (x_t - math.sqrt(alpha) * y) ** 2 / (2 * one) + (y - math.sqrt(before) * x_0) ** 2 / (2 * rest) - data / 2
        ),
        "1.77": -squares / 2,
        "1.78": -((-2 * math.sqrt(alpha) * x_t * y + alpha * y**2) / one + (y**2 - 2 * math.sqrt(before) * y * x_0) / rest)
        / 2,
        "1.79": -(
            -2 * math.sqrt(alpha) * x_t * y / one + alpha * y**2 / one + y**2 / rest - 2 * math.sqrt(before) * y * x_0 / rest
        )
        / 2,
        "1.80": -((alpha / one + 1 / rest) * y**2 - 2 * linear * y) / 2,
        "1.81": -((alpha * rest + one) / (one * rest) * y**2 - 2 * linear * y) / 2,
        "1.82": -((alpha - bar + 1 - alpha) / (one * rest) * y**2 - 2 * linear * y) / 2,
        "1.83": -(precision * y**2 - 2 * linear * y) / 2,
        "1.84": -precision * (y**2 - 2 * linear / precision * y) / 2,
        "1.85": -precision * (y**2 - 2 * linear * one * rest / (1 - bar) * y) / 2,
        "1.86": -(1 / (one * rest / (1 - bar))) * (y**2 - 2 * mean * y) / 2,
    }


@pytest.mark.parametrize("equation", exponents(0.3, 0.6, 0.0, 0.0, torch.zeros(1)))
def test_exponent_differs_from_the_posterior_by_a_constant(equation):
    """(1.76)–(1.86) are log q(x_{t−1} | x_t, x_0) of (1.87) up to a number that does not depend on x_{t−1}."""
    x_t, x_0 = -0.4, 0.7
    y = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    gamma_s, gamma_t = (torch.full((13,), math.log(1 / bar - 1), dtype=torch.float64) for bar in (0.6, 0.3))
    posterior = q.posterior(torch.full_like(y, x_0), torch.full_like(y, x_t), gamma_s, gamma_t)
    difference = posterior.log_prob(y) - exponents(0.3, 0.6, x_t, x_0, y)[equation].squeeze(1)
    assert torch.allclose(difference, difference[:1].expand(13), rtol=0, atol=1e-12)


def gaussian_kl(mean_p, cov_p, mean_q, cov_q):
    """½ [log |Σ_q|/|Σ_p| − d + tr(Σ_q⁻¹ Σ_p) + (μ_q − μ_p)ᵀ Σ_q⁻¹ (μ_q − μ_p)]."""
    inverse, apart = torch.linalg.inv(cov_q), mean_q - mean_p
    ratio = torch.logdet(cov_q) - torch.logdet(cov_p)
    return 0.5 * (ratio - len(mean_p) + torch.trace(inverse @ cov_p) + apart @ inverse @ apart)


def test_gaussian_kl_has_a_ratio_of_determinants():
    """The general formula before (1.90), against the mean of the log-ratio by quadrature, for covariances that differ."""
    stream = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=stream)  # noqa: E731
    means = [draw(3), draw(3)]
    roots = [torch.tril(draw(3, 3), -1) + torch.diag(0.5 + draw(3).abs()) for _ in range(2)]
    p, other = (MultivariateNormal(m, scale_tril=root) for m, root in zip(means, roots, strict=True))
    noise, share = rule("abc", 3)
    at = means[0] + torch.cat(list(noise.values()), 1) @ roots[0].T
    mean_ratio = (share * (p.log_prob(at) - other.log_prob(at))).sum()
    written = gaussian_kl(means[0], roots[0] @ roots[0].T, means[1], roots[1] @ roots[1].T)
    assert torch.allclose(written, mean_ratio, rtol=1e-10)


def test_equal_variances_leave_the_distance_of_the_means():
    """(1.90)–(1.95), for the posterior and the reverse kernel that the code makes: ‖·‖² is a sum of squares."""
    gamma_s, gamma_t = gammas(2)
    x_0, x_t = (torch.tensor([row], dtype=torch.float64) for row in ([0.3, -0.8, 0.1], [1.1, 0.2, -0.5]))
    posterior = q.posterior(x_0, x_t, gamma_s, gamma_t)
    reverse = FORWARD.reverse(bent(x_t, gamma_t).x_0, x_t, gamma_s, gamma_t)
    assert torch.equal(posterior.variance, reverse.variance)
    sigma2 = posterior.variance[0, 0]
    covariance = sigma2 * torch.eye(3, dtype=torch.float64)
    apart = (reverse.mean - posterior.mean)[0]
    forms = {
        "1.91": gaussian_kl(posterior.mean[0], covariance, reverse.mean[0], covariance),
        "1.93": 0.5 * apart @ torch.linalg.inv(covariance) @ apart,
        "1.95": apart.square().sum() / (2 * sigma2),
    }
    kl = denoising_kl(x_0, bent(x_t, gamma_t).x_0, gamma_s, gamma_t)
    assert all(value.item() == pytest.approx(kl.item(), rel=1e-10) for value in forms.values()), forms


WEIGHTS = {
    "1.97": lambda w, x, y: ((w.mean(2, y) - w.mean(2, x)) ** 2) / (2 * w.variance(2)),
    "1.98": lambda w, x, y: (
        ((math.sqrt(w.bar(1)) * (1 - w.alpha(2)) * y - math.sqrt(w.bar(1)) * (1 - w.alpha(2)) * x) / (1 - w.bar(2))) ** 2
        / (2 * w.variance(2))
    ),
    "1.99": lambda w, x, y: (math.sqrt(w.bar(1)) * (1 - w.alpha(2)) / (1 - w.bar(2)) * (y - x)) ** 2 / (2 * w.variance(2)),
    "1.100": lambda w, x, y: w.bar(1) * (1 - w.alpha(2)) ** 2 / (1 - w.bar(2)) ** 2 * (y - x) ** 2 / (2 * w.variance(2)),
    "1.102": lambda w, x, y: (
        (w.bar(1) * (1 - w.alpha(2)) ** 2 / (1 - w.bar(2)) ** 2 * (y - x) ** 2)
        / (2 * (1 - w.alpha(2)) * (1 - w.bar(1)) / (1 - w.bar(2)))
    ),
    "1.103": lambda w, x, y: 0.5 * w.bar(1) * (1 - w.alpha(2)) / ((1 - w.bar(1)) * (1 - w.bar(2))) * (y - x) ** 2,
    "1.104": lambda w, x, y: 0.5 * (w.bar(1) - w.bar(2)) / ((1 - w.bar(1)) * (1 - w.bar(2))) * (y - x) ** 2,
}


@pytest.mark.parametrize("equation", WEIGHTS)
def test_every_weight_gives_the_denoising_kl(equation):
    """(1.97)–(1.104) term by term, written with α_t and ᾱ_t."""
    path = path_densities(2, bent, Draws(1), 20)
    gamma_s, gamma_t = gammas(2)
    x_hat = bent(path.x[2], gamma_t).x_0
    written = WEIGHTS[equation](path, path.x[0], x_hat).squeeze(1)
    assert torch.allclose(written, denoising_kl(path.x[0], x_hat, gamma_s, gamma_t), rtol=1e-10)


def test_discrete_weight_converges_to_the_continuous_one():
    """(T − 1)(SNR(s) − SNR(t)) → γ′(t) SNR(t), with an error like 1/T: the limit of (1.104)."""
    schedule = CosineSchedule(*ENDS)
    errors = []
    for timesteps in (201, 401, 801):
        u = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        discrete = DiscreteTime(timesteps).gamma_and_weight(schedule, u - 1e-9)  # steps that end at t = u
        continuous = ContinuousTime().gamma_and_weight(schedule, u)
        assert torch.allclose(discrete.gamma_t, continuous.gamma_t)
        assert torch.allclose(continuous.weight, schedule.rate(u) * snr(schedule(u)))
        errors.append((discrete.weight / continuous.weight - 1).abs().max().item())
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)
