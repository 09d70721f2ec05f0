"""Exported models: equal to the trained ones, loaded without Hydra and Lightning, and checked against changes."""

import json
import subprocess
import sys

import pytest
import torch

from support.exports import MODELS, call, exported
from support.hostile import CALLS, filled
from vdm.draws import ExampleDraws
from vdm.errors import InvalidInput
from vdm.models import HVAE, VDM
from vdm.runs.load import load_run


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("export"), MODELS["vdm"][1])


@pytest.mark.parametrize("name", MODELS)
def test_exported_model_has_the_same_bound(name, tmp_path):
    kind, overrides = MODELS[name]
    checkpoint, folder = exported(tmp_path, overrides)
    run = load_run(str(checkpoint), ema=True)
    x, draws = run.data.splits()["test"].x[:4], ExampleDraws(torch.arange(4), seed=3)
    loaded, trained = (model.elbo(x, draws) for model in (kind.from_pretrained(folder), run.model))
    for term, value in loaded.terms().items():
        assert torch.equal(value, trained.terms()[term]), term
    written = json.loads((folder / "vdm.json").read_text())
    assert (written["format"], written["event_shape"], written["levels"], written["weights"]) == (2, [1, 8, 8], 17, "ema")
    assert written["provenance"]["step"] == 7
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "vdm.json"]


ALONE = """
import sys, torch
from vdm.models import VDM
from vdm.draws import ExampleDraws
model = VDM.from_pretrained(sys.argv[1])
assert not model.training
x = torch.load(sys.argv[2], weights_only=True)
print(model.elbo(x, ExampleDraws(torch.arange(4), seed=3)).total.tolist())
heavy = {"hydra", "lightning", "omegaconf", "pytorch_lightning", "wandb"}
imported = heavy & {name.partition(".")[0] for name in sys.modules}
assert not imported, imported
"""


def test_load_imports_neither_hydra_nor_lightning(pair, tmp_path):
    checkpoint, folder = pair
    run = load_run(str(checkpoint), ema=True)
    x = run.data.splits()["test"].x[:4]
    torch.save(x, tmp_path / "x.pt")
    command = [sys.executable, "-c", ALONE, folder, tmp_path / "x.pt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = run.model.elbo(x, ExampleDraws(torch.arange(4), seed=3)).total.tolist()
    assert json.loads(done.stdout) == expected


@pytest.fixture
def copied(pair, tmp_path):
    for path in pair[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def refused(folder, message, **given):
    with pytest.raises(InvalidInput, match=message) as caught:
        VDM.from_pretrained(folder, **given)
    assert "\n" not in str(caught.value)


def changed(folder, change):
    """Change the description on purpose, with ``own_sha256`` null."""
    content = json.loads((folder / "vdm.json").read_text()) | {"own_sha256": None}
    change(content["model"])
    (folder / "vdm.json").write_text(json.dumps(content))


def test_load_refuses_bad_folders_in_one_line(copied, tmp_path_factory):
    weights, description = copied / "model.safetensors", copied / "vdm.json"
    whole, text = weights.read_bytes(), description.read_text()
    refused(tmp_path_factory.mktemp("empty"), "holds no exported model")
    refused(copied / "nowhere", "holds no exported model")
    for content in (whole[:-1], whole[:100], b"", whole[:-1] + b"x"):
        weights.write_bytes(content)
        refused(copied, "missing, cut short or not the file")
    weights.unlink()
    refused(copied, "missing, cut short or not the file")
    weights.write_bytes(whole)
    deep = "[" * 100_000
    for content in ("", text[:200], "[1]", "{}", '{"format": 1}', '{"format": 1, "colour": "red"}', "\xff", deep):
        description.write_text(content)
        refused(copied, "is not what vdm-export writes")
    description.write_text(text.replace('"format": 2', '"format": 9'))
    refused(copied, "has format 9, this version of vdm reads 2")
    description.write_text(text)
    changed(copied, lambda model: model["denoiser"]["network"].update(channels=16))
    refused(copied, "does not fit the model")
    digits = {"_target_": "vdm.data.Digits", "event_shape": [1, 8, 8], "batch_size": 1, "eval_batch_size": 1}
    changed(copied, lambda model: (model.clear(), model.update(digits)))
    refused(copied, "does not fit the model")
    description.write_text(text)
    with pytest.raises(InvalidInput, match=r"holds a VDM, not a HVAE: call VDM\.from_pretrained"):
        HVAE.from_pretrained(copied)


def test_load_takes_changes_without_own_sha256_only(copied):
    """Another γ_max fits the weights, but is another model."""
    description = copied / "vdm.json"
    own = json.loads(description.read_text())["model"]["schedule"]["gamma_max"]
    description.write_text(description.read_text().replace(f'"gamma_max": {own}', '"gamma_max": 1.5'))
    refused(copied, r"vdm\.json was changed: .* set own_sha256 in it to null if you mean it")
    changed(copied, lambda model: None)
    assert VDM.from_pretrained(copied).schedule.gamma_max == 1.5


@pytest.mark.parametrize("name", CALLS)
def test_load_refuses_hostile_calls_unrun(name, copied):
    file = copied / "exploited"
    call = filled(CALLS[name], {"command": f"touch {file}", "file": str(file)})
    changed(copied, lambda model: model.update(schedule=call))
    refused(copied, r"model\.schedule")
    assert not file.exists()


def test_load_refuses_interpolations(copied):
    changed(copied, lambda model: model["schedule"].update(gamma_min="${oc.env:HOME}"))
    refused(copied, "is an interpolation")


def test_load_needs_trust_for_other_packages(copied, tmp_path, monkeypatch):
    (tmp_path / "my_schedules.py").write_text("from vdm.schedules import LinearSchedule\nclass Mine(LinearSchedule): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    changed(copied, lambda model: model["schedule"].update(_target_="my_schedules.Mine"))
    refused(copied, "add trust=my_schedules")
    for trust in ("my_schedules", ["my_schedules"]):
        assert type(VDM.from_pretrained(copied, trust=trust).schedule).__name__ == "Mine"


def test_export_overwrites_nothing(pair, capsys):
    checkpoint, folder = pair
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert call(f"ckpt={checkpoint}", f"folder={folder}") == 2
    assert "is not empty: name a new folder" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
