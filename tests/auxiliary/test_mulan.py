"""Agreement with MuLAN's own numbers (tests/fixtures/beyond/README.md), each array that has a counterpart."""

import numpy as np
import pytest
import torch

from support.beyond import Vectors, arrays, official_network
from support.given_draws import GivenDraws
from vdm.auxiliary import AuxiliaryLatent, GaussianLatent, LatentFamily
from vdm.auxiliary.published import categorical_kl_of_k_hot, perturbed_top_k, sum_of_gamma_noise
from vdm.elbo import ContinuousTime
from vdm.evaluation.flow import velocity
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM, LatentVDM
from vdm.networks import FourierFeatures, VDMUNetSummary
from vdm.parameterisations import NoiseParameterisation, VelocityParameterisation
from vdm.process import q_sample
from vdm.schedules import PolynomialSchedule

RTOL = 1e-9
HOT = 4
KINDS = ("topk", "gaussian")
READINGS = {"v": VelocityParameterisation(), "eps": NoiseParameterisation()}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def vectors(kind):
    return Vectors(f"mulan_{kind}_vectors")


@pytest.fixture(scope="module")
def parameters(kind):
    return arrays(f"mulan_{kind}_params")


def close(value, expected, rtol=RTOL):
    assert torch.allclose(value, expected, rtol=rtol, atol=rtol * expected.abs().max().item())


def load_dense(layer, parameters, path, order=None):
    """Set a linear layer from flax's; ``order`` permutes its outputs from channels last to channels first."""
    kernel, bias = (
        torch.from_numpy(np.asarray(parameters[f"{path}/{part}"], dtype=np.float64)) for part in ("kernel", "bias")
    )
    if order is not None:
        kernel, bias = kernel[:, order], bias[order]
    layer.weight.data, layer.bias.data = kernel.T.contiguous(), bias


@pytest.fixture(scope="module")
def schedule(vectors, parameters):
    made = PolynomialSchedule(-13.3, 5.0, (3, 8, 8), latent=vectors["z"].shape[1], hidden=48).double()
    order = torch.arange(192).view(8, 8, 3).movedim(-1, 0).flatten()
    load_dense(made.first, parameters, "params/gamma/dense_1")
    load_dense(made.second, parameters, "params/gamma/dense_2")
    for name in "abc":
        load_dense(getattr(made, name), parameters, f"params/gamma/dense_out_{name}", order)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def given(schedule, vectors):
    return schedule.with_condition(vectors["z"])


def test_schedule_network(given, vectors):
    for name, value in zip("abc", given.coefficients(vectors["t"]), strict=True):
        close(value.view_as(vectors[f"poly_{name}"]), vectors[f"poly_{name}"])


def test_gamma(given, vectors):
    t = vectors["t"]
    close(given(t), vectors["gamma_t"])
    close(given.rate(t), vectors["gamma_rate_t"])
    for end in (0.0, 1.0):
        close(given(torch.full_like(t, end)), vectors[f"gamma_{end:.0f}"])
    first, grid = given.with_condition(vectors["z"][:1]), vectors["gamma_grid_t"]
    close(torch.cat([first(each[None]) for each in grid]), vectors["gamma_grid"])


def test_x_t(vectors):
    close(q_sample(vectors["x_0"], vectors["eps"], vectors["gamma_t"]), vectors["x_t"])


def test_encoder_of_the_k_hot_latent():
    vectors, parameters = Vectors("mulan_topk_vectors"), arrays("mulan_topk_params")
    body = {k: v for k, v in parameters.items() if "dense_layer_final" not in k}
    _, state = official_network(body, "params/encoder_model/")
    network = VDMUNetSummary((3, 8, 8), 64, 1, -13.3, 5.0, fourier=FourierFeatures(), features=12).double()
    load_dense(network.dense, parameters, "params/encoder_model/dense_layer_final")
    missing = network.load_state_dict(state, strict=False)
    assert set(missing.missing_keys) == {"dense.weight", "dense.bias"}
    assert not missing.unexpected_keys
    close(network.requires_grad_(False)(vectors["x_0"]), vectors["latent_logits"])


def test_published_k_hot_latent():
    vectors = Vectors("mulan_topk_vectors")
    noise = sum_of_gamma_noise(vectors.raw("latent_draws"), HOT)
    close(noise, vectors["latent_noise"])
    assert torch.equal(perturbed_top_k(vectors["latent_logits"], noise, HOT), vectors["z"])
    close(categorical_kl_of_k_hot(vectors["latent_logits"]), vectors["kl_z"])


def gaussian_parameters(vectors):
    return torch.cat([vectors["latent_mean"], vectors["latent_var"].expm1().log()], 1)


def test_gaussian_latent():
    vectors = Vectors("mulan_gaussian_vectors")
    family, parameters = GaussianLatent(6), gaussian_parameters(vectors)
    close(family.draw(parameters, GivenDraws({"latent": vectors["latent_draws"]})), vectors["z"])
    close(family.kl(parameters), vectors["kl_z"])


class GivenFamily(LatentFamily):
    """The published z with the number that is published as its KL."""

    def __init__(self, vectors):
        super().__init__(vectors["z"].shape[1])
        self.z, self.published = vectors["z"], vectors["kl_z"]

    @property
    def parameters(self):
        return self.size

    def draw(self, parameters, draws):
        return self.z

    def kl(self, parameters):
        return self.published

    def log_ratio(self, parameters, z):
        return self.published

    def prior(self, like, draws):
        return self.z


class StoredOutput:
    """The stored output of the score network, at x_t only."""

    def __init__(self, vectors, reading):
        self.output, self.reading = vectors["network"], READINGS[reading]

    def with_condition(self, z):
        return self

    def __call__(self, x_t, gamma_t):
        return self.reading.predict(self.output, x_t, gamma_t)


@pytest.mark.parametrize("reading", READINGS)
def test_terms(reading, schedule, vectors):
    latent = AuxiliaryLatent(GivenFamily(vectors), lambda features: torch.nn.Flatten())
    vdm = VDM(schedule, StoredOutput(vectors, reading), CategoricalLikelihood(256), ContinuousTime())
    draws = GivenDraws({"t": vectors["t"], "x_t": vectors["eps"], "x_1": vectors["eps0"]})
    bound = LatentVDM(vdm, latent).elbo(vectors["img_nhwc"], draws)
    close(-bound.reconstruction, vectors["loss_recon"])
    close(bound.prior_matching + bound.auxiliary_kl, vectors["loss_klz"])
    close(bound.denoising_matching, vectors[f"loss_diff_{reading}_T0"])
    close(bound.bits_per_dim, vectors[f"bpd_{reading}_T0"])


@pytest.mark.parametrize("reading", READINGS)
def test_flow(reading, given, vectors):
    drift = velocity(given, StoredOutput(vectors, reading), vectors["t"], vectors["x_t"])
    close(drift, vectors[f"ode_drift_{reading}"])
