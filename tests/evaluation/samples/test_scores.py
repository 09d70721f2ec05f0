"""Scores of samples in the commands: refusals, unchanged training, and the same scores in two processes."""

import json
import sys

import pytest
import torch

from support.processes import finish, start
from support.training_runs import SMALL, vdm_train
from vdm.cli import evaluate
from vdm.runs.tables import read_rows

REFUSED = {
    "missing weights": (["fid=inception"], "no Inception weights at"),
    "truncated file": (["fid=inception", "fid.network.weights=short.pth"], "is truncated or not"),
    "file of another kind": (
        ["fid=inception", "fid.network.weights=short.pth", "fid.network.sha256=null"],
        "does not hold the weights",
    ),
    "points": (["experiment=toy", "fid=random"], "fid=null"),
    "one sample": (["fid=random", "fid.n=1"], "fid.n must be at least 2"),
    "unknown split": (["fid=random", "fid.split=tset"], "there is no split 'tset'"),
    "steps of an HVAE": (["model=hvae", "fid=random", "fid.steps=3"], "fid.steps needs a diffusion model"),
    "every=0": (["fid=random", "callbacks.score_samples.every=0"], "at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unusable_settings_are_refused_before_training(name, tmp_path, monkeypatch, capsys):
    overrides, message = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "none"))
    (tmp_path / "short.pth").write_bytes(b"half a file")
    monkeypatch.setattr(
        sys.modules[vdm_train.__module__],
        "SMALL",
        ("trainer.max_steps=10", "trainer.val_check_interval=5", "trainer.accelerator=cpu"),
    )
    assert vdm_train(tmp_path / "run", *overrides) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vdm-train: ")]
    assert message in line
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize(
    ("option", "module"),
    [("random", "torchmetrics.image.fid"), ("inception", "torch_fidelity.feature_extractor_inceptionv3")],
)
def test_missing_package_gives_one_line(option, module, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert vdm_train(tmp_path / "run", f"fid={option}") == 2
    assert f"{module} cannot be imported" in capsys.readouterr().err
    assert not (tmp_path / "run/checkpoints").exists()


def numbers(entry):
    return {name: value for name, value in entry.items() if isinstance(value, float)}


FID_ON = ("fid=random", "fid.n=23", "fid.batch_size=5", "callbacks.score_samples.every=2")


@pytest.mark.slow
def test_scores_leave_training_unchanged(tmp_path, monkeypatch):
    """Weights are equal with and without; val/ at every second validation, test/ with its settings at the end."""
    monkeypatch.chdir(tmp_path)
    off, on = tmp_path / "off", tmp_path / "on"
    assert vdm_train(off) == 0
    assert vdm_train(on, *FID_ON) == 0
    ends = [torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (off, on)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    _, rows = read_rows(on / "metrics.csv")
    assert [int(row["step"]) for row in rows if row["val/fid_random_conv"]] == [14, 28]
    metrics = json.loads((on / "metrics.json").read_text())
    (logged,) = [float(row["test/fid_random_conv"]) for row in rows if row["test/fid_random_conv"]]
    entry = metrics["samples"]
    assert entry["fid_random_conv"] == logged
    facts = ("n", "seed", "sampler", "spacing", "steps", "weights_sha256", "checkpoint_sha256", "network", "data", "note")
    assert set(facts) <= set(entry)
    assert entry["data"]["sha256"] == metrics["provenance"]["data"]["splits"]["train"]["sha256"]
    assert "samples" not in json.loads((off / "metrics.json").read_text())


@pytest.mark.slow
def test_two_processes_score_like_one(tmp_path):
    """23 samples in 5 batches: scored in training by two processes, then by vdm-evaluate in one and in two."""
    folders = [tmp_path / name for name in ("trained", "one", "two")]
    two = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.max_steps=2", "trainer.val_check_interval=1")
    finish(start("vdm-train", folders[0], *SMALL, *two, *FID_ON))
    scored = (f"ckpt={folders[0]}/checkpoints/best.ckpt", "accelerator=cpu", *FID_ON[:3], "fid.cache=null", "kid=true")
    scored += ("relatives.kid.subset_size=20", "precision_recall=true")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vdm-evaluate", f"hydra.run.dir={folders[1]}", *scored])
        evaluate.main()
    out = finish(start("vdm-evaluate", folders[2], *scored, "devices=2"))
    assert out.count("fid_random_conv") == 1
    metrics = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    one, two = (numbers(found["samples"]) for found in metrics[1:])
    assert two == pytest.approx(one, rel=1e-9)
    assert metrics[0]["samples"]["fid_random_conv"] == pytest.approx(one["fid_random_conv"], rel=1e-9)
    assert metrics[0]["samples"]["weights_sha256"] == metrics[1]["samples"]["weights_sha256"]
    for name, estimate in metrics[1]["test"].items():
        assert metrics[2]["test"][name] == pytest.approx(estimate, rel=1e-5, abs=1e-7)
