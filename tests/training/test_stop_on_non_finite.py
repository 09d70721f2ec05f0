"""The step at which a loss or gradient is not finite: it stops the run, is saved, and can be replayed."""

import math

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from support.catalogue import composed
from support.tasks import trainer_for
from vdm.config.composed import to_plain
from vdm.errors import InvalidInput
from vdm.runs.checkpoints import read_content
from vdm.training.build import build
from vdm.training.callbacks.last import LastCheckpoint
from vdm.training.callbacks.stop_on_non_finite import StopOnNonFinite
from vdm.training.checkpoint_io import CheckpointMetadata
from vdm.training.replay import replay


def poisoned(task, row):
    """Make x̂_0 infinite for example ``row`` of the batch at step 2."""
    original, calls = task.model.denoiser.network.forward, []

    def forward(x_t, gamma_t, condition=None):
        calls.append(0)
        y = original(x_t, gamma_t, condition)
        if task.global_step == 2:
            y = y.clone()
            y[row] = math.inf
        return y

    task.model.denoiser.network.forward = forward


@pytest.mark.parametrize("overrides", [(), ("times=loss_moment", "schedule=adaptive")])
def test_non_finite_step_is_saved_and_replayed(tmp_path, overrides):
    """The message names step, term, example and t; the file has the weights and histories before the step."""
    config = composed(
        "model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=32", *overrides
    )
    data, task = build(config)
    poisoned(task, row=5)
    callbacks = [StopOnNonFinite(str(tmp_path)), CheckpointMetadata(to_plain(config), {})]
    with pytest.raises(InvalidInput, match=r"at step 2: denoising matching of training example \d+ at t = 0\.\d+ \(1 of 32"):
        trainer_for(tmp_path, *callbacks).fit(task, datamodule=data)
    path = tmp_path / "non_finite_step_0000002_part_0.ckpt"
    content = read_content(path)
    assert (content["rank"], content["world_size"], content["global_step"]) == (0, 1, 2)
    assert all(torch.isfinite(value).all() for value in content["state_dict"].values())
    again = replay(path)
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, task.model.state_dict()[name]), name
    assert again.cause == "it is finite when run again"  # the fault was in this process, not in the file
    assert torch.isfinite(again.loss.value).all()
    assert torch.equal(replay(path).loss.value, again.loss.value)


@pytest.mark.parametrize("step", [0, 4, 5], ids=["early", "before a validation and a save", "last"])
def test_non_finite_gradients_reach_no_checkpoint(tmp_path, step):
    """The loss is finite: it would reveal the fault one step later, with the weights already saved and evaluated."""
    data, task = build(
        composed("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=32")
    )

    class PoisonedGradient(Callback):
        def on_after_backward(self, trainer, task):
            if trainer.global_step == step:
                next(task.model.parameters()).grad[...] = math.inf

    last = tmp_path / "last.ckpt"
    callbacks = [PoisonedGradient(), StopOnNonFinite(str(tmp_path)), LastCheckpoint(str(last), every=1)]
    own = CheckpointMetadata({}, {})
    with pytest.raises(InvalidInput, match=f"the gradients of step {step} are not finite, though its loss is"):
        trainer_for(tmp_path, *callbacks, own, enable_checkpointing=True, val_check_interval=5).fit(task, datamodule=data)
    assert (read_content(last)["global_step"] if last.exists() else 0) == step
    assert not list(tmp_path.glob("non_finite_*"))


def test_replay_reproduces_bad_weights(tmp_path):
    """The cause is in the weights, so the file alone reproduces it."""
    config = composed("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=32")
    data, task = build(config)
    for weight in task.model.denoiser.network.last.parameters():
        weight.data.fill_(math.nan)
    with pytest.raises(InvalidInput) as caught:
        trainer_for(tmp_path, StopOnNonFinite(str(tmp_path)), CheckpointMetadata(to_plain(config), {})).fit(
            task, datamodule=data
        )
    again = replay(tmp_path / "non_finite_step_0000000_part_0.ckpt")
    assert again.cause in str(caught.value)
    assert "denoising matching" in again.cause
    assert "32 of 32" in again.cause


def test_replay_uses_the_draws_of_its_micro_batch(tmp_path, monkeypatch):
    """The network fails in the last 1/128 of all t: for one of the 4 × 32 examples of a step."""
    config = composed("model.denoiser.network.channels=8", "model.denoiser.network.blocks=1", "data.batch_size=32", "seed=3")
    network = type(build(config).task.model.denoiser.network)
    clean, last = network.forward, config.gamma_max - (config.gamma_max - config.gamma_min) / 128

    def forward(self, x_t, gamma_t, condition=None):
        y = clean(self, x_t, gamma_t, condition)
        y[gamma_t > last] = math.nan
        return y

    monkeypatch.setattr(network, "forward", forward)
    data, task = build(config)
    callbacks = [StopOnNonFinite(str(tmp_path)), CheckpointMetadata(to_plain(config), {})]
    with pytest.raises(InvalidInput, match=r"at t = 0\.99\d+ \(1 of 32") as caught:
        trainer_for(tmp_path, *callbacks, accumulate_grad_batches=4).fit(task, datamodule=data)
    (path,) = tmp_path.glob("non_finite_step_0000000_part_*.ckpt")
    again, part = replay(path), int(path.stem[-1])
    assert part == 3
    assert (again.draws.rank, again.draws.world_size) == (part, 4)
    assert again.cause in str(caught.value)


def test_replay_refuses_a_plain_checkpoint(tmp_path):
    torch.save({"vdm": {"format": 1}, "state_dict": {}, "global_step": 0}, tmp_path / "x.ckpt")
    with pytest.raises(InvalidInput, match="is a checkpoint without a kept step"):
        replay(tmp_path / "x.ckpt")
