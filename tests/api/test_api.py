"""The calls from Python: light imports, and the same numbers and refusals as the commands."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import vdm
from support.catalogue import composed
from support.exports import MODELS, call, exported
from support.training_runs import SMALL
from vdm.cli.train import train as train_config
from vdm.draws import ExampleDraws
from vdm.elbo import ContinuousTime
from vdm.networks import NearestStep
from vdm.parameterisations import LearnedVarianceParameterisation, NoiseParameterisation
from vdm.runs import hub

TINY = (*SMALL, "trainer.max_steps=4", "callbacks.bound_terms.every=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return vdm.train(["experiment=digits", *TINY], folder=tmp_path_factory.mktemp("a run") / "x=1")


LIGHT = """
import resource, sys
spent = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
before = spent()
import vdm
assert spent() - before < 0.3
assert not {"torch", "numpy", "hydra", "lightning"} & {*sys.modules}
"""


def test_import_is_light():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def test_every_public_name_exists():
    for name in set(dir(vdm)) - set(vars(vdm)):
        assert getattr(vdm, name) is not None
    assert not hasattr(vdm, "unknown")


def test_train_leaves_hydra_as_it_was(run):
    assert not HydraConfig.initialized()
    assert not GlobalHydra.instance().is_initialized()
    assert (run.folder / "overrides.yaml").read_text().startswith("- experiment=digits")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["shedule=cosine"], "did you mean 'schedule'"),
        (["schedule=cosin"], "schedule has no option 'cosin'; did you mean 'cosine'"),
        (["model.schedule.gamma_min=9"], "gamma_min must be finite and below gamma_max"),
        ("resume=maybe", "resume"),
    ],
)
def test_train_raises_what_the_command_refuses(overrides, line, tmp_path):
    with pytest.raises(vdm.InvalidInput, match=line) as caught:
        vdm.train(overrides, folder=tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_train_refuses_a_folder_with_a_result(run):
    with pytest.raises(vdm.InvalidInput, match="holds an earlier run's result"):
        vdm.train(["experiment=digits", *TINY], folder=run.folder)


def test_composed_config_trains_without_a_job(tmp_path, run):
    config = composed("experiment=digits", *TINY, f"output_dir={tmp_path}/run")
    assert not HydraConfig.initialized()
    assert train_config(config) == run.metrics["val"]["bits_per_dim"]["value"]
    config = composed("experiment=digits", "~output_dir", "+output_dir=${hydra:runtime.output_dir}")
    with pytest.raises(vdm.InvalidInput, match="compose with output_dir=FOLDER"):
        train_config(config)


def test_load_takes_a_run_and_its_checkpoint(run):
    x, draws = torch.randint(0, 17, (3, 1, 8, 8)), ExampleDraws(torch.arange(3), 0)
    tested = run.folder / "checkpoints" / run.metrics["provenance"]["checkpoint"]
    bounds = [model.elbo(x, draws).total for model in (run.model, vdm.load(run.folder), vdm.load(str(tested)))]
    assert torch.equal(bounds[0], bounds[1])
    assert torch.equal(bounds[0], bounds[2])
    assert not torch.equal(vdm.load(tested, ema=False).elbo(x, draws).total, bounds[0])


def test_evaluation_of_a_run_is_its_own(run):
    found = vdm.evaluate(run.folder, batch_size=100)
    for name, estimate in run.terms.items():
        assert found.terms[name] == pytest.approx(estimate, rel=1e-5, abs=1e-6), name
    assert found.warnings == run.warnings
    assert f"{run.bits_per_dim.value:.2f}" in str(found)
    more = vdm.evaluate(run.folder, repeats=3, seed=5)
    assert (more.repeats, more.seed, more.examples) == (3, 5, 297)


def gaussian(x_t, gamma_t):
    """E[ε | x_t] for data N(0, 1)."""
    return torch.sigmoid(gamma_t).sqrt()[:, None] * x_t


def test_wrapped_gaussian_has_its_entropy():
    """The optimal denoiser's bound in continuous time is −log p, but for the ends: below 1e-3 at γ = ±12."""
    x = torch.randn(400, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = vdm.wrap(gaussian, vdm.LinearSchedule(-12.0, 12.0), likelihood=vdm.GaussianLikelihood())
    found = vdm.evaluate(model, x, repeats=32).bits_per_dim
    exact = (0.5 * x.square() + 0.5 * math.log(2 * math.pi)).mean().item() / math.log(2)
    assert abs(found.value - exact) < 4 * found.mc_se + 1e-3
    assert found.mc_se < 0.1


@pytest.mark.parametrize("takes", ["t", "step", "function"])
def test_wrap_gives_what_the_function_takes(takes):
    alphas, x = [0.99 - 0.02 * n for n in range(20)], torch.randint(0, 17, (5, 6))
    schedule = vdm.TabulatedSchedule(None, None, alphas)
    gammas = schedule(torch.linspace(0, 1, 20, dtype=torch.float64))
    seen = {"t": "t", "step": NearestStep(alphas), "function": lambda gamma: gamma / 2}[takes]
    back = {
        "t": lambda t: schedule(t),
        "step": lambda n: gammas[n.round().long()].float(),
        "function": lambda half: 2 * half,
    }[takes]
    model = vdm.wrap(lambda x_t, given: gaussian(x_t, back(given)), schedule, levels=17, time=20, takes=seen)
    plain = vdm.wrap(gaussian, schedule, levels=17, time=20)
    bounds = [each.elbo(x, ExampleDraws(torch.arange(5), 0)).total for each in (model, plain)]
    assert torch.allclose(*bounds, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({}, "give one of levels="),
        ({"levels": 17, "likelihood": "both"}, "give one of levels="),
        ({"levels": 17, "parameterisation": "nois"}, "did you mean 'noise'"),
        ({"levels": 17, "takes": "sigma"}, "takes='sigma' is not known"),
        ({"levels": 17, "parameterisation": LearnedVarianceParameterisation(NoiseParameterisation())}, "discrete time"),
    ],
)
def test_wrap_refuses_in_one_line(settings, line):
    with pytest.raises(vdm.InvalidInput, match=line):
        vdm.wrap(gaussian, vdm.LinearSchedule(-8.0, 5.0), **settings)


def test_wrapped_function_of_another_shape_is_refused():
    model = vdm.wrap(lambda x_t, gamma_t: gamma_t, vdm.LinearSchedule(-8.0, 5.0), levels=17)
    with pytest.raises(vdm.InvalidInput, match=r"must return a tensor of shape \(2, 3\)"):
        model.elbo(torch.zeros(2, 3))


def test_wrapped_module_is_part_of_the_model():
    model = vdm.wrap(Scaled(), vdm.LinearSchedule(-8.0, 5.0), levels=17)
    assert [name for name, _ in model.named_parameters()] == ["denoiser.network.function.scale"]
    assert not any(part.training for part in model.modules())
    model.train()
    vdm.evaluate(model, torch.zeros(2, 3), repeats=2)
    assert all(part.training for part in model.modules())


class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x_t, gamma_t):
        return self.scale * gaussian(x_t, gamma_t)


class WrongRate(vdm.LinearSchedule):
    def rate(self, t):
        return super().rate(t) / 2


def test_evaluate_holds_own_parts_to_their_laws():
    model = vdm.wrap(gaussian, WrongRate(-8.0, 5.0), levels=17)
    with pytest.raises(vdm.InvalidInput, match=r"WrongRate breaks its law"):
        vdm.evaluate(model, torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, bool, np.float32])
def test_evaluate_takes_arrays_of_levels(dtype):
    levels = np.array([[0, 1, 1], [1, 0, 1]])
    model = vdm.wrap(gaussian, vdm.LinearSchedule(-8.0, 5.0), levels=2)
    expected = vdm.evaluate(model, torch.from_numpy(levels), repeats=2).terms
    assert vdm.evaluate(model, levels.astype(dtype), repeats=2).terms == expected


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ([[1.0]], "got list"),
        (np.array([["a"]]), "neither levels nor reals"),
        (torch.zeros(0, 3), "at least one"),
        (torch.full((2, 3), 17), "integer levels 0 … 16"),
        (None, "got NoneType"),
    ],
)
def test_evaluate_refuses_other_data(data, line):
    model = vdm.wrap(gaussian, vdm.LinearSchedule(-8.0, 5.0), levels=17)
    with pytest.raises(vdm.InvalidInput, match=line):
        vdm.evaluate(model, data)


def test_evaluate_and_sample_refuse_a_bare_network():
    for refused in (lambda: vdm.evaluate(gaussian, torch.zeros(2, 3)), lambda: vdm.sample(torch.nn.Linear(1, 1), 2)):
        with pytest.raises(vdm.InvalidInput, match=r"vdm\.wrap makes a function a model"):
            refused()


def test_samples_do_not_depend_on_their_number(run):
    model = vdm.wrap(gaussian, vdm.LinearSchedule(-8.0, 5.0), levels=17)
    few, many = (vdm.sample(model, n, (6,), steps=3, seed=1) for n in (2, 260))
    assert torch.equal(many[:2], few)
    assert vdm.sample(run.folder, 2, steps=2).shape == (2, 1, 8, 8)
    with pytest.raises(vdm.InvalidInput, match="event_shape is needed"):
        vdm.sample(model, 2)


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """The Hub as folders of this machine."""
    root = tmp_path / "hub"

    class Api:
        def create_repo(self, name, exist_ok):
            (root / name).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, repo_id, folder_path, allow_patterns):
            if repo_id == "user/denied":
                raise PermissionError("403 Forbidden\nfor url")
            for name in allow_patterns:
                (root / repo_id / name).write_bytes((tmp_path / folder_path / name).read_bytes())

    def snapshot_download(name, revision, allow_patterns):
        if not (root / name).is_dir() or revision not in (None, "v1"):
            raise FileNotFoundError(f"404 {name} {revision}")
        return str(root / name)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=Api, snapshot_download=snapshot_download))
    return root


def test_export_pushes_a_run_with_its_card(run, tmp_path, local_hub, capsys):
    checkpoint = run.folder / "checkpoints" / run.metrics["provenance"]["checkpoint"]
    arguments = [f"ckpt='{checkpoint}'", f"folder={tmp_path}/out"]
    assert call(*arguments, "push=user/digits") == 0
    assert 'vdm.load("user/digits")' in capsys.readouterr().out
    x, draws = torch.randint(0, 17, (3, 1, 8, 8)), ExampleDraws(torch.arange(3), 0)
    for name in ("user/digits", "user/digits@v1"):
        assert torch.equal(vdm.load(name).elbo(x, draws).total, run.model.elbo(x, draws).total)
    card = (local_hub / "user/digits/README.md").read_text()
    value, mc_se, data_se = run.bits_per_dim.shown()
    about = run.metrics["provenance"]["data"]["splits"]
    assert f"| total | {value} | {mc_se} | {data_se} | {run.bits_per_dim.shown_interval()} |" in card
    assert all(part in card for part in (*run.warnings, about["test"]["sha256"], 'vdm.load("user/digits")', "(1, 8, 8)"))


def test_card_of_another_checkpoint_has_no_numbers(tmp_path, local_hub):
    checkpoint, _ = exported(tmp_path, MODELS["vdm"][1])
    assert call(f"ckpt={checkpoint}", f"folder={tmp_path}/again", "push=user/raw") == 0
    assert "Not evaluated" in (local_hub / "user/raw/README.md").read_text()
    assert call(f"ckpt={checkpoint}", f"folder={tmp_path}/third", "push=user/denied") == 2


def test_hub_refuses_in_one_line(local_hub, monkeypatch):
    for name in ("user/none", "user/none@v2"):
        with pytest.raises(vdm.InvalidInput, match="there is no file or folder user/none") as caught:
            vdm.load(name)
        assert "\n" not in str(caught.value)
    for name in ("digits", "a/b/c", "user/x@v1", 3):
        with pytest.raises(vdm.InvalidInput, match="not a repository of the Hugging Face Hub"):
            hub.check_push(name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(vdm.InvalidInput, match="needs the package huggingface_hub"):
        vdm.load("user/digits")


def test_entry_of_an_evaluation_is_strict_json(run):
    entry = vdm.evaluate(run.model, np.zeros((1, 1, 8, 8), np.uint8), repeats=2).entry()
    assert json.loads(json.dumps(entry, allow_nan=False))["bits_per_dim"]["data_se"] is None


def test_time_of_wrap_is_continuous_unless_given():
    schedule = vdm.LinearSchedule(-8.0, 5.0)
    assert isinstance(vdm.wrap(gaussian, schedule, levels=17).time, ContinuousTime)
    assert str(vdm.wrap(gaussian, schedule, levels=17, time=9).time) == "9"
