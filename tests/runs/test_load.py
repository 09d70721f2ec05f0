"""A checkpoint becomes a model, and nothing else is built or read before it is asked for."""

import pytest
import torch

from support.exports import MODELS, exported
from vdm.data import Digits
from vdm.runs.load import load_run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path, _ = exported(tmp_path_factory.mktemp("load"), MODELS["vdm"][1])
    return path


def test_load_run_builds_the_model_alone(checkpoint, monkeypatch):
    monkeypatch.setattr(Digits, "load", lambda self: pytest.fail("the data were read"))
    monkeypatch.setattr(torch.optim.AdamW, "__init__", lambda *_, **__: pytest.fail("an optimiser was built"))
    run = load_run(str(checkpoint))
    assert (run.model.training, run.weights, run.levels, run.data.event_shape) == (False, "ema", 17, (1, 8, 8))
    with pytest.raises(pytest.fail.Exception, match="the data were read"):
        run.data.splits()


@pytest.mark.parametrize("part", ["optimizer", "learning_rate", "callbacks", "trainer"])
def test_load_run_needs_no_part_of_training(part, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["vdm"]["config"][part] = {"_target_": "nowhere.Part"}
    torch.save(content, tmp_path / "changed.ckpt")
    assert load_run(str(tmp_path / "changed.ckpt")).checkpoint.step == 7
