"""The importance-weighted bound on a chain whose log p(x) is known."""

import pytest
import torch

from support.oracles import GaussianData
from vdm.batch import Batch
from vdm.draws import Draws, ExampleDraws, StackedDraws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.evaluation.importance import ImportanceWeighted, log_mean_exp
from vdm.likelihoods import GaussianLikelihood
from vdm.models import VDM
from vdm.schedules import LinearSchedule

DATA = GaussianData(torch.tensor([0.3, -0.5]).double(), torch.tensor([0.25, 0.1]).double())
GAMMAS = torch.linspace(-4, 4, 12, dtype=torch.float64)


def model(time=None):
    return VDM(LinearSchedule(-4.0, 4.0), DATA.denoiser, GaussianLikelihood(), time or DiscreteTime(12))


def examples(n):
    return Batch(DATA.sample(n), torch.arange(n))


def run(estimator, n, time=None):
    return estimator(model(time), examples(n), lambda done: None)


def nats(result):
    """Return value and mc_se of log p(x) in nats."""
    factor = 2 * torch.log(torch.tensor(2.0)).item()
    estimate = result.terms["bits_per_dim"]
    return -estimate.value * factor, estimate.mc_se * factor


def test_bound_rises_with_k_and_stays_below_log_p():
    truth = DATA.chain_log_prob(examples(30).x, GAMMAS).mean().item()
    previous, error = -float("inf"), 0.0
    for trajectories in (1, 4, 16, 64):
        value, se = nats(run(ImportanceWeighted(trajectories, repeats=8, seed=trajectories), 30)[-1])
        assert value - 4 * se <= truth
        assert value + 4 * se >= previous - 4 * error
        if trajectories > 1:
            assert value > previous  # the seeds are fixed
        previous, error = value, se
    assert truth - value < 0.1  # for K = 1 the gap is at least 0.35 nats


def test_one_trajectory_gives_the_bound():
    x = examples(100).x
    exact = DATA.elbo(GAMMAS, x).mean().item()
    value, se = nats(run(ImportanceWeighted(1, repeats=30), 100)[0])
    assert abs(value - exact) < 4 * se


def test_k_and_one_share_trajectories():
    one, many = run(ImportanceWeighted(8, repeats=3), 10)
    assert (one.facts["trajectories"], many.facts["trajectories"]) == (1, 8)
    assert (one.draws, many.draws, one.calls) == (24, 3, 10 * 24 * 12)
    alone = run(ImportanceWeighted(1, repeats=24), 10)[0]
    assert one.terms["bits_per_dim"].value == pytest.approx(alone.terms["bits_per_dim"].value, abs=1e-12)


def test_result_is_independent_of_rows():
    wide, narrow = (run(ImportanceWeighted(4, repeats=2, rows=rows), 10)[-1] for rows in (512, 3))
    assert wide.terms["bits_per_dim"].value == pytest.approx(narrow.terms["bits_per_dim"].value, abs=1e-12)


def test_mc_se_is_the_spread_over_seeds():
    """The spread over 60 seeds equals the reported mc_se within 4 standard errors 1/√(2·59)."""
    values = torch.tensor([nats(run(ImportanceWeighted(4, repeats=4, seed=s), 8)[-1])[0] for s in range(60)])
    reported = torch.tensor([nats(run(ImportanceWeighted(4, repeats=4, seed=s), 8)[-1])[1] for s in range(60)])
    assert abs(values.std() / reported.square().mean().sqrt() - 1) < 4 / (2 * 59) ** 0.5


def test_log_mean_exp_subtracts_log_k():
    assert log_mean_exp(torch.full((3, 7), -800.0)).tolist() == pytest.approx([-800.0] * 3)


def test_stacked_draws_equal_their_parts():
    like = torch.zeros(6, 2)
    parts = [ExampleDraws(torch.arange(3), 0, repeat) for repeat in (0, 1)]
    assert torch.equal(StackedDraws(parts).normal("a", like)[3:], parts[1].normal("a", like[:3]))
    assert torch.equal(StackedDraws([Draws(0), Draws(1)]).uniform("t", like)[:3], Draws(0).uniform("t", like[:3]))


def test_continuous_time_needs_timesteps():
    with pytest.raises(InvalidInput, match="continuous time"):
        run(ImportanceWeighted(2), 3, ContinuousTime())
    assert run(ImportanceWeighted(2, timesteps=12), 3, ContinuousTime())[-1].facts["timesteps"] == 12


@pytest.mark.parametrize("settings", [{"trajectories": 0}, {"trajectories": 2, "repeats": 1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InvalidInput, match="at least"):
        ImportanceWeighted(**settings)
