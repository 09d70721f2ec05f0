"""The probability flow against exact densities, and its bounds on integer levels."""

import math

import pytest
import torch

from support.catalogue import concrete
from support.given_draws import GivenDraws
from support.oracles import GaussianData, Mixture
from vdm.batch import Batch
from vdm.divergence import Divergence, ExactDivergence, HutchinsonDivergence
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.evaluation.dequantisation import (
    NoDequantisation,
    SeveralDequantisations,
    TruncatedNormalDequantisation,
    UniformDequantisation,
)
from vdm.evaluation.flow import FlowLikelihood, flow_log_prob
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood
from vdm.models import VDM
from vdm.schedules import CosineSchedule, LinearSchedule

GAUSSIAN = GaussianData(torch.tensor([0.3, -0.2]).double(), torch.tensor([0.25, 0.02]).double())
MIXTURE = Mixture(
    torch.tensor([0.3, 0.5, 0.2]).double(), torch.tensor([[-0.8, 0.1], [0.4, 0.6], [0.5, -0.7]]).double(), 0.01
)


def density(data, schedule, x, divergence, tolerance=1e-7, seed=0):
    probes = divergence.probes(Draws(seed), x)
    return flow_log_prob(schedule, data.denoiser, x, divergence, probes, tolerance).log_prob


@pytest.mark.parametrize("schedule", [LinearSchedule(-6.0, 18.0), CosineSchedule(-6.0, 18.0)])
@pytest.mark.parametrize("data", [GAUSSIAN, MIXTURE])
class TestExactDensities:
    def test_flow_log_prob_matches_exact_density(self, data, schedule):
        x = torch.cat([data.sample(20), torch.tensor([[1.5, -1.5], [0.0, 0.0]]).double()])
        truth = data.smoothed_log_prob(x, torch.full((22,), -6.0).double())
        assert (density(data, schedule, x, ExactDivergence()) - truth).abs().max() < 1e-3

    def test_hutchinson_is_unbiased(self, data, schedule):
        """Each probe has its own trajectory; the mean log density over probes is exact within 4 standard errors."""
        x = data.sample(1, seed=5).expand(400, 2).contiguous()
        exact = density(data, schedule, x[:1], ExactDivergence(), 1e-5)
        probed = density(data, schedule, x, HutchinsonDivergence(), 1e-5)
        assert abs(probed.mean() - exact.item()) < 4 * probed.std() / 20 + 1e-3


@pytest.mark.parametrize("divergence", sorted(concrete(Divergence), key=lambda c: c.__name__))
class TestEveryDivergence:
    def test_divergence_of_linear_field_is_trace(self, divergence):
        torch.manual_seed(0)
        matrix = torch.randn(3, 3).double()
        x = torch.randn(1, 3).double().expand(20_000, 3)
        y, trace = divergence()(lambda x: x @ matrix.T, x, divergence().probes(Draws(1), x))
        assert torch.allclose(y, x @ matrix.T)
        assert abs(trace.mean() - matrix.trace()) < 4 * trace.std() / len(x) ** 0.5 + 1e-12

    def test_divergence_works_under_no_grad(self, divergence):
        with torch.no_grad():
            x = torch.ones(4, 1, 2, 2)
            y, trace = divergence()(torch.sin, x, divergence().probes(Draws(1), x))
        assert not y.requires_grad
        assert torch.allclose(trace, torch.full((4,), 4 * math.cos(1)))


def level_model(levels=4, gamma_min=-6.0):
    """A model of integer levels with the denoiser of a 1-D Gaussian: the tests hold for any density p(x_1)."""
    data = GaussianData.isotropic(0.1, 0.2, (1,))
    return VDM(LinearSchedule(gamma_min, 12.0), data.denoiser, CategoricalLikelihood(levels), ContinuousTime()), data


@pytest.mark.parametrize("dequantisation", [UniformDequantisation(), TruncatedNormalDequantisation()])
@pytest.mark.parametrize("gamma_min", [-6.0, -3.0])
class TestDequantisation:
    def test_density_integrates_to_one_over_bin(self, dequantisation, gamma_min):
        """On a fine grid of uniforms x_1 covers the level's bin, and ∫ q dx_1 = 1."""
        n, levels = 20_001, 4
        gamma = torch.full((n,), gamma_min).double()
        signal = math.sqrt(1 / (1 + math.exp(gamma_min)))
        grid = torch.special.ndtri(torch.linspace(1e-9, 1 - 1e-9, n, dtype=torch.float64))[:, None]
        for k in range(levels):
            x = torch.full((n, 1), float(k)).double()
            x_1, log_q = dequantisation(CategoricalLikelihood(levels), x, gamma, GivenDraws({"dequantise": grid}))
            low, high = signal * (2 * k / levels - 1), signal * (2 * (k + 1) / levels - 1)
            assert low <= x_1.min()
            assert x_1.max() <= high
            assert abs(torch.trapezoid(log_q.exp(), x_1[:, 0]) - 1) < 1e-3

    def test_level_probabilities_sum_to_at_most_one(self, dequantisation, gamma_min):
        """Σ_k exp(bound on log P(k)) ≤ 1, and each bound is below the probability of its bin."""
        model, _ = level_model(gamma_min=gamma_min)
        estimator = FlowLikelihood(ExactDivergence(), dequantisation, repeats=10, tolerance=1e-5)
        total = 0.0
        for k in range(4):
            batch = Batch(torch.full((25, 1), k), torch.arange(25))
            estimate = estimator(model, batch, lambda done: None)[0].terms["bits_per_dim"]
            signal2 = 1 / (1 + math.exp(gamma_min))
            smoothed = torch.distributions.Normal(signal2**0.5 * 0.1, (signal2 * 0.2 + 1 - signal2) ** 0.5)
            edges = signal2**0.5 * torch.tensor([2 * k / 4 - 1, 2 * (k + 1) / 4 - 1])
            mass = smoothed.cdf(edges).diff().item()
            assert -estimate.value - 4 * estimate.mc_se <= math.log2(mass)
            total += 2 ** (-estimate.value)
        assert total <= 1.0

    def test_bound_rises_with_the_draws(self, dequantisation, gamma_min):
        """With K draws the bound is between that of one and the bin's probability."""
        model, _ = level_model(gamma_min=gamma_min)
        batch, values = Batch(torch.full((40, 1), 2), torch.arange(40)), []
        for k in (1, 8):
            several = SeveralDequantisations(dequantisation, k)
            result = FlowLikelihood(ExactDivergence(), several, tolerance=1e-4)(model, batch, lambda done: None)[0]
            values.append(-result.terms["bits_per_dim"].value)
            error = result.terms["bits_per_dim"].mc_se
        signal2 = 1 / (1 + math.exp(gamma_min))
        smoothed = torch.distributions.Normal(signal2**0.5 * 0.1, (signal2 * 0.2 + 1 - signal2) ** 0.5)
        exact = math.log2(smoothed.cdf(signal2**0.5 * torch.tensor([0.0, 0.5])).diff().item())
        assert values[0] < values[1] < exact + 4 * error

    def test_real_data_are_refused(self, dequantisation, gamma_min):
        with pytest.raises(InvalidInput, match="dequantisation=none"):
            dequantisation(GaussianLikelihood(), torch.zeros(1, 1), torch.full((1,), gamma_min), Draws())


class TestFlowLikelihood:
    def test_real_data_match_exact_density(self):
        """The estimate, in bits/dim, is of the density of x_1/√ᾱ_1."""
        data, schedule = GAUSSIAN, LinearSchedule(-6.0, 12.0)
        model = VDM(schedule, data.denoiser, GaussianLikelihood(), ContinuousTime())
        x = data.sample(30)
        result = FlowLikelihood(ExactDivergence(), NoDequantisation(), 1e-7)(
            model, Batch(x, torch.arange(30)), lambda done: None
        )[0]
        gamma = torch.full((30,), -6.0).double()
        root = torch.sigmoid(-gamma[:1]).sqrt()
        truth = -(data.smoothed_log_prob(root * x, gamma) + 2 * root.log()) / (2 * math.log(2))
        assert abs(result.terms["bits_per_dim"].value - truth.mean().item()) < 1e-3
        assert result.terms["bits_per_dim"].mc_se == 0  # no random draws
        assert abs(result.facts["change_on_halving"]["largest"]) < 1e-5

    def test_change_on_halving_falls_with_tolerance(self):
        model, _ = level_model()
        batch = Batch(torch.randint(4, (20, 1)), torch.arange(20))
        changes = [
            FlowLikelihood(ExactDivergence(), UniformDequantisation(), tolerance)(model, batch, lambda done: None)[0].facts[
                "change_on_halving"
            ]["largest"]
            for tolerance in (1e-2, 1e-5)
        ]
        assert changes[1] < changes[0]

    def test_levels_without_dequantisation_are_refused(self):
        model, _ = level_model()
        estimator = FlowLikelihood(ExactDivergence(), NoDequantisation())
        with pytest.raises(InvalidInput, match="truncated_normal or uniform"):
            estimator(model, Batch(torch.zeros(2, 1), torch.arange(2)), lambda done: None)

    def test_tolerance_out_of_range_is_refused(self):
        with pytest.raises(InvalidInput, match="tolerance"):
            FlowLikelihood(ExactDivergence(), NoDequantisation(), tolerance=0.0)


def test_several_draws_need_the_exact_divergence():
    """The mean of e^noise is above 1: with a random probe the K-draw number would be no bound."""
    model, _ = level_model()
    estimator = FlowLikelihood(HutchinsonDivergence(), SeveralDequantisations(UniformDequantisation(), 2))
    with pytest.raises(InvalidInput, match="divergence=exact"):
        estimator(model, Batch(torch.zeros(2, 1), torch.arange(2)), lambda done: None)
