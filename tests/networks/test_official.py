"""Agreement with the official VDM (google-research/vdm), number by number; tests/networks/reference/README.md says which."""

from pathlib import Path

import numpy as np
import pytest
import torch

from support.flax_vdm import flax_forward, flax_parameters, official_monotone
from support.given_draws import GivenDraws
from vdm.denoiser import Denoiser
from vdm.elbo import ContinuousTime, DiscreteTime
from vdm.errors import InvalidInput
from vdm.likelihoods import CategoricalLikelihood
from vdm.models import VDM
from vdm.networks import FourierFeatures, VDMUNet
from vdm.networks.official import monotone_schedule, network_state, schedule_ends
from vdm.parameterisations import ResidualNoiseParameterisation
from vdm.process import q_sample
from vdm.samplers import AncestralSampler, Step
from vdm.schedules import LinearSchedule

REFERENCE = Path(__file__).parent / "reference"
PARAMETERS = dict(np.load(REFERENCE / "official_vdm_rgb8_small_params.npz"))
VECTORS = dict(np.load(REFERENCE / "official_vdm_rgb8_small_vectors.npz"))
RTOL = 1e-9


def vector(name):
    """One of the official arrays, images with their channels first."""
    array = torch.from_numpy(VECTORS[name])
    return array.movedim(-1, 1) if array.ndim == 4 else array


@pytest.fixture(scope="module")
def denoiser():
    with pytest.warns(UserWarning, match="hides the noise level"):
        network = VDMUNet((3, 8, 8), channels=32, blocks=1, gamma_min=-13.3, gamma_max=5.0, fourier=FourierFeatures())
    network = network.double()
    network.load_state_dict(network_state(PARAMETERS))
    return Denoiser(network, ResidualNoiseParameterisation()).requires_grad_(False)


@pytest.fixture(scope="module")
def schedule():
    return LinearSchedule(*schedule_ends(PARAMETERS))


def test_gamma(schedule):
    assert torch.allclose(schedule(vector("t")), vector("gamma"), rtol=RTOL)
    assert torch.allclose(schedule.rate(vector("t")), vector("gamma_grad"), rtol=RTOL)
    assert torch.allclose(schedule(vector("gamma_t33")), vector("gamma_33"), rtol=RTOL)


def test_q_sample(schedule):
    x_0 = CategoricalLikelihood(256).encode(vector("img_nhwc").double())
    assert torch.allclose(q_sample(x_0, vector("eps"), schedule(vector("t"))), vector("z_t"), rtol=RTOL, atol=1e-12)


def test_eps_hat(denoiser):
    eps = denoiser(vector("z_t"), vector("gamma")).eps
    assert torch.allclose(eps, vector("eps_hat"), rtol=RTOL, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 10, 250, 1000])
def test_terms(denoiser, schedule, steps):
    """T steps of theirs are T + 1 latents; 0 is continuous time."""
    time = DiscreteTime(steps + 1) if steps else ContinuousTime()
    model = VDM(schedule, denoiser, CategoricalLikelihood(256), time)
    draws = GivenDraws({"t": vector("t"), "x_t": vector("eps"), "x_1": vector("eps0")})
    bound = model.elbo(vector("img_nhwc").double(), draws)
    assert torch.allclose(-bound.reconstruction, vector(f"loss_recon_T{steps}"), rtol=RTOL)
    assert torch.allclose(bound.prior_matching, vector(f"loss_klz_T{steps}"), rtol=RTOL)
    assert torch.allclose(bound.denoising_matching, vector(f"loss_diff_T{steps}"), rtol=RTOL)


def test_bits_per_dim(denoiser, schedule):
    """The means over the batch that were published with the vectors, to their eight decimals."""
    model = VDM(schedule, denoiser, CategoricalLikelihood(256), ContinuousTime())
    draws = GivenDraws({"t": vector("t"), "x_t": vector("eps"), "x_1": vector("eps0")})
    terms = model.elbo(vector("img_nhwc").double(), draws).terms()
    assert terms["denoising_matching"].mean().item() == pytest.approx(17.23678815, abs=6e-9)
    assert terms["prior_matching"].mean().item() == pytest.approx(0.00239871, abs=6e-9)
    assert terms["reconstruction"].mean().item() == pytest.approx(0.00638003, abs=6e-9)


def test_ancestral_step(denoiser, schedule):
    """Step i = 500 of T = 1000, from t = (T − i)/T to s = (T − i − 1)/T."""
    t, s = torch.full((8,), 0.5, dtype=torch.float64), torch.full((8,), 0.499, dtype=torch.float64)
    prediction = denoiser(vector("z_t"), schedule(t))
    step = Step(vector("z_t"), schedule(s), schedule(t), prediction, noise=lambda: vector("eps"))
    assert torch.allclose(AncestralSampler().step(denoiser, step), vector("z_s_i500_T1000"), rtol=RTOL, atol=1e-12)


def test_decoded_argmax(denoiser, schedule):
    likelihood, gamma_1 = CategoricalLikelihood(256), schedule(torch.zeros(8, dtype=torch.float64))
    x_1 = q_sample(likelihood.encode(vector("img_nhwc").double()), vector("eps0"), gamma_1)
    assert torch.equal(likelihood.mode(x_1, gamma_1, denoiser), vector("generate_x"))


def test_forward_pass_matches_the_official_one():
    """So that it may speak for sizes that the vectors do not have.

    The small official network has 32 groups of one channel, and its norms take the noise level's shift out again: what
    the vectors say of everything but the noise level, the sizes below say of that as well.
    """
    level = (torch.from_numpy(VECTORS["gamma"]) + 13.3) / 18.3
    eps = flax_forward(PARAMETERS, torch.from_numpy(VECTORS["z_t"]), level)
    assert torch.allclose(eps, torch.from_numpy(VECTORS["eps_hat"]), rtol=RTOL, atol=1e-12)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("fourier", [False, True])
@pytest.mark.parametrize(("channels", "depth"), [(64, 2), (96, 3)])
def test_networks_of_any_size(colours, everywhere, fourier, channels, depth):
    arrays = flax_parameters(colours, channels, depth, everywhere, fourier)
    network = VDMUNet(
        (colours, 4, 6),
        channels=channels,
        blocks=depth,
        gamma_min=-6.0,
        gamma_max=4.0,
        attention_everywhere=everywhere,
        fourier=FourierFeatures() if fourier else None,
    ).double()
    network.load_state_dict(network_state(arrays))
    stream = torch.Generator().manual_seed(0)
    z = torch.randn(2, 4, 6, colours, dtype=torch.float64, generator=stream)
    gamma = torch.tensor([-4.5, 2.5], dtype=torch.float64)
    eps = Denoiser(network, ResidualNoiseParameterisation())(z.movedim(-1, 1), gamma).eps
    assert torch.allclose(eps, flax_forward(arrays, z, (gamma + 6) / 10).movedim(-1, 1), rtol=1e-8, atol=1e-9)


def test_official_32_channels_do_not_depend_on_gamma(denoiser):
    """A shift of one channel is removed by the norm of that channel: the vectors cannot speak for the time embedding."""
    z, gamma = vector("z_t"), vector("gamma")
    assert torch.allclose(denoiser.network(z, gamma), denoiser.network(z, gamma.flip(0)), atol=1e-12)


def test_schedule_ends_ignore_the_sign_of_w():
    arrays = {"params/gamma/w": np.array([-18.3]), "params/gamma/b": np.array([-13.3])}
    assert schedule_ends(arrays) == pytest.approx((-13.3, 5.0))
    with pytest.raises(InvalidInput, match="gamma/w"):
        schedule_ends({"params/gamma/l1/kernel": np.zeros((1, 1))})


@pytest.mark.parametrize("name", ["down.block_0/conv3/kernel", "encoder/kernel", "dense0/weights", "conv_in/q/kernel"])
def test_refuses_unknown_names(name):
    with pytest.raises(InvalidInput, match="not a parameter of the official"):
        network_state({f"params/score_model/{name}": np.zeros((3, 3))})


def test_refuses_arrays_without_the_network():
    with pytest.raises(InvalidInput, match="no parameter's name begins with"):
        network_state({"gamma/w": np.zeros(1)})


def test_monotone_schedule_is_the_official_function():
    arrays, gamma = official_monotone()
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    schedule = monotone_schedule(arrays)
    assert torch.allclose(schedule(t), torch.from_numpy(gamma(t.numpy())), rtol=1e-12)
    assert (schedule.gamma_min, schedule.gamma_max) == pytest.approx((gamma(np.zeros(1))[0], gamma(np.ones(1))[0]))
    bend = (schedule(t) - LinearSchedule(schedule.gamma_min, schedule.gamma_max)(t)).abs().max()
    assert bend > 1  # the case is not a straight line


def test_monotone_schedule_takes_paths_without_a_straight_line():
    arrays, gamma = official_monotone(line=0.01)
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert torch.allclose(monotone_schedule(arrays)(t), torch.from_numpy(gamma(t.numpy())), rtol=1e-12)


def test_monotone_schedule_refuses_other_parameters():
    arrays, _ = official_monotone()
    with pytest.raises(InvalidInput, match="do not fit together"):
        monotone_schedule({**arrays, "params/gamma/l2/bias": np.zeros(3)})
    with pytest.raises(InvalidInput, match="is missing"):
        monotone_schedule({"params/gamma/w": np.zeros(1)})
