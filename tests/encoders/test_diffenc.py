"""Agreement with DiffEnc's own numbers (tests/fixtures/beyond/README.md), each array that has a counterpart."""

import pytest
import torch
from torch import nn

from support.beyond import Vectors, arrays, official_network
from support.given_draws import GivenDraws
from vdm.elbo import ContinuousTime
from vdm.encoders import DataPredicting, LinearEncoder, MeanPredicting, NetworkEncoder
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM, RelaxedVDM
from vdm.parameterisations import VelocityParameterisation
from vdm.process import q_sample
from vdm.schedules import LinearSchedule

VECTORS = Vectors("diffenc_vectors")
SCHEDULE = LinearSchedule(-13.3, 5.0)
RTOL = 1e-9
B = len(VECTORS["t"])


@pytest.fixture(scope="module")
def encoder():
    names = ("enc_model", "time_embedding")
    network, state = official_network(arrays("diffenc_params"), "params/encdec/inner_encoder/", names, fourier=False)
    network.last[0] = nn.GroupNorm(16, 64, eps=1e-6).double()
    network.load_state_dict(state)
    return NetworkEncoder(network).requires_grad_(False)


def close(value, name, rtol=RTOL):
    expected = VECTORS[name]
    assert torch.allclose(value, expected, rtol=rtol, atol=rtol * expected.abs().max().item())


def gamma(level):
    return VECTORS["gamma_t"] if level == "t" else VECTORS[f"gamma_{level}"].expand(B)


@pytest.mark.parametrize("level", ["t", "0", "1"])
def test_encoder(encoder, level):
    close(encoder.output(VECTORS["x_0"], gamma(level)), f"encoder_y_{level}")
    close(encoder(VECTORS["x_0"], gamma(level)), f"encoder_f_{level}")


def test_rate_of_the_encoder(encoder):
    mean, rate = encoder.with_rate(VECTORS["x_0"], gamma("t"))
    close(mean, "encoder_f_t")
    close(rate, "encoder_f_gamma_rate_t")


def test_x_t(encoder):
    close(q_sample(VECTORS["x_0"], VECTORS["eps"], gamma("t"), MeanPredicting(encoder)), "x_t")


def test_closed_encoder():
    close(LinearEncoder(1.0)(VECTORS["x_0"], gamma("t")), "fixed_encoder_f_t")


def velocity(name):
    """A denoiser that gives the stored output of the score network, at x_t only."""

    def denoise(x_t, gamma_t):
        return VelocityParameterisation().predict(VECTORS[name], x_t, gamma_t)

    return denoise


def bound(process, v_hat):
    vdm = VDM(SCHEDULE, velocity(v_hat), CategoricalLikelihood(256), ContinuousTime())
    draws = GivenDraws({"t": VECTORS["t"], "x_t": VECTORS["eps"], "x_1": VECTORS["eps0"]})
    model = vdm if process is None else RelaxedVDM(vdm, process)
    return model.elbo(VECTORS["img_nhwc"], draws)


def test_terms(encoder):
    found = bound(MeanPredicting(encoder), "v_hat")
    close(-found.reconstruction, "loss_recon")
    close(found.prior_matching, "loss_klz")
    close(found.denoising_matching, "loss_diff")
    close(found.bits_per_dim, "bpd")


def test_prediction():
    close(velocity("v_hat")(VECTORS["x_t"], gamma("t")).x_0, "x_hat")


def test_terms_of_the_closed_encoder():
    found = bound(MeanPredicting(LinearEncoder(1.0)), "fixed_v_hat")
    close(-found.reconstruction, "fixed_loss_recon")
    close(found.prior_matching, "fixed_loss_klz")
    close(found.denoising_matching, "fixed_loss_diff")


def test_ends_without_an_encoder():
    found = bound(None, "v_hat")
    close(-found.reconstruction, "plain_loss_recon")
    close(found.prior_matching, "plain_loss_klz")


def test_closed_encoder_estimates_alike():
    """For f = ᾱ x the stand-in −σ² f̂ is the derivative: estimating f or x makes the same reverse kernel as s → t."""
    x_hat, level = VECTORS["x_hat"], gamma("t")
    mean_hat = LinearEncoder(1.0)(x_hat, level)
    first = MeanPredicting(LinearEncoder(1.0)).estimate(mean_hat, None, level)
    second = DataPredicting(LinearEncoder(1.0)).estimate(x_hat, None, level)
    assert torch.allclose(first, second, rtol=1e-12)
