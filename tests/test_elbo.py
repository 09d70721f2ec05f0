"""The three terms of (1.62), against closed forms."""

import math

import pytest
import torch

from support.oracles import GaussianData, Mixture, training_set_denoiser
from vdm.bound import Elbo
from vdm.draws import Draws
from vdm.elbo import ContinuousTime, DiscreteTime, prior_matching
from vdm.errors import InvalidInput
from vdm.likelihoods import CategoricalLikelihood, GaussianLikelihood
from vdm.models import VDM
from vdm.parameterisations import Prediction
from vdm.schedules import CosineSchedule, LinearSchedule
from vdm.terms import bits_per_dim
from vdm.times import StratifiedTimes

ENDS = (-6.0, 5.0)
DATA = GaussianData.isotropic(0.3, 0.25, (2, 2))


def model(time, denoiser=DATA.denoiser, schedule=LinearSchedule, times=None):
    return VDM(schedule(*ENDS), denoiser, GaussianLikelihood(), time, times)


def gammas(timesteps, schedule=LinearSchedule):
    return schedule(*ENDS)(torch.linspace(0, 1, timesteps, dtype=torch.float64))


def assert_mean(values, expected, what=""):
    """The mean of independent values is ``expected``, within 4 standard errors."""
    error = (values.mean() - expected).item()
    assert abs(error) < 4 * values.std().item() / len(values) ** 0.5, (what, error)


@pytest.mark.parametrize("schedule", [LinearSchedule, CosineSchedule])
@pytest.mark.parametrize("timesteps", [2, 3, 10, 100])
def test_every_term_of_gaussian_data(timesteps, schedule):
    """Reconstruction, prior matching and the denoising sum with the ideal denoiser, in discrete time."""
    x = DATA.sample(20_000)
    bound = model(DiscreteTime(timesteps), schedule=schedule).elbo(x, Draws(seed=1))
    assert_mean(bound.reconstruction, DATA.reconstruction(ENDS[0]), "reconstruction")
    assert torch.allclose(bound.prior_matching, DATA.prior_matching(ENDS[1], x), rtol=1e-9)
    assert_mean(bound.denoising_matching, DATA.denoising_matching(gammas(timesteps, schedule)), "denoising")
    assert_mean(bound.total, DATA.elbo(gammas(timesteps, schedule)).item(), "total")


@pytest.mark.parametrize("times", [None, StratifiedTimes()], ids=["uniform", "stratified"])
@pytest.mark.parametrize("schedule", [LinearSchedule, CosineSchedule])
def test_every_term_of_gaussian_data_in_continuous_time(schedule, times):
    """As T → ∞ the denoising sum is ½ Σ [log(1 + s² SNR(0)) − log(1 + s² SNR(1))], whatever the path between the ends."""
    n, repeats = 500, 40
    values = torch.stack(
        [
            model(ContinuousTime(), schedule=schedule, times=times).elbo(DATA.sample(n, r), Draws(r)).total.mean()
            for r in range(repeats)
        ]
    )
    assert_mean(values, DATA.continuous_elbo(*ENDS))


def test_full_sum_has_every_kl():
    """``elbo_all_times``: one column a t, each the closed form of its own KL."""
    timesteps, x = 6, DATA.sample(20_000)
    bound = model(DiscreteTime(timesteps)).elbo_all_times(x, Draws(seed=1), rows=50_000)
    assert bound.matching.shape == (20_000, timesteps - 1)
    for t in range(timesteps - 1):
        assert_mean(bound.matching[:, t], DATA.denoising_matching(gammas(timesteps)[t : t + 2]), f"step {t}")


def test_full_sum_does_not_depend_on_rows():
    x = DATA.sample(7)
    whole = model(DiscreteTime(9)).elbo_all_times(x, Draws(seed=2), rows=10_000)
    cut = model(DiscreteTime(9)).elbo_all_times(x, Draws(seed=2), rows=1)
    assert torch.allclose(whole.matching, cut.matching, rtol=1e-12)
    assert torch.equal(whole.reconstruction, cut.reconstruction)


def test_one_t_estimates_the_full_sum():
    """With a denoiser that is not ideal, on fixed data: the mean over draws of t is the full sum."""

    def poor(x_t, gamma_t):
        return Prediction.from_x_0(torch.tanh(x_t), x_t, gamma_t)

    x = DATA.sample(1).expand(40_000, 2, 2)
    vdm = model(DiscreteTime(7), denoiser=poor)
    full = vdm.elbo_all_times(x, Draws(seed=5), rows=10**6).denoising_matching
    one = vdm.elbo(x, Draws(seed=6)).denoising_matching
    se = (full.var() / len(full) + one.var() / len(one)).sqrt()
    assert abs(full.mean() - one.mean()) < 4 * se


def test_discrete_converges_to_continuous_from_above():
    """The denoising sum falls to the integral as T grows, its excess like 1/T."""
    excess = [DATA.denoising_matching(gammas(t)).item() - DATA.denoising_integral(*ENDS) for t in (101, 201, 401)]
    assert excess[0] > excess[1] > excess[2] > 0
    assert excess[0] / excess[1] == pytest.approx(2, rel=0.02)
    assert excess[1] / excess[2] == pytest.approx(2, rel=0.02)


def test_bound_meets_log_p_as_the_ends_open():
    """γ_min → −∞, γ_max → ∞ and T → ∞: the ELBO of the ideal denoiser is E log p(x)."""
    gaps = [DATA.expected_log_prob - DATA.continuous_elbo(-width, width) for width in (4.0, 8.0, 12.0, 16.0)]
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 1e-5


def test_bound_is_below_log_p_of_a_mixture():
    mixture = Mixture(torch.tensor([0.3, 0.7]).double(), torch.tensor([[-0.6, 0.1], [0.5, -0.2]]).double(), 0.02)
    x = mixture.sample(4000)
    vdm = VDM(LinearSchedule(-9.0, 6.0), mixture.denoiser, GaussianLikelihood(), ContinuousTime(), StratifiedTimes())
    totals = torch.stack([vdm.elbo(x, Draws(seed=r)).total for r in range(20)])
    gap = (mixture.log_prob(x) - totals.mean(0)).mean()
    se = totals.mean(1).std() / 20**0.5
    assert -4 * se < gap < 0.05


def test_prior_matching_is_the_kl_and_vanishes():
    x = DATA.sample(3)
    gamma = torch.full((3,), 2.0, dtype=torch.float64)
    assert torch.allclose(prior_matching(x, gamma), DATA.prior_matching(2.0, x), rtol=1e-10)
    assert prior_matching(x, torch.full_like(gamma, 30.0)).abs().max() < 1e-9


def test_bits_per_dim_is_the_code_length():
    """A uniform model of K = 16 levels costs log2 16 = 4 bits in every dimension."""
    nats = torch.full((3,), 6 * math.log(16), dtype=torch.float64)
    assert torch.allclose(bits_per_dim(nats, dims=6), torch.full((3,), 4.0, dtype=torch.float64))
    bound = Elbo(-nats, torch.zeros(3), torch.zeros(3, 1), dims=6)
    assert torch.allclose(bound.bits_per_dim, torch.full((3,), 4.0, dtype=torch.float64))
    terms = bound.terms()
    parts = terms["reconstruction"] + terms["prior_matching"] + terms["denoising_matching"]
    assert torch.allclose(parts, terms["bits_per_dim"])


def test_bound_of_a_finite_set_is_its_entropy():
    """16 equally likely points, each known exactly once x_1 gives them away: −ELBO is log 16, in bits 4."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (16, 4), generator=generator).double()
    likelihood = CategoricalLikelihood(256)
    points = likelihood.encode(x)
    vdm = VDM(LinearSchedule(-14.0, 12.0), training_set_denoiser(points), likelihood, ContinuousTime(), StratifiedTimes())
    bits = torch.stack([-vdm.elbo(x, Draws(seed=r)).total.mean() / math.log(2) for r in range(400)])
    prior_and_reconstruction = 0.01
    assert abs(bits.mean() - 4) < 4 * bits.std() / 400**0.5 + prior_and_reconstruction


def test_gammas_of_float32_data_are_computed_in_float64():
    seen = []

    def denoise(x_t, gamma_t):
        seen.append((x_t.dtype, gamma_t.dtype))
        return Prediction.from_x_0(0 * x_t, x_t, gamma_t)

    bound = model(DiscreteTime(20_000), denoiser=denoise).elbo(DATA.sample(4).float(), Draws())
    assert seen == [(torch.float32, torch.float32)]
    assert bound.total.dtype == torch.float64


@pytest.mark.parametrize("timesteps", [1, 0, -3, 2.5])
def test_too_few_latents_are_refused(timesteps):
    with pytest.raises(InvalidInput, match="counts the latents"):
        DiscreteTime(timesteps)


def test_index_of_time_is_always_in_range():
    """u just below 1 in float64 must not give a step beyond the last (PITFALLS: ceil(u T)/T yields t = 0)."""
    schedule = LinearSchedule(*ENDS)
    u = torch.tensor([0.0, 1 - 2**-53, 0.5, 1.0], dtype=torch.float64)
    located = DiscreteTime(11).gamma_and_weight(schedule, u)
    grid = schedule(torch.linspace(0, 1, 11, dtype=torch.float64))
    assert torch.allclose(located.gamma_t, grid[torch.tensor([1, 10, 6, 10])])
    assert (located.weight > 0).all()


def test_levels_out_of_range_are_refused():
    vdm = VDM(LinearSchedule(*ENDS), DATA.denoiser, CategoricalLikelihood(17), ContinuousTime())
    for wrong, message in (
        ([[[17, 0], [0, 0]]], "from 0 to 17"),
        ([[[0.5, 0], [0, 0]]], "whole levels"),
        ([[[-1, 0], [3, 0]]], "-1"),
    ):
        with pytest.raises(InvalidInput, match=message):
            vdm.elbo(torch.tensor(wrong))
    with pytest.raises(InvalidInput, match="elbo_all_times needs discrete time"):
        vdm.elbo_all_times(torch.zeros(1, 2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("levels", [True, False], ids=["levels", "reals"])
def test_short_floats_are_computed_in_float32(dtype, levels):
    """The bound of the same numbers in float32, to the last bit, at γ from −13.3, where the weight is 600,000."""
    x = torch.arange(256).view(64, 4) if levels else torch.linspace(-1, 1, 256).view(64, 4).to(dtype)
    denoise = GaussianData.isotropic(0.0, 0.25, (4,)).denoiser
    likelihood = CategoricalLikelihood(256) if levels else GaussianLikelihood()
    model = VDM(LinearSchedule(-13.3, 5.0), denoise, likelihood, ContinuousTime())
    short, single = (model.elbo(each, Draws(0)).total for each in (x.to(dtype), x.float()))
    assert short.dtype == single.dtype
    assert torch.equal(short, single)
