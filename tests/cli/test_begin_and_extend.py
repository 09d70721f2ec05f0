"""Runs that begin with another run's weights, runs that are extended, and checkpoints used far from their data."""

import json
import shutil

import pytest
import torch

from support.commands import invoke
from support.image_files import drawn, encoded
from support.training_runs import vdm_train
from vdm.cli import evaluate, export, sample
from vdm.runs.checkpoints import read_checkpoint
from vdm.runs.folder import RunFolder
from vdm.runs.tables import read_curves

SHORT = (
    "trainer.val_check_interval=2",
    "callbacks.sample_grid.n=4",
    "callbacks.bound_terms.every=1",
    "callbacks.last.every=1",
)


def steps(number):
    return (*SHORT, f"trainer.max_steps={number}")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begin") / "run"
    assert vdm_train(folder, *steps(2)) == 0
    return folder


def test_finished_run_is_extended(two, tmp_path, capsys):
    """It goes on from its last step, with the learning rates of the longer run, and says so."""
    folder = shutil.copytree(two, tmp_path / "run")
    earlier = json.loads((folder / "metrics.json").read_text())
    assert vdm_train(folder, *steps(4), "resume=true") == 0
    assert "extending a run of 2 steps" in " ".join(capsys.readouterr().out.split())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["provenance"]["steps"], metrics["provenance"]["extended"]) == (4, [2])
    assert json.loads((folder / "metrics_of_2_steps.json").read_text()) == earlier
    assert vdm_train(tmp_path / "whole", *steps(4)) == 0
    rates = [read_curves(each / "metrics.csv")["train/learning_rate"] for each in (folder, tmp_path / "whole")]
    assert rates[0][0] == rates[1][0] == [1, 2, 3, 4]
    assert rates[0][1][2:] == pytest.approx(rates[1][1][2:], rel=1e-12)
    assert vdm_train(folder, *steps(4), "resume=true") == 0
    assert "is finished" in capsys.readouterr().out
    assert vdm_train(folder, *steps(3), "resume=true") == 2
    assert "holds a run with trainer.max_steps=4, not 3" in capsys.readouterr().err.splitlines()[-1]


def test_run_without_its_last_checkpoint_is_not_extended(two, tmp_path, capsys):
    folder = shutil.copytree(two, tmp_path / "run")
    (folder / "checkpoints/last.ckpt").unlink()
    assert vdm_train(folder, *steps(4), "resume=true") == 2
    assert "cannot be extended beyond 2 steps: it has no last.ckpt" in capsys.readouterr().err.splitlines()[-1]
    assert RunFolder(folder).result() is not None


def test_run_starts_from_given_weights(two, tmp_path, capsys):
    """The first validation is that of the given weights, up to one step of a tiny learning rate."""
    given = two / "checkpoints/best.ckpt"
    assert vdm_train(tmp_path / "run", *steps(1), "optimizer.lr=1e-12", "seed=1", f"ckpt={given}") == 0
    assert "starting from the averaged weights of" in capsys.readouterr().out
    facts = json.loads((tmp_path / "run/metrics.json").read_text())["provenance"]["started_from"]
    assert (facts["checkpoint"], facts["step"], facts["run_id"]) == (str(given), 2, RunFolder(two).id.read_text())
    before, after = (read_checkpoint(path).weights(ema=True) for path in (given, tmp_path / "run/checkpoints/last.ckpt"))
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())


def test_weights_of_another_model_start_nothing(two, tmp_path, capsys):
    other = "model.denoiser.network.channels=16"
    assert vdm_train(tmp_path / "run", *steps(1), other, f"ckpt={two}/checkpoints/best.ckpt") == 2
    assert "the weights do not fit" in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A run on a folder of images that was given by a relative path, and has moved since."""
    home = tmp_path_factory.mktemp("pictures")
    (home / "images").mkdir()
    for number, image in enumerate(drawn((40, 3, 8, 8))):
        (home / f"images/{number}.png").write_bytes(encoded(image))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        folder = (
            "experiment=folder",
            "data.root=images",
            "data.cache=cache",
            "data.event_shape=[3,8,8]",
            "data.batch_size=8",
        )
        small = ("model.denoiser.network.attention=[]", "model.denoiser.network.multipliers=[1]")
        assert vdm_train(home / "run", *steps(2), *folder, *small, "data.val=0.2", "data.test=0.2") == 0
    (home / "images").rename(home / "moved")
    shutil.rmtree(home / "cache")
    return home


def test_export_and_samples_need_no_data(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = f"ckpt={pictures}/run/checkpoints/best.ckpt"
    assert invoke(export, checkpoint, f"folder={tmp_path}/model") == 0
    assert invoke(sample, checkpoint, "n=2", "steps=2", f"hydra.run.dir={tmp_path}/samples") == 0
    assert (tmp_path / "samples/pictures/samples.png").exists()


def test_evaluation_takes_moved_data(pictures, tmp_path, monkeypatch, capsys):
    """The fingerprint says that they are the same; without a place, one line asks for it."""
    monkeypatch.chdir(tmp_path)
    words = (f"ckpt={pictures}/run/checkpoints/best.ckpt", "repeats=2")
    assert invoke(evaluate, *words, f"hydra.run.dir={tmp_path}/a") == 2
    assert "set data.root=" in capsys.readouterr().err.splitlines()[-1]
    assert invoke(evaluate, *words, f"hydra.run.dir={tmp_path}/b", f"data.root={pictures}/moved", "data.cache=here") == 0
    metrics = json.loads((tmp_path / "b/metrics.json").read_text())
    assert not [sentence for sentence in metrics["warnings"] if "differ" in sentence or "other data" in sentence]
    assert metrics["test"]["bits_per_dim"]["value"] > 0
