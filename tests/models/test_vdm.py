"""The VDM as a whole: sampling, loss, conditions."""

import pytest
import torch

from support.oracles import GaussianData, Mixture, training_set_denoiser
from vdm.batch import Batch
from vdm.draws import Draws, ExampleDraws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood
from vdm.models import VDM
from vdm.schedules import LinearSchedule
from vdm.times import StratifiedTimes

DATA = GaussianData.isotropic(0.3, 0.25, (2,))


def test_ancestral_sampling_recovers_a_gaussian():
    """Mean and variance of 40,000 samples are those of the T-latent chain, whose own excess falls like 1/T."""
    n, excess = 40_000, []
    for timesteps in (51, 401):
        vdm = VDM(LinearSchedule(-9.0, 9.0), DATA.denoiser, GaussianLikelihood(), DiscreteTime(timesteps))
        mean, variance = DATA.chain_moments(vdm.schedule(torch.linspace(0, 1, timesteps, dtype=torch.float64)))
        x = vdm.sample(n, (2,), draws=Draws(seed=0)).double()
        assert ((x.mean(0) - mean).abs() < 4 * (variance / n).sqrt()).all()
        assert ((x.var(0) - variance).abs() < 4 * variance * (2 / n) ** 0.5).all()
        excess.append((variance - 0.25).abs().max().item() + (mean - 0.3).abs().max().item())
    assert excess[1] < excess[0] / 6


def test_ancestral_sampling_recovers_a_mixture():
    """Weights, means and spread of three components in two dimensions."""
    weights = torch.tensor([0.2, 0.3, 0.5])
    means = torch.tensor([[-0.8, 0.5], [0.7, 0.6], [0.1, -0.7]])
    mixture = Mixture(weights, means, 0.01)
    vdm = VDM(LinearSchedule(-9.0, 6.0), mixture.denoiser, GaussianLikelihood(), ContinuousTime())
    n = 20_000
    x = vdm.sample(n, (2,), steps=200, draws=Draws(seed=0))
    nearest = torch.cdist(x, means).argmin(1)
    for k in range(3):
        own = x[nearest == k]
        share = len(own) / n
        assert abs(share - weights[k]) < 4 * (weights[k] * (1 - weights[k]) / n) ** 0.5 + 5e-3
        assert (own.mean(0) - means[k]).abs().max() < 4 * (0.01 / len(own)) ** 0.5 + 2e-3
        assert own.var(0).mean() == pytest.approx(0.01, rel=0.1)


def test_sampling_a_finite_set_returns_its_points():
    levels = torch.randint(0, 17, (5, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    likelihood = CategoricalLikelihood(17)
    vdm = VDM(LinearSchedule(-8.0, 6.0), training_set_denoiser(likelihood.encode(levels)), likelihood, ContinuousTime())
    samples = vdm.sample(40, (1, 4, 4), steps=100, draws=Draws(seed=1))
    exact = (samples[:, None] == levels[None]).flatten(2).all(2).any(1)
    assert samples.dtype == torch.int64
    assert exact.float().mean() > 0.9  # at γ = −8 a level is mistaken in about one of 500 pixels


def test_sample_does_not_depend_on_its_batch():
    vdm = VDM(LinearSchedule(-9.0, 6.0), DATA.denoiser, GaussianLikelihood(), ContinuousTime())
    whole = vdm.sample(6, (2,), steps=5, draws=ExampleDraws(torch.arange(6), seed=1))
    part = vdm.sample(2, (2,), steps=5, draws=ExampleDraws(torch.tensor([4, 1]), seed=1))
    assert torch.allclose(whole[[4, 1]], part)


def test_trajectory_runs_from_noise_to_data():
    vdm = VDM(LinearSchedule(-9.0, 9.0), DATA.denoiser, GaussianLikelihood(), ContinuousTime())
    states = list(vdm.trajectory(40, (2,), steps=30, draws=Draws(seed=0)))
    assert len(states) == 31
    assert torch.equal(states[0].x_t, Draws(seed=0).normal("prior", torch.zeros(40, 2)))
    assert torch.allclose(vdm.decode(states[-1].x_t, Draws(seed=0)), vdm.sample(40, (2,), steps=30, draws=Draws(seed=0)))
    with pytest.raises(InvalidInput, match="steps must be at least 1"):
        next(vdm.trajectory(4, (2,), steps=-1))


def test_loss_is_minus_the_bound_per_dimension():
    vdm = VDM(LinearSchedule(-6.0, 5.0), DATA.denoiser, GaussianLikelihood(), ContinuousTime(), StratifiedTimes())
    x = DATA.sample(8)
    loss = vdm.loss(Batch(x, torch.arange(8)), Draws(seed=3))
    assert torch.allclose(loss.value, -loss.bound.total / 2)
    assert torch.allclose(loss.bound.total, vdm.elbo(x, Draws(seed=3)).total)


class CountingLikelihood(GaussianLikelihood):
    """Counts the calls of ``encode``."""

    calls = 0

    def encode(self, x):
        self.calls += 1
        return super().encode(x)


@pytest.mark.parametrize("method", ["loss", "elbo", "elbo_all_times", "consistency_elbo"])
def test_x_is_encoded_once(method):
    likelihood = CountingLikelihood()
    vdm = VDM(LinearSchedule(-6.0, 5.0), DATA.denoiser, likelihood, DiscreteTime(4))
    x = DATA.sample(8)
    getattr(vdm, method)(Batch(x, torch.arange(8)) if method == "loss" else x, Draws(seed=0))
    assert likelihood.calls == 1


def test_fresh_draws_follow_torchs_seed():
    vdm = VDM(LinearSchedule(-6.0, 5.0), DATA.denoiser, GaussianLikelihood(), ContinuousTime())
    x = DATA.sample(8)
    torch.manual_seed(1)
    first, second = vdm.elbo(x).total, vdm.elbo(x).total
    torch.manual_seed(1)
    assert torch.equal(first, vdm.elbo(x).total)
    assert not torch.equal(first, second)


def test_condition_is_refused_without_with_condition():
    vdm = VDM(LinearSchedule(-6.0, 5.0), DATA.denoiser, GaussianLikelihood(), ContinuousTime())
    with pytest.raises(InvalidInput, match="takes no condition"):
        vdm.elbo(DATA.sample(8), condition=torch.zeros(8))
