"""The evaluated bound and its error bars."""

import pytest
import torch

from support.oracles import GaussianData
from support.tasks import parts
from vdm.batch import Batch
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.evaluation import BoundEvaluation, BoundSummary
from vdm.evaluation.even_gamma import with_even_gamma
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood
from vdm.models import VDM
from vdm.schedules import CosineSchedule, LinearSchedule, PerPixelSchedule
from vdm.terms import TERMS
from vdm.times import StratifiedTimes, UniformTimes

DATA = GaussianData.isotropic(0.0, 0.25, (3,))


def model(times):
    return VDM(LinearSchedule(-6.0, 5.0), DATA.denoiser, GaussianLikelihood(), ContinuousTime(), times)


def summarise(evaluation, vdm, x, sizes):
    summary = BoundSummary(evaluation.repeats)
    for index in torch.arange(len(x)).split(sizes):
        summary.update(evaluation(vdm, Batch(x[index], index)))
    return summary.compute()


def test_bound_evaluation_is_independent_of_batches():
    x, evaluation = DATA.sample(23), BoundEvaluation(repeats=3, seed=1)
    whole = summarise(evaluation, model(StratifiedTimes()), x, 23)
    parts = summarise(evaluation, model(StratifiedTimes()), x, [5, 1, 8, 9])
    for name in TERMS:
        assert whole[name] == pytest.approx(parts[name], rel=1e-9)


@pytest.mark.parametrize("rows", [1, 20, 46, 512])
def test_bound_evaluation_is_independent_of_rows(rows):
    """23 examples in 5 replicates: one replicate a call, one because two exceed ``rows``, two and a rest, all at once."""
    x, index, evaluation = DATA.sample(23), torch.arange(23), BoundEvaluation(2, seed=1)
    single = torch.cat([evaluation(model(StratifiedTimes()), Batch(x[i : i + 1], index[i : i + 1])) for i in index], 1)
    together = BoundEvaluation(5, seed=1, rows=rows)(model(StratifiedTimes()), Batch(x, index))
    assert torch.allclose(together[..., :2], single, rtol=1e-9)


@pytest.mark.parametrize("times", [UniformTimes(), StratifiedTimes()], ids=["uniform", "stratified"])
def test_mc_se_is_the_spread_of_repeated_evaluations(times):
    """Over 60 seeds on the same data, the mean of mc_se² is the variance of the values."""
    x = DATA.sample(40)
    results = [summarise(BoundEvaluation(8, seed), model(times), x, 40)["bits_per_dim"] for seed in range(60)]
    values = torch.tensor([r.value for r in results])
    reported = torch.tensor([r.mc_se**2 for r in results])
    ratio = (values.var() / reported.mean()).item()
    spread = (2 / 59) ** 0.5 + (2 / 7 / 60) ** 0.5
    assert abs(ratio - 1) < 4 * spread


def test_stratified_times_lower_mc_se():
    x = DATA.sample(200)
    errors = {}
    for times in (UniformTimes(), StratifiedTimes()):
        results = [summarise(BoundEvaluation(8, seed), model(times), x, 200)["bits_per_dim"] for seed in range(20)]
        errors[type(times)] = torch.tensor([r.mc_se**2 for r in results]).mean()
    assert errors[StratifiedTimes] < 0.7 * errors[UniformTimes]


def test_data_se_is_the_spread_over_examples():
    """If all replicates of an example are equal, data_se is the standard error of the mean over examples."""
    values = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    summary = BoundSummary(4)
    summary.update(values.expand(len(TERMS), 50)[:, :, None].expand(-1, -1, 4))
    estimate = summary.compute()["bits_per_dim"]
    assert estimate.value == pytest.approx(values.mean().item())
    assert estimate.data_se == pytest.approx(values.std().item() / 50**0.5)
    assert estimate.mc_se == pytest.approx(0, abs=1e-12)


def test_bound_evaluation_agrees_with_closed_form():
    x = DATA.sample(3000)
    estimate = summarise(BoundEvaluation(16), model(StratifiedTimes()), x, 3000)["bits_per_dim"]
    exact = -DATA.continuous_elbo(-6.0, 5.0) / 3 / 0.6931471805599453
    assert abs(estimate.value - exact) < 4 * (estimate.mc_se**2 + estimate.data_se**2) ** 0.5


def test_bound_evaluation_refuses_one_replicate():
    with pytest.raises(InvalidInput, match="at least 2"):
        BoundEvaluation(repeats=1)


def test_bound_evaluation_refuses_autocast_unless_asked():
    data, task = parts()
    (batch, *_) = data.ordered("test")
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.raises(InvalidInput, match="not evaluated under autocast"):
            BoundEvaluation(2)(task.evaluated, batch)
        BoundEvaluation(2, autocast=True)(task.evaluated, batch)
    BoundEvaluation(2)(task.evaluated, batch)


def cosine(time):
    return VDM(CosineSchedule(-6.0, 5.0), DATA.denoiser, GaussianLikelihood(), time, UniformTimes())


def test_even_gamma_keeps_the_bound_and_the_model():
    x, vdm, evaluation = DATA.sample(3000), cosine(ContinuousTime()), BoundEvaluation(16, even_gamma=True)
    estimate, before = summarise(evaluation, vdm, x, 3000)["bits_per_dim"], vdm.schedule
    exact = -DATA.continuous_elbo(-6.0, 5.0) / 3 / 0.6931471805599453
    assert abs(estimate.value - exact) < 4 * (estimate.mc_se**2 + estimate.data_se**2) ** 0.5
    assert vdm.schedule is before
    assert isinstance(vdm.times, UniformTimes)


def test_even_gamma_draws_the_same_for_every_schedule():
    """With one denoiser and the same ends, two schedules give the same values."""
    batch, evaluation = Batch(DATA.sample(20), torch.arange(20)), BoundEvaluation(3, even_gamma=True)
    one, other = (evaluation(vdm, batch) for vdm in (cosine(ContinuousTime()), model(StratifiedTimes())))
    assert torch.allclose(one, other, rtol=1e-6)


PER_PIXEL = VDM(PerPixelSchedule(-6.0, 5.0, (3,)), DATA.denoiser, CategoricalLikelihood(17), ContinuousTime())


@pytest.mark.parametrize("vdm", [cosine(DiscreteTime(9)), PER_PIXEL], ids=["discrete time", "per pixel"])
def test_even_gamma_leaves_models_whose_path_matters(vdm):
    assert with_even_gamma(vdm) is vdm
