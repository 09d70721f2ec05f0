"""The variance study on Gaussian data, where the answers are known."""

import pytest
import torch
from torch import nn

from support.oracles import GaussianData
from vdm.batch import Batch
from vdm.consistency import consistency_at
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.gamma import align
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood
from vdm.models import VDM
from vdm.parameterisations import Prediction
from vdm.plots.figures import growth_figure, per_step_figure
from vdm.schedules import CosineSchedule, LinearSchedule, PerPixelSchedule
from vdm.studies.variance_study import FORMS, VarianceStudy, sentences
from vdm.times import LossMomentTimes, StratifiedTimes, UniformTimes

DATA = GaussianData.isotropic(0.0, 0.25, (1,))


class Shifted(nn.Module):
    """The ideal denoiser with a learned shift of zero, a parameter for gradients."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x_t, gamma_t):
        ideal = DATA.denoiser(x_t, gamma_t)
        return Prediction.from_x_0(ideal.x_0 + align(gamma_t * 0 + 1, x_t) * self.shift, x_t, gamma_t)


def make_study(timesteps=50, repeats=30, n=64):
    model = VDM(LinearSchedule(-6.0, 5.0), Shifted(), GaussianLikelihood(), ContinuousTime())
    return VarianceStudy(model, Batch(DATA.sample(n), torch.arange(n)), timesteps, repeats)


def quiet(done):
    pass


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("timesteps", [2, 20])
def test_one_t_is_an_unbiased_estimate_of_the_sum(form, timesteps):
    study, n = make_study(timesteps, n=20_000), 20_000
    with torch.no_grad():
        single = FORMS[form].at(study, UniformTimes().draw(Draws(1), study.x)[0], Draws(1))
        whole = FORMS[form].all_times(study, Draws(2))[0].sum(1)
    assert abs((single - whole).mean()) < 4 * (single - whole).std() / n**0.5


def test_consistency_at_matches_the_whole_chain():
    """At each t: the mean over the chain's marginals."""
    model, x = make_study(5).model, DATA.sample(1).expand(40_000, 1)
    gammas = DiscreteTime(5).gammas(model.schedule, x)
    columns = model.consistency_elbo(x, Draws(3)).log_ratios.detach()
    for t in range(1, 5):
        before = torch.full((len(x),), -40.0).double() if t == 1 else gammas[t - 2]
        values = consistency_at(x, [before, gammas[t - 1], gammas[t]], Draws(t + 10), model.denoiser).detach()
        difference = values - columns[:, t - 1]
        assert abs(difference.mean()) < 4 * difference.std() / len(x) ** 0.5


def test_higher_variance_holds_for_one_t_and_not_for_the_whole():
    """On 1-D Gaussian data at T = 200 (PITFALLS: sd 202 against 5 for one t, 1.05 against 2.30 for the whole)."""
    study = make_study(200, repeats=60)
    steps = {form: study.per_step(form, quiet) for form in FORMS}
    single = {(form, "uniform"): study.one_t(form, UniformTimes(), quiet) for form in FORMS}
    one = single["consistency", "uniform"].variance / single["denoising", "uniform"].variance
    assert one > 100
    assert single["consistency", "uniform"].gradient > single["denoising", "uniform"].gradient
    assert steps["consistency"].whole < steps["denoising"].whole
    assert "not higher" in sentences(steps, single, ["uniform"])[-1]


def test_stratified_times_lower_the_variance_of_the_value():
    study = make_study(50, repeats=60)
    uniform, stratified = (study.one_t("denoising", times, quiet) for times in (UniformTimes(), StratifiedTimes()))
    assert stratified.variance < uniform.variance


def test_importance_lowers_the_variance_of_the_value():
    """With t ∝ √E[loss²]. The consistency form gains nothing: its summands are about equally large at every t."""
    study = make_study(50, repeats=60)
    times = LossMomentTimes(bins=49, memory=0.96, floor=0.05)
    study.fit(times, "denoising")
    assert study.one_t("denoising", times, quiet).variance < study.one_t("denoising", UniformTimes(), quiet).variance


def test_fit_fills_every_bin_with_few_batches():
    """With empty bins, t would stay uniform."""
    study, times = make_study(50, repeats=2, n=1), LossMomentTimes(bins=25)
    study.fit(times, "denoising")
    assert times.ready
    assert times.shares(study.x).std() > 0


def test_with_schedule_keeps_the_whole_bound():
    """Cosine and linear chains of many steps have about the same whole bound, but different summands."""
    study = make_study(200, repeats=20)
    other = study.with_schedule(CosineSchedule(study.model.schedule.gamma_min, study.model.schedule.gamma_max))
    ours, theirs = (each.per_step("denoising", quiet).mean for each in (study, other))
    assert ours.sum().item() == pytest.approx(theirs.sum().item(), rel=0.05)
    assert not torch.allclose(ours, theirs, rtol=0.1)


def test_study_refuses_a_schedule_for_each_dimension():
    model = VDM(PerPixelSchedule(-6.0, 5.0, (1,)), Shifted(), CategoricalLikelihood(17), ContinuousTime())
    with pytest.raises(InvalidInput, match="one γ\\(t\\) for all dimensions, and PerPixelSchedule"):
        VarianceStudy(model, Batch(DATA.sample(2), torch.arange(2)), 5, 2)


def test_terms_at_match_the_table():
    """MATH.md's row T = 20, with one trajectory for each of 4,000 examples."""
    growth = make_study(n=4_000).terms_at(20)
    assert growth.gap == pytest.approx(18.144 - 2.937, abs=2e-3)  # equal for all schedules
    assert growth.transition_prior == pytest.approx(0.41, abs=0.02)
    assert growth.literal - growth.consistency == pytest.approx(growth.gap, abs=1.0)


def test_study_figures_show_every_form():
    curves = {"denoising": [1.0, 2.0], "consistency": [3.0, -1.0]}
    assert len(per_step_figure(curves, {name: [1.0, 2.0] for name in curves}).axes) == 2
    assert len(growth_figure([5, 20], curves).axes[0].get_lines()) == 2
