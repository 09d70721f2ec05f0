"""``vdm-import diffusers``: pipelines' folders against their bound, written out."""

import json
import pickle
import shutil

import pytest
import torch

import vdm
from support import ddpm
from support.commands import invoke
from support.hostile import CALLS, Touching, filled
from vdm.cli import import_model
from vdm.draws import Draws
from vdm.elbo import ContinuousTime
from vdm.errors import InvalidInput

diffusers = pytest.importorskip("diffusers")

STEPS = 25
SMALL = {
    "sample_size": 8,
    "block_out_channels": (32, 32),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 8,
}
LINEAR = [0.001 + (0.3 - 0.001) * t / (STEPS - 1) for t in range(STEPS)]
SIGMOID = [1 / (1 + 2.718281828459045 ** -(-6 + 12 * t / (STEPS - 1))) * (0.3 - 0.001) + 0.001 for t in range(STEPS)]
SCALED = [(0.001**0.5 + (0.3**0.5 - 0.001**0.5) * t / (STEPS - 1)) ** 2 for t in range(STEPS)]
CASES = {
    "epsilon": ({"variance_type": "fixed_small"}, LINEAR, "small"),
    "v": ({"prediction_type": "v_prediction", "variance_type": "fixed_large", "clip_sample": False}, LINEAR, "large"),
    "sample": ({"prediction_type": "sample", "beta_schedule": "sigmoid"}, SIGMOID, "small"),
    "learned": ({"variance_type": "learned_range", "beta_schedule": "scaled_linear"}, SCALED, "learned"),
    "cosine": ({"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}, ddpm.cosine(STEPS), "small"),
    "trained": ({"trained_betas": [0.01, 0.1, 0.5], "clip_sample": False}, [0.01, 0.1, 0.5], "small"),
}


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def network(outputs=3):
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(**SMALL, out_channels=outputs).eval()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return unet


def pipeline(folder, unet, settings, kind="DDPMScheduler", safe=True):
    unet.save_pretrained(folder / "unet", safe_serialization=safe)
    common = {"num_train_timesteps": len(settings.get("trained_betas", LINEAR)), "beta_start": 0.001, "beta_end": 0.3}
    getattr(diffusers, kind)(**common | settings).save_pretrained(folder / "scheduler")
    return folder


def run(path, out, *settings):
    return invoke(import_model, "diffusers", path, f"folder={out}", *settings)


@pytest.mark.parametrize("case", CASES)
def test_every_term_agrees_with_a_sum_over_all_steps(case, tmp_path):
    settings, betas, variance = CASES[case]
    unet = network(6 if variance == "learned" else 3)
    assert run(pipeline(tmp_path / "p", unet, settings), tmp_path / "out") == 0
    model, unet = vdm.load(tmp_path / "out").double(), unet.double()
    kind = settings.get("prediction_type", "epsilon")

    def predict(x_t, t):
        bar = torch.tensor(betas, dtype=torch.float64)[: t + 1].neg().add(1).prod()
        y = unet(x_t, t).sample
        mean, v = y[:, :3], y[:, 3:] if variance == "learned" else None
        readings = {
            "epsilon": (x_t - (1 - bar).sqrt() * mean) / bar.sqrt(),
            "sample": mean,
            "v_prediction": bar.sqrt() * x_t - (1 - bar).sqrt() * mean,
        }
        return readings[kind], v

    x = torch.randint(0, 256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    noise = [Draws(5).normal(f"x_{t}", x.double()) for t in range(1, len(betas) + 1)]
    with torch.no_grad():
        clip = settings.get("clip_sample", True)
        decoder, prior, kls = ddpm.bound_terms(betas, predict, x, noise, variance, clip)
        bound = model.elbo_all_times(x.double(), Draws(5))
    ddpm.assert_agrees(bound, decoder, prior, kls)
    with pytest.raises(InvalidInput, match="discrete time"):
        model.at(ContinuousTime())


@pytest.mark.parametrize("safe", [True, False])
def test_both_forms_of_weights_are_read(safe, tmp_path):
    path = pipeline(tmp_path / "p", network(), {"set_alpha_to_one": False}, "DDIMScheduler", safe)
    assert run(path, tmp_path / "out", "variance=large") == 0
    assert json.loads((tmp_path / "out/vdm.json").read_text())["provenance"]["variance"] == "large"
    assert torch.isfinite(vdm.load(tmp_path / "out").elbo(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)).total).all()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return pipeline(tmp_path_factory.mktemp("good") / "p", network(), {})


def refused(path, tmp_path, capsys, *settings):
    before = set(tmp_path.iterdir())
    assert run(path, tmp_path / "out", *settings) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert set(tmp_path.iterdir()) == before  # nothing ran, nothing was written
    return error


def edited(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def written(content):
    return lambda path: path.write_bytes(content)


UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"
SAFE = "unet/diffusion_pytorch_model.safetensors"
CALL = filled(CALLS["a shell"], {"command": "touch exploited"})
TAMPERED = {
    "zero terminal SNR": (SCHEDULER, edited(rescale_betas_zero_snr=True)),
    "a beta of one": (SCHEDULER, edited(trained_betas=[0.1, 1.0])),
    "betas above one": (SCHEDULER, edited(beta_end=3.0)),
    "betas that are text": (SCHEDULER, edited(beta_end="x")),
    "far too many steps": (SCHEDULER, edited(num_train_timesteps=10**12)),
    "another family": (SCHEDULER, edited(_class_name="EulerDiscreteScheduler")),
    "another table": (SCHEDULER, edited(beta_schedule="laplace")),
    "a learned log-variance": (SCHEDULER, edited(variance_type="learned")),
    "another prediction": (SCHEDULER, edited(prediction_type="flow")),
    "thresholding": (SCHEDULER, edited(thresholding=True)),
    "a scheduler cut short": (SCHEDULER, written(b'{"_class_name": ')),
    "a scheduler that is deep": (SCHEDULER, written(b"[" * 100_000)),
    "another network": (UNET, edited(_class_name="UNet2DConditionModel")),
    "a network with code": (UNET, edited(act_fn=CALL)),
    "a network with an interpolation": (UNET, edited(act_fn="${oc.env:HOME}")),
    "an unknown setting": (UNET, edited(colour="red")),
    "unknown blocks": (UNET, edited(down_block_types=["DownBlock2D", "Evil"])),
    "other channels": (UNET, edited(out_channels=4)),
    "other widths": (UNET, edited(block_out_channels=[32, 64])),
    "weights cut short": (SAFE, lambda path: path.write_bytes(path.read_bytes()[:-100])),
    "weights that are a pickle": (SAFE, written(pickle.dumps(Touching("exploited")))),
    "no weights": (SAFE, lambda path: path.unlink()),
    "latents": ("vae", lambda path: path.mkdir()),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_import_refuses_tampered_folders(name, good, tmp_path, capsys):
    shutil.copytree(good, tmp_path / "p")
    file, change = TAMPERED[name]
    change(tmp_path / "p" / file)
    refused(tmp_path / "p", tmp_path, capsys)


def test_import_refuses_pickled_weights(good, tmp_path, capsys):
    shutil.copytree(good, tmp_path / "p")
    (tmp_path / "p" / SAFE).unlink()
    (tmp_path / "p/unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Touching("exploited")))
    refused(tmp_path / "p", tmp_path, capsys)


@pytest.mark.parametrize("settings", [("variance=huge",), ("event_shape=[1,8,8]",), ("clip=maybe",), ("levels=4",)])
def test_import_names_the_wrong_setting(settings, good, tmp_path, capsys):
    assert settings[0].partition("=")[0] in refused(good, tmp_path, capsys, *settings)


def test_load_without_diffusers_says_what_to_install(good, tmp_path, monkeypatch):
    assert run(good, tmp_path / "out") == 0
    monkeypatch.setattr("vdm.adapters.diffusers.find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match="needs diffusers"):
        vdm.load(tmp_path / "out")
