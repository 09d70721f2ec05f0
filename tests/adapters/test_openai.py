"""``vdm-import openai``: improved-diffusion's and guided-diffusion's models against their bound, written out."""

import pickle
import zipfile

import pytest
import torch

import vdm
from support import ddpm
from support.commands import invoke
from support.hostile import Touching
from support.openai_unet import Architecture, forward, random_state
from vdm.cli import import_model
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput
from vdm.networks import OpenAIUNet

SIZES = "--num_channels 32 --num_res_blocks 1"
STEPS = {"cosine": 6, "linear": 21}
CASES = {
    "learned, cosine": (
        "improved",
        "--image_size 32 --attention_resolutions 16,8 --num_heads 2 --learn_sigma True --noise_schedule cosine",
        {"heads": 2, "outputs": 6, "attention": [16, 8]},
        ("cosine", "learned", 1000 / 6, False),
    ),
    "small": (
        "improved",
        "--image_size 32 --attention_resolutions 8 --num_heads 1 --sigma_small True "
        "--use_scale_shift_norm False --rescale_timesteps False",
        {"scale_shift": False, "attention": [8]},
        ("linear", "small", 1.0, True),
    ),
    "guided": (
        "guided",
        "--image_size 8 --attention_resolutions 4 --num_head_channels 32 --resblock_updown True "
        "--use_new_attention_order True "
        "--channel_mult 1,2,2 --predict_xstart True",
        {"heads": 2, "updown": True, "new_order": True, "attention": [4], "multipliers": [1, 2, 2], "size": 8},
        ("linear", "large", 1.0, False),
    ),
}


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def saved(tmp_path, state, name="ema_0.9999_1.pt"):
    torch.save(state, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("case", CASES)
def test_every_term_agrees_with_a_sum_over_all_steps(case, tmp_path):
    preset, flags, options, (schedule, variance, scale, clip) = CASES[case]
    size = options.pop("size", 32)
    a = Architecture(size, 32, options.pop("multipliers", [1, 2, 2, 2]), 1, options.pop("attention"), **options)
    state = random_state(a)
    flags = f"{SIZES} {flags} --diffusion_steps {STEPS[schedule]}"
    arguments = (f"preset={preset}", f"flags={flags}", f"clip={clip}", f"folder={tmp_path}/model")
    assert invoke(import_model, "openai", saved(tmp_path, state), *arguments) == 0
    model = vdm.load(tmp_path / "model").double()
    betas = getattr(ddpm, schedule)(STEPS[schedule])

    def predict(x_t, t):
        y = forward(a, state, x_t, torch.full((len(x_t),), scale * t, dtype=torch.float64))
        bar = torch.tensor(betas, dtype=torch.float64)[: t + 1].neg().add(1).prod()
        mean, v = y[:, :3], y[:, 3:] if variance == "learned" else None
        return (mean if case == "guided" else (x_t - (1 - bar).sqrt() * mean) / bar.sqrt()), v

    x = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(1))
    x[0, 0, 0, :2] = torch.tensor([0, 255])
    noise = [Draws(5).normal(f"x_{t}", x.double()) for t in range(1, len(betas) + 1)]
    decoder, prior, kls = ddpm.bound_terms(betas, predict, x, noise, variance, clip)
    with torch.no_grad():
        bound = model.elbo_all_times(x.double(), Draws(5))
    ddpm.assert_agrees(bound, decoder, prior, kls)
    with pytest.raises(InvalidInput, match="discrete time"):
        model.at(ContinuousTime())


def test_conditional_models_take_labels():
    a = Architecture(8, 32, [1, 2], 1, [4], classes=10)
    network = OpenAIUNet((3, 8, 8), 32, [1, 2], 1, [4], classes=10).double()
    state = random_state(a)
    network.load_state_dict(state)
    x, label = torch.randn(3, 3, 8, 8, dtype=torch.float64), torch.tensor([1, 9, 4])
    number = torch.tensor([0.0, 7.25, 999.0], dtype=torch.float64)
    assert torch.allclose(network(x, number, label), forward(a, state, x, number, label), rtol=1e-9, atol=1e-11)
    with pytest.raises(InvalidInput, match="needs labels"):
        network(x, number)


GOOD = random_state(Architecture(32, 32, [1, 2, 2, 2], 1, [16, 8], heads=4))
SETTINGS = ("preset=improved", f"flags={SIZES} --image_size 32")


def refused(path, tmp_path, capsys, *settings):
    before = set(tmp_path.iterdir())
    assert invoke(import_model, "openai", path, f"folder={tmp_path}/out", *(settings or SETTINGS)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert set(tmp_path.iterdir()) == before  # nothing ran, nothing was written
    return error


def other(name, value):
    return GOOD | {name: value}


FILES = {
    "a pickle": pickle.dumps(Touching("exploited")),
    "an old pickle": pickle.dumps(Touching("exploited"), protocol=2),
    "empty": b"",
    "text": b"hello",
    "zip only": b"PK\x05\x06" + bytes(18),
}
STATES = {
    "code inside": {**GOOD, "x": Touching("exploited")},
    "a list": [1, 2],
    "nothing": {},
    "an optimiser": {"state": {}, "param_groups": []},
    "numbers": other("out.2.bias", 3),
    "whole numbers": other("out.2.bias", torch.zeros(3, dtype=torch.long)),
    "sparse": other("out.2.bias", torch.zeros(3).to_sparse()),
    "a wrong shape": other("out.2.bias", torch.zeros(4)),
    "an unknown name": other("encoder.weight", torch.zeros(4)),
    "not finite": other("out.2.bias", torch.tensor([0.0, float("nan"), 0.0])),
    "a missing weight": {name: value for name, value in GOOD.items() if name != "out.2.bias"},
}


@pytest.mark.parametrize("name", FILES)
def test_import_refuses_bad_files(name, tmp_path, capsys):
    (tmp_path / "m.pt").write_bytes(FILES[name])
    refused(tmp_path / "m.pt", tmp_path, capsys)


@pytest.mark.parametrize("name", STATES)
def test_import_refuses_bad_states(name, tmp_path, capsys):
    refused(saved(tmp_path, STATES[name]), tmp_path, capsys)


def test_import_refuses_a_compressed_archive(tmp_path, capsys):
    """It could unpack to any size."""
    path = saved(tmp_path, GOOD)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert "compressed" in refused(path, tmp_path, capsys)


def test_import_refuses_an_expanded_tensor(tmp_path, capsys):
    """One number seen a million times would size the network."""
    state = dict(GOOD)
    name = next(name for name, value in state.items() if value.ndim == 4)
    state[name] = state[name].flatten()[:1].expand(10**6)
    assert "not stored in full" in refused(saved(tmp_path, state), tmp_path, capsys)


def test_import_refuses_a_file_cut_short(tmp_path, capsys):
    path = saved(tmp_path, GOOD)
    path.write_bytes(path.read_bytes()[:-1000])
    refused(path, tmp_path, capsys)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (("preset=cifar",), "cifar10"),
        (("preset=improved", "flags=--num_chanels 32"), "num_channels"),
        (("preset=improved", "flags=--num_channels"), "pairs"),
        (("preset=improved", "flags=--num_channels many"), "num_channels"),
        (("preset=improved", "flags=--noise_schedule sqrt"), "linear or cosine"),
        (("preset=cifar10",), "shape"),
        (("preset=improved", "flags=--image_size 48"), "channel_mult"),
    ],
)
def test_import_names_the_wrong_setting(settings, word, tmp_path, capsys):
    assert word in refused(saved(tmp_path, GOOD), tmp_path, capsys, *settings)
