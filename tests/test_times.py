"""Laws of every way to draw t, found from the configs."""

import pytest
import torch
from torch import multiprocessing

from support.catalogue import concrete, options, part
from support.given_draws import GivenDraws
from support.oracles import gaussian_denoiser
from support.two_processes import LossOf, half, parallel, rows, two_part_model
from vdm.batch import Batch
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.likelihoods import CategoricalLikelihood
from vdm.loss_history import LossHistory, LossObserver
from vdm.models import VDM
from vdm.schedules import CosineSchedule
from vdm.times import LossMomentTimes, TimeSampler, UniformTimes

SCHEDULE = CosineSchedule(-8.0, 5.0)
NAMES = options("times")


def build(name, observed=True):
    """The sampler, after it saw a loss that is large at small t."""
    times = part("model.times", f"times={name}", "schedule=cosine", "data.event_shape=[3]")
    if observed and isinstance(times, LossObserver):
        u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        times.update(u, torch.exp(-4 * u))
    return times


def model(times, time=None, schedule=SCHEDULE):
    return VDM(schedule, gaussian_denoiser(0.0, 0.25), CategoricalLikelihood(17), time or ContinuousTime(), times)


def test_every_sampler_has_a_yaml():
    assert {type(build(name)) for name in NAMES} == concrete(TimeSampler)


@pytest.mark.parametrize("name", NAMES)
class TestEverySampler:
    n = 200_000

    def drawn(self, times):
        """u and its density for evenly spread uniform numbers: a quadrature of the sampler's own distribution."""
        even = (torch.arange(self.n, dtype=torch.float64) + 0.5) / self.n
        return times.draw(GivenDraws({"t": even}), torch.zeros(self.n, 1))

    @pytest.mark.parametrize("observed", [False, True])
    def test_unbiased(self, name, observed):
        """E f(u)/density = ∫ f, for a smooth f and for one with jumps."""
        u, density = self.drawn(build(name, observed))
        assert (u >= 0).all()
        assert (u < 1).all()
        assert (density > 0).all()
        even = (torch.arange(self.n, dtype=torch.float64) + 0.5) / self.n
        for f in (lambda u: torch.exp(-3 * u) + u.square(), lambda u: (u * 7).floor()):
            assert abs((f(u) / density).mean() - f(even).mean()) < 1e-4

    @pytest.mark.parametrize("time", [ContinuousTime(), DiscreteTime(12)], ids=["continuous", "discrete"])
    def test_expected_loss(self, name, time):
        """That of uniform times, within four standard errors of the means over 200 batches."""
        x = torch.randint(17, (64, 3), generator=torch.Generator().manual_seed(0))
        means = []
        for times in (build(name), UniformTimes()):
            chosen = model(times, time).eval()
            values = [chosen.loss(Batch(x, torch.arange(64)), Draws(7, step)).value.mean() for step in range(200)]
            means.append(torch.stack(values))
        error = sum(value.var() / len(value) for value in means).sqrt()
        assert abs(means[0].mean() - means[1].mean()) < 4 * error


def test_loss_moments_are_followed():
    """The density is ∝ √E[loss²] where the floor does not hold it: here ∝ exp(−4u)."""
    times = LossMomentTimes(bins=10, memory=0.99, floor=1e-6)
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for chunk in u.split(1000):
        times.update(chunk, torch.exp(-4 * chunk))
    shares = times.shares(torch.zeros((), dtype=torch.float64))
    edges = torch.linspace(0, 1, 11, dtype=torch.float64)
    exact = ((torch.exp(-8 * edges[:-1]) - torch.exp(-8 * edges[1:])) / 8).sqrt()
    assert torch.allclose(shares, exact / exact.sum(), rtol=0.05)


def test_only_training_writes_the_history():
    x = Batch(torch.zeros(8, 3, dtype=torch.long), torch.arange(8))
    chosen = model(LossMomentTimes())
    chosen.eval().loss(x, Draws(0))
    chosen.train().elbo(x.x, Draws(0))
    assert chosen.times.profile.seen.sum() == 0
    chosen.loss(x, Draws(0))
    assert chosen.times.profile.seen.sum() == 8


def test_history_is_in_the_state_dict():
    """A sampler restored from a state_dict draws what the saved one draws."""
    saved = build("loss_moment")
    again = LossMomentTimes()
    again.load_state_dict(saved.state_dict())
    like = torch.zeros(16, 1)
    for mine, theirs in zip(again.draw(Draws(0), like), saved.draw(Draws(0), like), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(again.draw(Draws(0), like)[0], LossMomentTimes().draw(Draws(0), like)[0])


@pytest.mark.slow
def test_two_processes_match_one(tmp_path):
    """Histories equal that of one process with all rows; gradients of a learned schedule are the mean over the ranks."""
    multiprocessing.spawn(parallel, (str(tmp_path),), nprocs=2)
    (history, gradients), (other_history, other_gradients) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = LossHistory(5, 0.9, 0.1)
    alone.update(*rows())
    for name, value in alone.state_dict().items():
        assert torch.equal(history[name], other_history[name])
        assert torch.allclose(history[name], value)
    net = LossOf(two_part_model())
    sum(net(half(rank), Draws(0, 0, rank, 2)) for rank in (0, 1)).div(2).backward()
    for name, parameter in net.named_parameters():
        assert torch.equal(gradients[name], other_gradients[name])
        assert torch.allclose(gradients[name], parameter.grad, rtol=1e-5, atol=1e-7)
        assert parameter.grad.abs().max() > 0
