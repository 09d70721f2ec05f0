"""The hierarchical VAEs on linear-Gaussian data, where log p(x) and every posterior are known."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from support.linear_gaussian import (
    ExactDecoder,
    exact,
)
from vdm.batch import Batch
from vdm.draws import Draws, ExampleDraws, StackedDraws
from vdm.errors import InvalidInput
from vdm.evaluation.importance import log_mean_exp
from vdm.likelihoods import DenoisedGaussianLikelihood, LearnedVariance
from vdm.models import (
    HVAE,
    MHVAE,
    LadderEncoder,
    LearnedBottomUp,
    LearnedConditionalPrior,
    LearnedDecoder,
    LearnedEncoder,
    LearnedReverse,
    LinearWarmup,
    StandardNormal,
    TopDownHVAE,
)
from vdm.networks import FusionMLP
from vdm.process import isotropic

MODELS = ["mhvae", "hvae", "hvae_top_down"]


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("name", MODELS)
class TestExactParts:
    def test_log_weight_is_log_p_with_exact_parts(self, name, layers):
        """With the true posterior log p(x, z) − log q(z | x) = log p(x) on every path: no part missing or doubled."""
        model, joint = exact(name, layers)
        x = joint.sample(50)
        assert torch.allclose(model.log_weight(x, Draws(0)), joint.log_prob(x), atol=1e-10)

    def test_bound_meets_log_p_within_its_error(self, name, layers):
        model, joint = exact(name, layers)
        x = joint.sample(20_000)
        gap = joint.log_prob(x) - model.elbo(x, Draws(1)).total
        assert abs(gap.mean()) <= 4 * gap.std() / len(x) ** 0.5 + 1e-9

    def test_worse_posterior_costs_its_kl(self, name, layers):
        """log p − bound = KL(q ‖ posterior): for conditionals moved by δ, Σ_t δ²/2 over their variances.

        Each conditional, on its own parents, is off by δ only: the KL's chain rule has these summands.
        """
        shift = 0.3
        model, joint = exact(name, layers, shift)
        x = joint.sample(40_000)
        below = {"mhvae": lambda t: [t - 1], "hvae": lambda t: list(range(t))}
        above = lambda t: [*range(t + 1, layers + 1), 0]  # noqa: E731
        expected = sum(shift**2 / 2 / joint.given(t, below.get(name, above)(t))[1].item() for t in range(1, layers + 1))
        for estimate in (model.elbo(x, Draws(2)).total, model.log_weight(x, Draws(3))):
            gap = joint.log_prob(x) - estimate
            assert abs(gap.mean() - expected) < 4 * gap.std() / len(x) ** 0.5
            assert gap.mean() > 0

    def test_importance_weighted_bound_rises_to_log_p(self, name, layers):
        model, joint = exact(name, layers, shift=0.3)
        x = joint.sample(2000)
        draws = StackedDraws([ExampleDraws(torch.arange(len(x)), 0, k) for k in range(16)])
        log_w = model.log_weight(x.repeat(16, 1), draws).view(16, len(x)).T
        values = [log_mean_exp(log_w.view(len(x), -1, k)).mean().item() for k in (1, 4, 16)]
        assert values == sorted(values)
        error = (joint.log_prob(x) - log_mean_exp(log_w)).std().item() / len(x) ** 0.5
        assert values[-1] <= joint.log_prob(x).mean().item() + 4 * error

    def test_samples_have_the_models_variance(self, name, layers):
        model, joint = exact(name, layers)
        x, variance = model.sample(40_000, (1,), draws=Draws(5)), joint.covariance[0, 0].item()
        assert abs(x.var().item() - variance) < 4 * variance * (2 / 40_000) ** 0.5

    def test_one_entry_a_layer(self, name, layers):
        model, joint = exact(name, layers)
        bound = model.elbo(joint.sample(5), Draws(3))
        assert bound.matching.shape == (5, layers - 1) == (5, model.matching_entries)
        names = [f"layer_{t}" for t in range(1, layers)] if layers > 2 else []
        assert [n for n in bound.terms() if n.startswith("layer")] == names


@pytest.mark.parametrize("name", ["hvae", "hvae_top_down", "mhvae"])
def test_one_layer_is_a_vae(name):
    """T = 1: the bound is E log p(x | z) − KL(q(z | x) ‖ N(0, 1)), the KL in closed form (in the mean, for the MHVAE)."""
    model, joint = exact(name, 1, shift=0.2)
    x = torch.tensor([[0.7]], dtype=torch.float64).expand(50_000, 1)
    weights, variance = joint.given(1, [0])
    mean = weights.item() * 0.7 + 0.2
    kl = 0.5 * (variance + mean**2 - 1 - variance.log()).item()
    term = model.elbo(x, Draws(0)).prior_matching
    assert abs(term.mean() - kl) <= 4 * term.std() / len(x) ** 0.5 + 1e-12
    assert name == "mhvae" or term.std() < 1e-12


def test_mhvae_matches_an_hvae_of_neighbours():
    """Path by path: an HVAE whose parts look at the nearest latent only has the MHVAE's log-weights."""

    class Nearest(nn.Module):
        def __init__(self, chain, offset):
            super().__init__()
            self.chain, self.offset = chain, offset

        def forward(self, t, parents, condition=None):
            return self.chain(t + self.offset, parents[0], condition)

    class FirstOnly(ExactDecoder):
        def log_prob(self, x, z, condition=None):
            return super().log_prob(x, z[:1])

    markov, joint = exact("mhvae", 4, shift=0.2)
    general = HVAE(4, Nearest(markov.encoder, 0), Nearest(markov.reverse, 1), StandardNormal(), FirstOnly(joint))
    x = joint.sample(30)
    assert torch.allclose(general.log_weight(x, Draws(7)), markov.log_weight(x, Draws(7)), atol=1e-12)


def test_closed_kls_lower_the_variance():
    """Of the matching terms of top-down inference, against the sampled log-ratios of the same paths."""
    model, joint = exact("hvae_top_down", 3, shift=0.3)
    x = joint.sample(1)[:1].expand(20_000, 1)
    trajectory = model.infer(x, Draws(0))
    for closed, sampled in zip(trajectory.kls(slice(None)), trajectory.log_ratios(), strict=True):
        assert closed.var() < sampled.var()
        assert abs((closed - sampled).mean()) < 4 * (closed - sampled).std() / len(x) ** 0.5


def linear(in_shapes, out_shape, heads):
    return FusionMLP(in_shapes, out_shape, heads, hidden=8, blocks=0)


def learned(name, shapes=((2,), (2,)), warmup=None):
    ends = {
        "prior": StandardNormal.at_the_top(shapes),
        "decoder": LearnedDecoder.of_shapes(
            DenoisedGaussianLikelihood(LearnedVariance()), (2,), shapes[:1] if name == "mhvae" else shapes, linear, -1.0
        ),
        "warmup": warmup,
    }
    layers = len(shapes)
    if name == "mhvae":
        return MHVAE(layers, LearnedEncoder((2,), shapes, linear), LearnedReverse(shapes, linear), **ends)
    if name == "hvae":
        return HVAE(layers, LearnedBottomUp((2,), shapes, linear), LearnedConditionalPrior(shapes, linear), **ends)
    return TopDownHVAE(layers, LadderEncoder((2,), shapes, linear), LearnedConditionalPrior(shapes, linear), **ends)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_training_comes_close_to_log_p(name):
    """On correlated Gaussian data, which the learned parts can fit: from below, to 0.05 nats of the true log p."""
    torch.manual_seed(0)
    truth = MultivariateNormal(torch.tensor([0.5, -0.3]), torch.tensor([[0.8, 0.5], [0.5, 0.6]]))
    model, steps = learned(name), 2500
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        x = truth.sample((256,))
        optimizer.zero_grad()
        model.loss(Batch(x, torch.arange(len(x))), Draws(0, step)).value.mean().backward()
        optimizer.step()
        schedule.step()
    x = truth.sample((50_000,))
    gap = (truth.log_prob(x) - model.elbo(x, Draws(1)).total).detach()
    error = gap.std() / len(x) ** 0.5
    assert gap.mean() > -4 * error
    assert gap.mean() < 0.05


@pytest.mark.parametrize("name", MODELS)
class TestLearnedParts:
    def test_latents_may_be_smaller_than_the_data(self, name):
        model = learned(name, shapes=((3,), (2,), (1,)))
        x = torch.randn(6, 2)
        draws = Draws(0)
        assert [tuple(z.shape) for z in model.latents(x, draws)] == [(6, 3), (6, 2), (6, 1)]
        assert model.sample(5, (2,), draws=draws).shape == (5, 2)
        assert model.elbo(x, draws).total.shape == (6,)

    def test_every_weight_is_trained(self, name):
        torch.manual_seed(0)
        model, x = learned(name, shapes=((3,), (2,))), torch.randn(8, 2)
        for p in model.parameters():
            nn.init.normal_(p, std=0.3)
        model.loss(Batch(x, torch.arange(8)), Draws(0)).value.mean().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())

    def test_generate_from_all_latents_is_decoding(self, name):
        """``generate`` of (z_1, …, z_T) draws from p(x | z) alone; of (z_T) it is the model's sample."""
        model, draws = learned(name), Draws(0)
        z = model.latents(torch.randn(4, 2), draws)
        assert torch.equal(model.generate(z, draws), model.decoder.decode(model.decoder_inputs(z), draws))
        top = StandardNormal((2,))(torch.zeros(4, 2))
        assert torch.equal(
            model.generate([top.mean + top.stddev * draws.normal("prior", top.mean)], draws),
            model.sample(4, (2,), draws=draws),
        )

    def test_a_condition_is_refused(self, name):
        with pytest.raises(InvalidInput, match="take no condition"):
            learned(name).elbo(torch.randn(2, 2), Draws(0), torch.zeros(2))

    def test_float64_data_work_with_float32_weights(self, name):
        assert learned(name).log_weight(torch.randn(3, 2, dtype=torch.float64), Draws(0)).dtype == torch.float64

    def test_warmup_does_not_weight_bounds(self, name):
        model, plain = learned(name, warmup=LinearWarmup(10)), learned(name)
        plain.load_state_dict({k: v for k, v in model.state_dict().items() if "warmup" not in k})
        x = torch.randn(5, 2)
        batch = Batch(x, torch.arange(5))
        for way in (lambda m: m.elbo(x, Draws(0)).total, lambda m: m.log_weight(x, Draws(0))):
            assert torch.equal(way(model), way(plain))
        first = model.loss(batch, Draws(0))
        bound = first.bound
        weighed = (0.1 * (bound.prior_matching + bound.denoising_matching) - bound.reconstruction) / 2
        assert torch.allclose(first.value, weighed)
        assert torch.equal(model.eval().loss(batch, Draws(0)).value, plain.loss(batch, Draws(0)).value)
        assert model.warmup.taken == 1


def test_warmup_rises_to_one_and_resumes():
    warmup = LinearWarmup(4)
    assert [warmup().item() for _ in range(2)] == [0.25, 0.5]
    resumed = LinearWarmup(4)
    resumed.load_state_dict(warmup.state_dict())
    assert [resumed().item() for _ in range(4)] == [0.75, 1, 1, 1]
    with pytest.raises(InvalidInput, match="kl_warmup=none"):
        LinearWarmup(0)


def test_precision_weighting_is_bayes_rule():
    """A prior N(m, s²) and a message N(z; μ, σ²): the normalised product, and its KL to the prior as torch has it."""
    part = LadderEncoder((2,), ((2,),), linear)
    prior = isotropic(torch.tensor([[0.3, -1.0]]), torch.tensor([0.5]))
    x_0 = torch.randn(1, 2)
    q, message = part(1, x_0, [], prior), part.messages[0]([x_0])
    z = torch.randn(1000, 2)
    excess = q.log_prob(z) - prior.log_prob(z) - message.log_prob(z)
    assert torch.allclose(excess, excess[:1].expand_as(excess), atol=1e-4)
    assert kl_divergence(q, prior) > 0
    assert math.isfinite(kl_divergence(q, prior).item())
