"""The discretised Gaussian against its definition, its variances, and what it saves under DDPM's schedule."""

import math

import numpy as np
import pytest
import torch
from scipy import special

from vdm.elbo import reconstruction
from vdm.errors import InvalidInput
from vdm.gamma import align, alpha_bar, sigma2, snr
from vdm.likelihoods import (
    CategoricalLikelihood,
    DiscretisedGaussianLikelihood,
    DiscretisedNormal,
    LearnedVariance,
    PosteriorVariance,
)
from vdm.likelihoods.discretised import log_ndtr
from vdm.parameterisations import Prediction
from vdm.process import q_sample


class TestDiscretisedNormal:
    @pytest.mark.parametrize("scale", [1e-3, 1e-2, 0.3, 10.0])
    def test_mass_of_every_bin(self, scale):
        """Against scipy's log Φ on either side of the mean, in float64."""
        mean = torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)
        edges = np.linspace(-1, 1, 65)
        z = (np.concatenate([[-np.inf], edges[1:-1], [np.inf]]) - mean.numpy()[:, None]) / scale
        swap = z[:, 1:] + z[:, :-1] > 0
        high, low = np.where(swap, -z[:, :-1], z[:, 1:]), np.where(swap, -z[:, 1:], z[:, :-1])
        expected = special.log_ndtr(high) + np.log1p(-np.exp(special.log_ndtr(low) - special.log_ndtr(high)))
        given = DiscretisedNormal(mean[:, None].expand(-1, 64), torch.full((31, 64), scale**2, dtype=torch.float64), 64)
        assert np.allclose(given.log_prob(torch.arange(64).expand(31, -1)), expected, rtol=1e-9)

    @pytest.mark.parametrize("scale", [1e-3, 1e-2, 0.3, 3.0])
    def test_float32_agrees_with_float64(self, scale):
        """Within 1e-3 relative: the distance to an edge is a difference of numbers of order one, over σ."""
        mean = torch.linspace(-1.0, 1.0, 41)[:, None].expand(-1, 256)
        x = torch.arange(256).expand(41, -1)
        exact = DiscretisedNormal(mean.double(), torch.full_like(mean, scale**2).double(), 256).log_prob(x)
        single = DiscretisedNormal(mean, torch.full_like(mean, scale**2), 256).log_prob(x)
        assert torch.allclose(single.double(), exact, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_log_ndtr_and_its_gradient(self, dtype):
        """The slope φ/Φ tends to −z in the lower tail: √(2/π)/erfcx(−z/√2)."""
        z = torch.tensor([-1e6, -1e4, -1e3, -30.0, -1.0, -1e-3, 0.5, 3.0, 30.0], dtype=dtype, requires_grad=True)
        value = log_ndtr(z)
        value.sum().backward()
        exact = z.detach().double().numpy()
        slope = torch.from_numpy(math.sqrt(2 / math.pi) / special.erfcx(-exact * math.sqrt(0.5)))
        rtol = 10 * torch.finfo(dtype).eps
        assert torch.allclose(value.double(), torch.from_numpy(special.log_ndtr(exact)), rtol=rtol, atol=rtol)
        assert torch.allclose(z.grad.double(), slope, rtol=rtol, atol=rtol)

    def test_mode_at_large_variance_is_an_end(self):
        wide = DiscretisedNormal(torch.tensor([0.1, -0.1]), torch.tensor([25.0, 25.0]), 9)
        assert wide.mode.tolist() == [8, 0]


class TestVariance:
    def test_posterior_variance_is_the_gaussian_one(self):
        """1/σ² = 1/s² + SNR: precisions add; and s = 1 gives DDPM's β_1 = 1 − ᾱ_1."""
        gamma = torch.linspace(-13, 5, 7, dtype=torch.float64)
        assert torch.allclose(1 / PosteriorVariance(0.4)(gamma), 1 / 0.4**2 + snr(gamma))
        assert torch.allclose(PosteriorVariance(1.0)(gamma), sigma2(gamma))

    def test_learned_variance_starts_at_the_noise(self):
        gamma = torch.tensor([-9.2, 1.0], dtype=torch.float64)
        assert torch.allclose(LearnedVariance()(gamma), sigma2(gamma) / alpha_bar(gamma))

    def test_learned_variance_is_best_at_the_posterior_one(self):
        """With the ideal denoiser of Gaussian data, bins narrow against σ: the score of ℓ, ½(z² − 1), has mean 0 there."""
        likelihood = DiscretisedGaussianLikelihood(4096, LearnedVariance()).double()
        stream, gamma_1, s, n = torch.Generator().manual_seed(1), torch.tensor([-2.0], dtype=torch.float64), 0.2, 20_000
        x_0 = s * torch.randn(n, 1, dtype=torch.float64, generator=stream)
        x = ((x_0 + 1) * 2048).floor().clamp(0, 4095)
        x_1 = q_sample(x_0, torch.randn(x_0.shape, dtype=torch.float64, generator=stream), gamma_1)
        posterior = PosteriorVariance(s)(gamma_1)

        def ideal(x_t, gamma_t):
            gain = align(alpha_bar(gamma_t).sqrt() * posterior / sigma2(gamma_t), x_t)
            return Prediction.from_x_0(gain * x_t, x_t, gamma_t)

        with torch.no_grad():
            likelihood.variance.log_ratio += (posterior.log() - gamma_1)[0]
        likelihood.log_prob(x, x_1, gamma_1, ideal).mean().backward()
        assert likelihood.variance.log_ratio.grad.abs() < 4 * math.sqrt(0.5 / n)

    def test_zero_deviation_is_refused(self):
        with pytest.raises(InvalidInput, match="sigma_data"):
            PosteriorVariance(0.0)


class TestRandomPixelsUnderDDPM:
    """A finite set of images of independent uniform pixels with 256 levels, DDPM's first step γ_1 = log expm1(−log α_1).

    The ideal denoiser of a finite set is the softmax-weighted mean of its images: at γ_1 it has found the image out, so a
    likelihood that looks at x̂_0 has nothing left to code. The factorised categorical looks at one pixel at a time and
    pays what the noise hides of it, 2.39 bits/dim. (For a *fresh* image no denoiser could do better than that: pixels
    that say nothing of each other leave the categorical exact.)
    """

    gamma_1 = torch.tensor([math.log(math.expm1(-math.log1p(-1e-4)))], dtype=torch.float64)

    def draw(self):
        stream = torch.Generator().manual_seed(0)
        x = torch.randint(256, (64, 3, 16, 16), generator=stream)
        eps = torch.randn(x.shape, dtype=torch.float64, generator=stream)
        return x, eps

    def ideal(self, points):
        def denoise(x_t, gamma_t):
            signal, noise2 = align(alpha_bar(gamma_t).sqrt(), x_t), align(sigma2(gamma_t), x_t)
            squares = ((x_t[:, None] - signal[:, None] * points).square() / noise2[:, None]).flatten(2).sum(2)
            share = torch.softmax(-0.5 * squares, 1)
            return Prediction.from_x_0(torch.einsum("bn,n...->b...", share, points), x_t, gamma_t)

        return denoise

    def bits(self, likelihood, x, eps):
        points = likelihood.encode(x.double())
        nats = -reconstruction(likelihood, x.double(), points, eps, self.gamma_1.expand(len(x)), self.ideal(points))
        return nats / (math.log(2) * points[0].numel())

    def test_categorical_costs_the_posterior_entropy(self):
        """2.39 bits/dim, within four standard errors over the 64 images; a mean over levels as well."""
        cost = self.bits(CategoricalLikelihood(256), *self.draw())
        assert abs(cost.mean() - 2.389) < 4 * cost.std() / math.sqrt(len(cost)) + 5e-4

    def test_learned_variance_costs_nothing(self):
        """It beats the categorical by all of it, about 2.4 bits/dim."""
        x, eps = self.draw()
        likelihood = DiscretisedGaussianLikelihood(256, LearnedVariance()).double()
        optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.3)
        for _ in range(30):
            optimizer.zero_grad()
            self.bits(likelihood, x[:4], eps[:4]).mean().backward()
            optimizer.step()
        cost = self.bits(likelihood, x, eps).mean()
        categorical = self.bits(CategoricalLikelihood(256), x, eps).mean()
        assert cost < 0.01
        assert 2.3 < categorical - cost < 2.45

    def test_fixed_variance_keeps_its_cost(self):
        """σ² = 1 − ᾱ_1 is the posterior's for unit-variance Gaussians: half a bin is 0.39 σ, −log2 P = 1.72."""
        x, eps = self.draw()
        cost = self.bits(DiscretisedGaussianLikelihood(256, PosteriorVariance(1.0)), x, eps).mean()
        inside = special.ndtr(1 / 256 / 0.01) - special.ndtr(-1 / 256 / 0.01)
        assert abs(cost + math.log2(inside)) < 0.02
