"""The forward process: (1.33)–(1.34), (1.63)–(1.89)."""

import pytest
import torch
from torch.distributions import kl_divergence

from vdm.elbo import denoising_kl
from vdm.gamma import align, alpha_bar, sigma2, snr, snr_difference
from vdm.process import ForwardProcess

TRIPLES = [(-13.3, -13.0, -12.0), (-8.0, -3.0, 1.0), (-1.0, 0.0, 5.0), (-13.3, 0.0, 12.0)]
q = ForwardProcess()


def levels(*gammas, n=5):
    return [torch.full((n,), gamma, dtype=torch.float64) for gamma in gammas]


def data(seed=0, n=5):
    return torch.randn(n, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gammas", TRIPLES)
def test_transitions_compose_to_transitions(gammas):
    """q(x_u | x_s) by way of x_t: mean and variance of the composition, in closed form."""
    s, t, u = levels(*gammas)
    x = data()
    first, direct = q.transition(x, s, t), q.transition(x, s, u)
    second = q.transition(first.mean, t, u)
    signal2 = align(alpha_bar(u) / alpha_bar(t), x)
    assert torch.allclose(second.mean, direct.mean, rtol=1e-12)
    assert torch.allclose(signal2 * first.variance + second.variance, direct.variance, rtol=1e-10)


@pytest.mark.parametrize("gammas", TRIPLES)
def test_transition_after_marginal_is_the_marginal(gammas):
    s, _, u = levels(*gammas)
    x = data()
    at_s = q.marginal(x, s)
    step = q.transition(at_s.mean, s, u)
    at_u = q.marginal(x, u)
    assert torch.allclose(step.mean, at_u.mean, rtol=1e-12)
    assert torch.allclose(align(alpha_bar(u) / alpha_bar(s), x) * at_s.variance + step.variance, at_u.variance, rtol=1e-10)


@pytest.mark.parametrize("gammas", TRIPLES)
def test_posterior_is_bayes_rule(gammas):
    """log q(x_s | x_t, x_0) = log q(x_t | x_s) + log q(x_s | x_0) − log q(x_t | x_0) at random points: (1.74)."""
    s, t, _ = levels(*gammas)
    x_0 = data(0)
    x_t = q.marginal(x_0, t).mean + align(sigma2(t).sqrt(), x_0) * data(1)
    posterior = q.posterior(x_0, x_t, s, t)
    x_s = posterior.mean + posterior.stddev * data(2)
    bayes = q.transition(x_s, s, t).log_prob(x_t) + q.marginal(x_0, s).log_prob(x_s) - q.marginal(x_0, t).log_prob(x_t)
    assert torch.allclose(posterior.log_prob(x_s), bayes, rtol=1e-8)


def test_posterior_matches_the_written_form():
    """(1.88) and (1.89) with the chapter's α_t and ᾱ_t."""
    s, t = levels(-2.0, 1.0)
    x_0, x_t = data(0), data(1)
    bar_s, bar_t = alpha_bar(s)[0], alpha_bar(t)[0]
    alpha = bar_t / bar_s
    mean = (alpha.sqrt() * (1 - bar_s) * x_t + bar_s.sqrt() * (1 - alpha) * x_0) / (1 - bar_t)
    variance = (1 - alpha) * (1 - bar_s) / (1 - bar_t)
    posterior = q.posterior(x_0, x_t, s, t)
    assert torch.allclose(posterior.mean, mean, rtol=1e-12)
    assert torch.allclose(posterior.variance, variance.expand_as(x_0), rtol=1e-12)


@pytest.mark.parametrize("gammas", TRIPLES)
def test_kl_is_the_snr_weighted_error(gammas):
    """KL between posterior and reverse kernel = ½ (SNR(s) − SNR(t)) ‖x̂_0 − x_0‖²: (1.90)–(1.104), to 1e-10."""
    s, t, _ = levels(*gammas)
    x_0, x_t = data(0), data(1)
    x_hat = x_0 + 0.1 * data(2)
    kl = kl_divergence(q.posterior(x_0, x_t, s, t), q.posterior(x_hat, x_t, s, t))
    assert torch.allclose(denoising_kl(x_0, x_hat, s, t), kl, rtol=1e-10)


def test_weight_matches_the_written_form():
    """½ (ᾱ_{t−1} − ᾱ_t) / ((1 − ᾱ_{t−1})(1 − ᾱ_t)) of (1.104) is ½ (SNR(t−1) − SNR(t))."""
    s, t = levels(-2.0, 1.0)
    chapter = (alpha_bar(s) - alpha_bar(t)) / ((1 - alpha_bar(s)) * (1 - alpha_bar(t)))
    assert torch.allclose(snr_difference(s, t), chapter, rtol=1e-12)
    assert torch.allclose(snr_difference(s, t), snr(s) - snr(t), rtol=1e-12)


def test_gamma_may_differ_by_pixel():
    """γ of shape (B, *event) acts on each dimension by itself."""
    x_0, x_t = data(0), data(1)
    s = torch.linspace(-8, 0, x_0.numel(), dtype=torch.float64).view_as(x_0)
    t = s + 1.5
    whole = q.posterior(x_0, x_t, s, t)
    for place in ((0, 0, 0), (2, 1, 3), (4, 2, 0)):
        b, i, j = place
        cell = (slice(b, b + 1), slice(i, i + 1), slice(j, j + 1))
        one = q.posterior(x_0[cell], x_t[cell], s[place].view(1), t[place].view(1))
        assert torch.allclose(whole.mean[cell], one.mean, rtol=1e-12)
        assert torch.allclose(whole.variance[cell], one.variance, rtol=1e-12)
