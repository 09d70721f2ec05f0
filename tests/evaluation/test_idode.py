"""Agreement with i-DODE's own numbers (tests/fixtures/beyond/README.md), each array that has a counterpart."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

from support.beyond import PlusInput, Vectors, arrays, official_network
from support.given_draws import GivenDraws
from vdm.denoiser import Denoiser
from vdm.divergence import HutchinsonDivergence
from vdm.elbo import ContinuousTime
from vdm.evaluation import TruncatedNormalDequantisation
from vdm.evaluation.flow import flow_end, velocity
from vdm.gamma import align, alpha_bar, sigma2
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.parameterisations import StraightParameterisation, VelocityParameterisation
from vdm.process import isotropic, q_sample, standard_normal
from vdm.schedules import LinearSchedule
from vdm.times import StraightSignalTimes, UniformTimes, VarianceSignalTimes

VECTORS = Vectors("idode_vectors")
SCHEDULE = LinearSchedule(-13.3, 5.0)
LIKELIHOOD = CategoricalLikelihood(256)
PATHS = {
    "vp": (VelocityParameterisation(), VarianceSignalTimes(SCHEDULE)),
    "sp": (StraightParameterisation(), StraightSignalTimes(SCHEDULE)),
}
CASES = [(path, times) for path in PATHS for times in ("uniform", "importance")]
RTOL = 1e-9


def close(value, name, rtol=RTOL):
    expected = VECTORS[name]
    assert torch.allclose(value, expected, rtol=rtol, atol=rtol * expected.abs().max().item())


@pytest.fixture(scope="module")
def network():
    with pytest.warns(UserWarning, match="hides the noise level"):
        made, state = official_network(arrays("idode_params"), "params/score_model/", channels=32, fourier=False)
    made.load_state_dict(state)
    return made.requires_grad_(False)


def scale(path, gamma):
    """x_t on the path over x_t of the variance-preserving one."""
    return 1 / (alpha_bar(gamma).sqrt() + sigma2(gamma).sqrt()) if path == "sp" else torch.ones_like(gamma)


def x_t(path, times):
    return q_sample(VECTORS_X, VECTORS["eps"], VECTORS[f"gamma_{path}_{times}"])


VECTORS_X = LIKELIHOOD.encode(VECTORS["img_nhwc"])


@pytest.mark.parametrize("path", PATHS)
def test_times(path):
    """γ at the share t of the importance density, and at uniform times."""
    _, importance = PATHS[path]
    close(importance.gamma(VECTORS["t"]), f"gamma_{path}_importance")
    close(SCHEDULE(VECTORS["t"]), f"gamma_{path}_uniform")
    u, density = importance.draw(GivenDraws({"t": VECTORS["t"]}), VECTORS_X)
    close(SCHEDULE(u), f"gamma_{path}_importance")
    assert torch.allclose(density, importance.density(SCHEDULE(u)) * 18.3)


@pytest.mark.parametrize(("path", "times"), CASES)
def test_prediction(path, times, network):
    gamma, at = VECTORS[f"gamma_{path}_{times}"], x_t(path, times)
    reading, _ = PATHS[path]
    seen = reading.network_input(at, gamma)
    close(seen, f"x_t_{path}_{times}")
    close(PlusInput(network)(seen, gamma), f"network_{path}_{times}")
    close(reading.predict(VECTORS[f"network_{path}_{times}"], at, gamma).eps, f"eps_hat_{path}_{times}")


@pytest.mark.parametrize(("path", "times"), CASES)
def test_drift(path, times):
    """dx/dγ in the path's own units."""
    gamma, at = VECTORS[f"gamma_{path}_{times}"], x_t(path, times)
    reading, _ = PATHS[path]
    t = (gamma + 13.3) / 18.3

    def denoise(x, gamma_t):
        return reading.predict(VECTORS[f"network_{path}_{times}"], x, gamma_t)

    own = align(scale(path, gamma), at)
    growth = 0.5 * (sigma2(gamma) - torch.sigmoid(gamma / 2)) if path == "sp" else torch.zeros_like(gamma)
    drift = own * (velocity(SCHEDULE, denoise, t, at) / 18.3 + align(growth, at) * at)
    close(drift, f"ode_drift_{path}_{times}")


@pytest.mark.parametrize(("path", "times"), CASES)
def test_terms(path, times):
    reading, importance = PATHS[path]

    def denoise(x, gamma_t):
        return reading.predict(VECTORS[f"network_{path}_{times}"], x, gamma_t)

    draw = importance if times == "importance" else UniformTimes()
    vdm = VDM(SCHEDULE, denoise, LIKELIHOOD, ContinuousTime(), draw)
    bound = vdm.elbo(VECTORS["img_nhwc"], GivenDraws({"t": VECTORS["t"], "x_t": VECTORS["eps"], "x_1": VECTORS["eps0"]}))
    close(bound.denoising_matching, f"loss_diff_{path}_{times}", rtol=1e-8)
    close(prior_of(path, VECTORS_X), f"loss_klz_{path}")
    published = reconstruction_divided_by_alpha_twice(path)
    total = bound.denoising_matching + prior_of(path, VECTORS_X) + published
    close(total / (192 * math.log(2)), f"bpd_{path}_{times}", rtol=1e-8)
    excess = (published + bound.reconstruction) / (192 * math.log(2))
    if path == "vp":
        assert torch.allclose(bound.prior_matching, VECTORS["loss_klz_vp"], rtol=RTOL)
        assert excess.abs().max() < 1e-4
    else:
        assert (excess > 0.01).all()


def prior_of(path, x_0):
    """KL(q(x_T | x) ‖ N(0, I)) in the path's own units, in which N(0, I) is another prior than the VDM's."""
    gamma_T = torch.full((len(x_0),), 5.0, dtype=torch.float64)
    own = scale(path, gamma_T)
    marginal = isotropic(align(own * alpha_bar(gamma_T).sqrt(), x_0) * x_0, own**2 * sigma2(gamma_T))
    return kl_divergence(marginal, standard_normal(x_0))


def reconstruction_divided_by_alpha_twice(path):
    """The published number, from x_1/α divided by α again: another one than −log p(x | x_1), by 0.018 bits/dim for sp."""
    gamma_1 = torch.full((len(VECTORS_X),), -13.3, dtype=torch.float64)
    alpha = scale(path, gamma_1) * alpha_bar(gamma_1).sqrt()
    x_1 = q_sample(VECTORS_X, VECTORS["eps0"], gamma_1)
    return -LIKELIHOOD.log_prob(VECTORS["img_nhwc"], x_1 / align(alpha, x_1), gamma_1, None)


@pytest.mark.parametrize("path", PATHS)
def test_published_reconstruction(path):
    close(reconstruction_divided_by_alpha_twice(path), f"loss_recon_{path}")


@pytest.mark.parametrize("path", PATHS)
def test_truncated_normal(path):
    """e is the same on both paths; x_1 and its density differ by the path's scale."""
    x, gamma_1 = VECTORS["img_nhwc"][:2], torch.full((2,), -13.3, dtype=torch.float64)
    normal = torch.special.ndtri(VECTORS["flow_uniform"])
    x_1, log_q = TruncatedNormalDequantisation()(LIKELIHOOD, x, gamma_1, GivenDraws({"dequantise": normal}))
    own = scale(path, gamma_1)
    close(align(own, x_1) * x_1, f"flow_x_0_{path}")
    close(log_q - 192 * own.log(), f"flow_log_q_{path}", rtol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_flow(path, network):
    """Their prior is N(0, σ_T² I). Both integrations have an error of about 1e-9 of their own."""
    reading, _ = PATHS[path]
    denoise = Denoiser(PlusInput(network), reading).requires_grad_(False)
    ends = torch.tensor([-13.3, 5.0], dtype=torch.float64)
    first, last = scale(path, ends)
    x_1 = VECTORS[f"flow_x_0_{path}"] / first
    x_T, change, _ = flow_end(SCHEDULE, denoise, x_1, HutchinsonDivergence(), VECTORS["flow_probe"][None], 1e-9)
    close(last * x_T, f"flow_x_T_{path}", rtol=1e-6)
    change = change + 192 * (last / first).log()
    close(change, f"flow_divergence_{path}", rtol=1e-6)
    noise2 = (last**2 * sigma2(ends[1])).expand(2)
    log_prior = isotropic(torch.zeros_like(x_T), noise2).log_prob(last * x_T)
    close(log_prior, f"flow_log_prior_{path}", rtol=1e-6)
    bits = -(log_prior + change - VECTORS[f"flow_log_q_{path}"]) / (192 * math.log(2))
    close(bits, f"flow_bpd_{path}", rtol=1e-6)
