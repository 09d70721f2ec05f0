"""Agreement with the official VDM (google-research/vdm), number by number; tests/networks/reference/README.md says which."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

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


def flax_parameters(colours, channels, depth, everywhere, fourier):
    """Random parameters of an official network of some size, under its names."""
    random, arrays = np.random.default_rng(0), {}

    def add(name, *shape):
        arrays[f"params/score_model/{name}"] = 0.3 * random.standard_normal(shape)

    def norm(name, n):
        add(f"{name}/scale", n)
        add(f"{name}/bias", n)

    def dense(name, *shape):
        add(f"{name}/kernel", *shape)
        add(f"{name}/bias", shape[-1])

    def block(name, n):
        norm(f"{name}/GroupNorm_0", n)
        dense(f"{name}/conv1", 3, 3, n, channels)
        add(f"{name}/cond_proj/kernel", 4 * channels, channels)
        norm(f"{name}/GroupNorm_1", channels)
        dense(f"{name}/conv2", 3, 3, channels, channels)
        if n != channels:
            dense(f"{name}/nin_shortcut", n, channels)

    def attention(name):
        norm(f"{name}/GroupNorm_0", channels)
        for layer in ("q", "k", "v", "proj_out"):
            dense(f"{name}/{layer}", channels, channels)

    dense("dense0", channels + 1, 4 * channels)
    dense("dense1", 4 * channels, 4 * channels)
    dense("conv_in", 3, 3, colours * (5 if fourier else 1), channels)
    names = [(f"down.{{}}_{i}", channels) for i in range(depth)] + [(f"up.{{}}_{i}", 2 * channels) for i in range(depth + 1)]
    for name, n in names:
        block(name.format("block"), n)
        if everywhere:
            attention(name.format("attn"))
    block("mid.block_1", channels)
    attention("mid.attn_1")
    block("mid.block_2", channels)
    norm("GroupNorm_0", channels)
    dense("conv_out", 3, 3, channels, colours)
    return arrays


def flax_forward(arrays, z, level):
    """ε̂ of channels-last images z, written from the parameters' names alone; ``level`` is (γ − γ_min)/(γ_max − γ_min)."""
    p = {name.removeprefix("params/score_model/"): torch.from_numpy(np.asarray(a)) for name, a in arrays.items()}

    def dense(name, h):
        return h @ p[f"{name}/kernel"] + p.get(f"{name}/bias", 0)

    def conv(name, h):
        out = F.conv2d(h.movedim(-1, 1), p[f"{name}/kernel"].permute(3, 2, 0, 1), p[f"{name}/bias"], padding=1)
        return out.movedim(1, -1)

    def norm(name, h):
        grouped = h.reshape(len(h), -1, 32, h.shape[-1] // 32)
        mean, variance = grouped.mean((1, 3), keepdim=True), grouped.var((1, 3), correction=0, keepdim=True)
        return ((grouped - mean) / (variance + 1e-6).sqrt()).reshape(h.shape) * p[f"{name}/scale"] + p[f"{name}/bias"]

    def block(name, h):
        out = conv(f"{name}/conv1", F.silu(norm(f"{name}/GroupNorm_0", h)))
        out = out + dense(f"{name}/cond_proj", condition)[:, None, None]
        out = conv(f"{name}/conv2", F.silu(norm(f"{name}/GroupNorm_1", out)))
        return (dense(f"{name}/nin_shortcut", h) if f"{name}/nin_shortcut/kernel" in p else h) + out

    def attention(name, h):
        if f"{name}/q/kernel" not in p:
            return h
        flat = norm(f"{name}/GroupNorm_0", h).flatten(1, 2)
        q, k, v = (dense(f"{name}/{part}", flat) for part in "qkv")
        share = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), 2)
        return h + dense(f"{name}/proj_out", share @ v).view_as(h)

    channels = p["dense1/kernel"].shape[0] // 4
    half = channels // 2
    angles = 1000 * level[:, None] * torch.exp(torch.arange(half).double() * -math.log(10_000) / (half - 1))
    embedded = torch.cat([angles.sin(), angles.cos(), torch.zeros(len(z), 1).double()], 1)
    condition = F.silu(dense("dense1", F.silu(dense("dense0", embedded))))
    h = z
    if p["conv_in/kernel"].shape[2] > z.shape[-1]:
        waves = (2 * math.pi * z[..., None] * torch.tensor([64.0, 128.0]).double()).flatten(-2)
        h = torch.cat([z, waves.sin(), waves.cos()], -1)
    h = conv("conv_in", h)
    skips = [h]
    depth = sum(name.startswith("down.block") and name.endswith("conv1/bias") for name in p)
    for i in range(depth):
        h = attention(f"down.attn_{i}", block(f"down.block_{i}", h))
        skips.append(h)
    h = block("mid.block_2", attention("mid.attn_1", block("mid.block_1", h)))
    for i in range(depth + 1):
        h = attention(f"up.attn_{i}", block(f"up.block_{i}", torch.cat([h, skips.pop()], -1)))
    return conv("conv_out", F.silu(norm("GroupNorm_0", h))) + z


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


def official_monotone(features=1024, seed=0):
    """Parameters as the official code would hold them, some kernels negative, and its γ(t) written out."""
    rng = np.random.default_rng(seed)
    arrays = {
        "params/gamma/l1/kernel": np.array([[-18.3]]),
        "params/gamma/l1/bias": np.array([-13.3]),
        "params/gamma/l2/kernel": rng.normal(0, 5, (1, features)),
        "params/gamma/l2/bias": rng.normal(0, 3, features),
        "params/gamma/l3/kernel": rng.normal(0, 20, (features, 1)),
    }

    def gamma(t):
        hidden = np.abs(arrays["params/gamma/l2/kernel"]) * (2 * (t[:, None] - 0.5)) + arrays["params/gamma/l2/bias"]
        bent = 2 * (1 / (1 + np.exp(-hidden)) - 0.5) @ np.abs(arrays["params/gamma/l3/kernel"])[:, 0] / features
        return -13.3 + 18.3 * t + bent

    return arrays, gamma


def test_monotone_schedule_is_the_official_function():
    arrays, gamma = official_monotone()
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    schedule = monotone_schedule(arrays)
    assert torch.allclose(schedule(t), torch.from_numpy(gamma(t.numpy())), rtol=1e-10)
    assert (schedule.gamma_min, schedule.gamma_max) == pytest.approx((gamma(np.zeros(1))[0], gamma(np.ones(1))[0]))
    bend = (schedule(t) - LinearSchedule(schedule.gamma_min, schedule.gamma_max)(t)).abs().max()
    assert bend > 1  # the case is not a straight line


def test_monotone_schedule_refuses_too_curved_paths():
    arrays, _ = official_monotone()
    with pytest.raises(InvalidInput, match="more than 1% of a straight line"):
        monotone_schedule({**arrays, "params/gamma/l1/kernel": np.array([[0.01]])})
    with pytest.raises(InvalidInput, match="is missing"):
        monotone_schedule({"params/gamma/w": np.zeros(1)})
