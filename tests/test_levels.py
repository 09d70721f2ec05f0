"""Laws of the two data scales, and of what is built on them."""

import pytest
import torch

from support.catalogue import concrete
from vdm.denoiser import Denoiser
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.evaluation.dequantisation import UniformDequantisation
from vdm.gamma import alpha_bar, sigma2
from vdm.levels import CentredScale, EndpointScale, LevelScale, level_log_prob, level_mean, nearby_level_mean, scale_of
from vdm.likelihoods import CategoricalLikelihood, DiscretisedGaussianLikelihood, DiscretisedNormal, PosteriorVariance
from vdm.models import VDM
from vdm.networks import MLP
from vdm.parameterisations import LevelPosteriorParameterisation, RoundedParameterisation
from vdm.schedules import LinearSchedule

SCALES = sorted(concrete(LevelScale), key=lambda scale: scale.__name__)


@pytest.fixture(params=[(scale, K) for scale in SCALES for K in (2, 17, 256)], ids=lambda p: f"{p[0].__name__}-{p[1]}")
def scale(request):
    kind, levels = request.param
    return kind(levels)


def centres(scale):
    return scale.to_real(torch.arange(scale.levels).double())


def test_centres_are_evenly_spaced_in_their_bins(scale):
    v, k = centres(scale), torch.arange(scale.levels)
    assert torch.allclose(v.diff(), torch.full((scale.levels - 1,), 1 / scale.density, dtype=torch.float64))
    for inside in (-0.499, 0.0, 0.499):
        assert torch.equal(scale.to_level(v + inside / scale.density), k)
        assert torch.allclose(scale.nearest_centre(v + inside / scale.density), v, atol=1e-12)
    assert scale.to_level(torch.tensor([-9.0, 9.0])).tolist() == [0, scale.levels - 1]
    assert scale.to_real(k).dtype == torch.float32


def test_scales_are_the_published_ones():
    assert centres(EndpointScale(256)).tolist() == [2 * k / 255 - 1 for k in range(256)]
    assert centres(CentredScale(256)).tolist() == [2 * (k + 0.5) / 256 - 1 for k in range(256)]
    assert scale_of(256) == CentredScale(256) != EndpointScale(256)


def test_level_log_prob_is_bayes_rule(scale):
    x = torch.randint(0, scale.levels, (3, 40), generator=torch.Generator().manual_seed(0))
    gamma = torch.tensor([-11.0, -3.0, 2.0], dtype=torch.float64)
    signal, noise = alpha_bar(gamma).sqrt()[:, None], sigma2(gamma).sqrt()[:, None]
    x_t = signal * scale.to_real(x.double()) + noise * torch.randn(x.shape, dtype=torch.float64)
    logits = -0.5 * ((x_t[..., None] - signal[..., None] * centres(scale)) / noise[..., None]) ** 2
    expected = torch.log_softmax(logits, -1)
    found = level_log_prob(x, x_t, gamma, scale)
    assert torch.allclose(found, expected.gather(-1, x[..., None])[..., 0], rtol=1e-9, atol=1e-12)
    flat = torch.zeros(scale.levels, dtype=torch.float64)
    mean = level_mean(x_t, gamma, flat, torch.zeros_like(logits), scale)
    assert torch.allclose(mean, expected.exp() @ centres(scale), rtol=1e-9, atol=1e-12)


def test_discretised_normal_sums_to_one(scale):
    mean = torch.linspace(-1.3, 1.3, 9, dtype=torch.float64)
    for deviation in (1e-3, 0.3):
        normal = DiscretisedNormal(mean, torch.full_like(mean, deviation**2), scale)
        mass = torch.stack([normal.log_prob(torch.full((9,), k)).exp() for k in range(scale.levels)])
        assert torch.allclose(mass.sum(0), torch.ones(9, dtype=torch.float64))
    assert torch.equal(
        DiscretisedNormal(centres(scale), torch.full((scale.levels,), 1e-8), scale).mode, torch.arange(scale.levels)
    )


def test_endpoint_bins_are_those_of_ddpm():
    """Ho et al. 2020, equation 13: the mass of x ± 1/255."""
    normal = torch.distributions.Normal(torch.tensor(0.1).double(), 0.05)
    x = torch.tensor(2 * 140 / 255 - 1).double()
    expected = (normal.cdf(x + 1 / 255) - normal.cdf(x - 1 / 255)).log()
    found = DiscretisedNormal(torch.tensor(0.1).double(), torch.tensor(0.05**2).double(), EndpointScale(256))
    assert torch.allclose(found.log_prob(torch.tensor(140)), expected)


def test_rounding_is_onto_the_centres(scale):
    v = centres(scale)
    rounded = nearby_level_mean(v + 0.3 / scale.density, torch.full_like(v, 1e4 * scale.density**2), scale)
    assert torch.allclose(rounded, v, atol=1e-9)


def test_dequantisation_stays_in_its_bin(scale):
    likelihood = CategoricalLikelihood(scale)
    x = torch.arange(scale.levels).repeat(20, 1)
    gamma = torch.full((20,), -8.0, dtype=torch.float64)
    x_1, log_q = UniformDequantisation()(likelihood, x.double(), gamma, Draws(0))
    signal = alpha_bar(gamma[0]).sqrt()
    assert torch.equal(scale.to_level(x_1 / signal), x)
    assert torch.allclose(log_q, -scale.levels * (signal / scale.density).log())


def model(parameterisation, likelihood):
    network = MLP((4,), 8, 1, -8.0, 5.0, outputs=parameterisation.outputs)
    return VDM(LinearSchedule(-8.0, 5.0), Denoiser(network, parameterisation), likelihood, ContinuousTime())


@pytest.mark.parametrize("make", [LevelPosteriorParameterisation, lambda levels: RoundedParameterisation(0.5, levels)])
def test_scales_cannot_be_mixed(make):
    likelihoods = (CategoricalLikelihood, lambda levels: DiscretisedGaussianLikelihood(levels, PosteriorVariance(0.5)))
    for likelihood in likelihoods:
        with pytest.raises(InvalidInput, match="give both the same scale"):
            model(make(17), likelihood(EndpointScale(17)))
        bound = model(make(EndpointScale(17)), likelihood(EndpointScale(17))).elbo(torch.zeros(2, 4, dtype=torch.long))
        assert torch.isfinite(bound.total).all()


@pytest.mark.parametrize("levels", [1, 0, -3])
@pytest.mark.parametrize("kind", SCALES)
def test_scale_refuses_too_few_levels(kind, levels):
    with pytest.raises(InvalidInput, match="at least 2"):
        kind(levels)
