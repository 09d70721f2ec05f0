"""Laws of every likelihood, found from the configs: each sums or integrates to one, and draws what it says."""

import math
from functools import cache

import pytest
import torch

from support.catalogue import options, part
from vdm.draws import Draws
from vdm.errors import InvalidInput
from vdm.gamma import alpha_bar, sigma2
from vdm.levels import LARGEST_GAP, level_log_prob, level_logits, level_mean, level_to_real, real_to_level
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood, LevelLikelihood
from vdm.parameterisations import Prediction
from vdm.process import q_sample

GAMMAS = [-13.3, -8.0, -2.0, 4.0]
LEVELS = [
    name for name in options("likelihood") if isinstance(part("model.likelihood", f"likelihood={name}"), LevelLikelihood)
]


@cache
def build(name, levels=17):
    return part("model.likelihood", f"likelihood={name}", f"levels={levels}").double()


LEVELS = [name for name in options("likelihood") if isinstance(build(name), LevelLikelihood)]


def denoise(x_t, gamma_t):
    """Any function will do: a likelihood is normalised whatever the network says."""
    return Prediction.from_x_0(1.3 * torch.sin(2 * x_t), x_t, gamma_t)


def support(likelihood, x_1, gamma_1):
    """Every value of one dimension, and the measure of each: 1 for a level, a cell's length for a real number."""
    if isinstance(likelihood, LevelLikelihood):
        return torch.arange(likelihood.levels), 1.0
    centre = likelihood.mode(x_1, gamma_1, denoise).item()
    reach = 12 * math.exp(gamma_1.item() / 2)
    return torch.linspace(centre - reach, centre + reach, 20_001, dtype=x_1.dtype), 2 * reach / 20_000


def log_probs(likelihood, values, x_1, gamma_1):
    """log p(value | x_1) of each value of one dimension, given one x_1."""
    n = len(values)
    return likelihood.log_prob(values[:, None], x_1.expand(n, 1), gamma_1.expand(n), denoise)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("name", options("likelihood"))
class TestEveryLikelihood:
    @pytest.mark.parametrize("place", [-1.7, -0.98, 0.03, 0.4, 1.2])
    def test_sums_or_integrates_to_one(self, name, gamma, place):
        likelihood = build(name)
        x_1, gamma_1 = torch.tensor([[place]], dtype=torch.float64), torch.tensor([gamma], dtype=torch.float64)
        values, measure = support(likelihood, x_1, gamma_1)
        total = (log_probs(likelihood, values, x_1, gamma_1).exp() * measure).sum()
        assert abs(total.item() - 1) < 1e-9

    @pytest.mark.parametrize("place", [-1.7, 0.03, 1.2])
    def test_mode_is_the_most_probable(self, name, gamma, place):
        likelihood = build(name)
        x_1, gamma_1 = torch.tensor([[place]], dtype=torch.float64), torch.tensor([gamma], dtype=torch.float64)
        values, _ = support(likelihood, x_1, gamma_1)
        mode = likelihood.mode(x_1, gamma_1, denoise)
        assert log_probs(likelihood, mode[0], x_1, gamma_1) >= log_probs(likelihood, values, x_1, gamma_1).max()

    def test_draws_have_its_frequencies(self, name, gamma):
        """The frequencies of 20,000 draws below nine thresholds, within 4.5 standard errors."""
        likelihood, n = build(name), 20_000
        x_1, gamma_1 = torch.tensor([[0.37]], dtype=torch.float64), torch.tensor([gamma], dtype=torch.float64)
        values, measure = support(likelihood, x_1, gamma_1)
        cdf = (log_probs(likelihood, values, x_1, gamma_1).exp() * measure).cumsum(0)
        drawn = likelihood.decode(x_1.expand(n, 1), gamma_1.expand(n), denoise, Draws(3))
        for level in torch.arange(1, 10) / 10:
            place = int(torch.searchsorted(cdf, level.double()).clamp(max=len(cdf) - 1))
            expected = min(cdf[place].item(), 1.0)
            frequency = (drawn <= values[place]).double().mean().item()
            assert abs(frequency - expected) <= 4.5 * math.sqrt(expected * (1 - expected) / n) + 2e-3 * (measure != 1)

    def test_examples_are_independent(self, name, gamma):
        """log p of (B, *event) is the sum over dimensions of each alone; γ_1 may be given per example or dimension."""
        likelihood, stream = build(name), torch.Generator().manual_seed(0)
        x_1 = torch.randn(4, 2, 3, dtype=torch.float64, generator=stream)
        x = torch.randint(17, x_1.shape, generator=stream)
        x = x if isinstance(likelihood, LevelLikelihood) else x / 17
        gamma_1 = gamma + 0.1 * torch.rand(4, dtype=torch.float64, generator=stream)
        whole = likelihood.log_prob(x, x_1, gamma_1, denoise)
        per_dimension = gamma_1[:, None, None].expand_as(x_1)
        apart = likelihood.log_prob(x.reshape(-1, 1), x_1.reshape(-1, 1), per_dimension.reshape(-1), denoise)
        assert torch.allclose(whole, apart.reshape(4, -1).sum(1))
        assert torch.allclose(whole, likelihood.log_prob(x, x_1, per_dimension, denoise))

    def test_finite_in_float32_for_any_network_output(self, name, gamma):
        """Value and gradient, for every level and for x_1 and x̂_0 from next to the data to far away."""
        likelihood = part("model.likelihood", f"likelihood={name}", "levels=256")
        x_1 = torch.tensor([-1e4, -50.0, -1.0, 0.0, 1e-3, 1.0, 50.0, 1e4]).repeat_interleave(256)[:, None].requires_grad_()
        x = torch.arange(256).repeat(8)[:, None]
        x = x if isinstance(likelihood, LevelLikelihood) else x / 256
        value = likelihood.log_prob(
            x, x_1, torch.full((len(x),), gamma), lambda x_t, gamma_t: Prediction.from_x_0(-x_t, x_t, gamma_t)
        )
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert torch.isfinite(x_1.grad).all()
        assert all(torch.isfinite(p.grad).all() for p in likelihood.parameters())


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("name", LEVELS)
class TestEveryLevelLikelihood:
    def test_mode_of_encode_is_the_data(self, name, levels):
        likelihood, x = build(name, levels), torch.arange(levels)[:, None]
        x_0, gamma_1 = likelihood.encode(x).double(), torch.full((levels,), -13.3, dtype=torch.float64)
        x_1 = q_sample(x_0, torch.zeros_like(x_0), gamma_1)

        def ideal(x_t, gamma_t):
            return Prediction.from_x_0(x_0, x_t, gamma_t)

        assert torch.equal(likelihood.mode(x_1, gamma_1, ideal), x)

    def test_centres(self, name, levels):
        centres = build(name, levels).encode(torch.arange(levels).double())
        assert torch.allclose(centres, 2 * (torch.arange(levels) + 0.5).double() / levels - 1)
        assert centres.abs().max() < 1

    def test_refuses_values_that_are_not_levels(self, name, levels):
        likelihood = build(name, levels)
        likelihood.check(torch.tensor([[0, levels - 1]]))
        for bad in (torch.tensor([[levels]]), torch.tensor([[-1]])):
            with pytest.raises(InvalidInput, match="integer levels"):
                likelihood.check(bad)
        with pytest.raises(InvalidInput, match="fractions"):
            likelihood.check(torch.tensor([[0.5]]))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_nearest_level_has_the_real_in_its_bin(levels):
    """Centres map back, bins are [2k/K − 1, 2(k + 1)/K − 1), and what lies beyond belongs to the ends."""
    k = torch.arange(levels)
    lower = level_to_real(k.double() - 0.5, levels)
    assert torch.equal(real_to_level(level_to_real(k, levels), levels), k)
    assert torch.equal(real_to_level(lower + 1e-9, levels), k)
    assert torch.equal(real_to_level(lower[1:] - 1e-9, levels), k[:-1])
    assert real_to_level(torch.tensor([-7.0, -1.0, 1.0, 7.0]), levels).tolist() == [0, 0, levels - 1, levels - 1]


def test_refuses_too_few_levels():
    with pytest.raises(InvalidInput, match="likelihood=gaussian"):
        CategoricalLikelihood(0)


def test_density_refuses_levels_and_nan():
    likelihood = GaussianLikelihood()
    with pytest.raises(InvalidInput, match="integer levels"):
        likelihood.check(torch.tensor([[3]]))
    with pytest.raises(InvalidInput, match="NaN"):
        likelihood.check(torch.tensor([[float("nan")]]))


@pytest.mark.parametrize("cached", [1, 100, 2**16])
@pytest.mark.parametrize("gammas", [[-6.0, -1.0, 3.0], [-12.0, -11.0, -10.0], [-7.0, -6.0, -6.0]], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_level_sums_do_not_depend_on_pieces(cached, gammas, channels_last, monkeypatch):
    """Bayes' rule from the whole table of pixels and levels, whatever part is worked on at a time; gradients as well.

    In float64 nothing of what ``level_mean`` leaves out below e⁻⁷² shows, were the evidence not as large.
    """
    monkeypatch.setattr("vdm.levels.CACHED", cached)
    stream = torch.Generator().manual_seed(0)
    x_t, evidence = (torch.randn(shape, generator=stream).double() for shape in ((3, 2, 5), (3, 2, 5, 31)))
    evidence = evidence.transpose(1, 2).contiguous().transpose(1, 2) if channels_last else evidence
    x = torch.randint(31, (3, 2, 5), generator=stream)
    gamma_t = torch.tensor(gammas).double().requires_grad_()
    prior = torch.log_softmax(torch.randn(31, generator=stream).double(), 0)
    gamma, centres = gamma_t.view(3, 1, 1, 1), level_to_real(torch.arange(31).double(), 31)
    logits = -0.5 * (x_t.unsqueeze(-1) - alpha_bar(gamma).sqrt() * centres).square() / sigma2(gamma)
    mean = torch.softmax(logits + prior + evidence, -1) @ centres
    log_prob = torch.log_softmax(logits, -1).gather(-1, x.unsqueeze(-1)).squeeze(-1)
    for piecewise, whole in (
        (level_mean(x_t, gamma_t, prior, evidence), mean),
        (level_log_prob(x, x_t, gamma_t, 31), log_prob),
    ):
        assert torch.allclose(piecewise, whole, rtol=1e-12)
        assert piecewise.is_contiguous()
        (slope,), (expected,) = (torch.autograd.grad(y.sum(), gamma_t, retain_graph=True) for y in (piecewise, whole))
        assert torch.allclose(slope, expected, rtol=1e-10)


@pytest.mark.parametrize("gamma", [-20.0, -13.3, 0.0, 5.0])
def test_logit_gap_is_bounded(gamma):
    """However fine the noise, and wherever x_t lies: between two levels, on one, or far outside of all."""
    x_t = torch.tensor([[-50.0, -1.0, -0.6, 0.0, 1 / 16, 0.99, 3.0]])
    logits = level_logits(x_t, torch.tensor([gamma]).double(), 16)
    x_0 = x_t / alpha_bar(torch.tensor(gamma)).sqrt()
    assert torch.equal(logits.argmax(-1)[0, [0, 2, 4, 6]], real_to_level(x_0, 16)[0, [0, 2, 4, 6]])
    below = logits.amax(-1, keepdim=True) - logits
    assert below.max() <= LARGEST_GAP * (1 + 1e-5) + 1e-5 * logits.abs().max()
    posterior = torch.softmax(logits, -1)
    assert posterior.min() >= torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("option", options("likelihood"))
def test_nearest_inverts_encode(option):
    likelihood = part("model.likelihood", f"likelihood={option}")
    x = torch.randn(4, 3) if "gaussian" in option and "discretised" not in option else torch.arange(17).repeat(2, 1)
    assert torch.equal(likelihood.nearest(likelihood.encode(x)), x)
