"""Training: EMA, resuming, checkpoints, non-finite losses and logged terms."""

import copy
import csv
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from support.catalogue import composed
from support.tasks import SMALL, parts, trainer_for, weights
from vdm.draws import Draws
from vdm.errors import InvalidInput
from vdm.evaluation import ranks
from vdm.runs.checkpoints import read_checkpoint
from vdm.training.build import build
from vdm.training.callbacks.bound_terms import BoundTerms
from vdm.training.callbacks.cpu_time import CpuTime
from vdm.training.callbacks.stop_on_non_finite import StopOnNonFinite
from vdm.training.checkpoint_io import AtomicCheckpointIO, CheckpointMetadata
from vdm.training.ema import ExponentialAverage
from vdm.training.learning_rate import warmup_cosine

WARMED = ("model=mhvae", "kl_warmup=linear", "model.warmup.steps=5", "data.batch_size=32")


def test_ema_has_its_closed_form():
    """Three steps with d_n = min(decay, (1 + n)/(10 + n)), by hand."""
    model = nn.Linear(1, 1, bias=False)
    model.register_buffer("count", torch.zeros(()))
    nn.init.constant_(model.weight, 0.0)
    average = ExponentialAverage(model, decay=0.3)
    expected = 0.0
    for step, value in enumerate((1.0, 5.0, 2.0)):
        nn.init.constant_(model.weight, value)
        model.count += 1
        average.update(model, step)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.module.weight.item() == pytest.approx(expected)
    assert average.module.count == 3


def test_ema_stays_in_evaluation_mode_and_untrained():
    _, task = parts()
    task.train()
    assert task.model.training
    assert not any(module.training for module in task.averaged.modules())
    assert not any(p.requires_grad for p in task.averaged.parameters())


def test_ema_changes_and_differs_from_the_raw_weights(tmp_path):
    data, task = parts()
    before = copy.deepcopy(task.averaged.state_dict())
    trainer_for(tmp_path).fit(task, datamodule=data)
    raw, averaged = task.model.state_dict(), task.averaged.module.state_dict()
    assert any(not torch.equal(before[f"module.{name}"], averaged[name]) for name in averaged)
    assert any(not torch.equal(raw[name], averaged[name]) for name in averaged)


@pytest.mark.parametrize(("settings", "stop"), [(SMALL, 2), (SMALL, 5), (WARMED, 3)], ids=["2", "5", "kl_warmup"])
def test_resumed_fit_repeats_the_uninterrupted_one(tmp_path, settings, stop):
    """Bit for bit from the middle of an epoch: weights, EMA, order of the examples, t, noise and KL annealing."""
    data, whole = build(composed(*settings))
    trainer_for(tmp_path, steps=7).fit(whole, datamodule=data)

    data, first = build(composed(*settings))
    trainer = trainer_for(tmp_path, CheckpointMetadata({}, {}), steps=stop)
    first.learning_rate = lambda optimizer, steps: warmup_cosine(optimizer, 7, 100)
    trainer.fit(first, datamodule=data)
    trainer.save_checkpoint(tmp_path / "middle.ckpt")

    data, second = build(composed(*settings))
    torch.manual_seed(999)
    trainer_for(tmp_path, CheckpointMetadata({}, {}), steps=7).fit(
        second, datamodule=data, ckpt_path=tmp_path / "middle.ckpt"
    )
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name


def test_dropout_differs_over_ranks_and_steps():
    masks = []
    for rank, step in ((0, 0), (1, 0), (0, 1), (0, 0)):
        Draws(seed=0, step=step, rank=rank).seed_torch()
        masks.append(nn.functional.dropout(torch.ones(64)))
    assert torch.equal(masks[0], masks[3])
    assert not any(torch.equal(masks[0], mask) for mask in masks[1:3])


def test_micro_batches_share_no_noise_and_stratify_t(tmp_path):
    data, task = parts()
    loss, times, noises = task.model.loss, [], []

    def recording_loss(batch, draws):
        times.append(draws.stratified("t", batch.x))
        noises.append(draws.normal("x_t", batch.x.float()))
        return loss(batch, draws)

    task.model.loss = recording_loss
    trainer_for(tmp_path, steps=2, accumulate_grad_batches=4).fit(task, datamodule=data)
    assert len(times) == 8
    assert not any(torch.equal(noises[0], other) for other in noises[1:])
    for step in (0, 4):
        together = torch.cat(times[step : step + 4]).sort().values
        torch.testing.assert_close(together.diff(), torch.full((127,), 1 / 128, dtype=torch.float64))


@pytest.mark.parametrize(("own", "others", "stops"), [(0.0, False, False), (9.0, False, True), (0.0, True, True)])
@pytest.mark.parametrize("number", [1, 2])
def test_cpu_time_stops_all_processes_after_the_same_step(monkeypatch, number, own, others, stops):
    """A single process stops after the step that reaches the limit, several one step later."""
    monkeypatch.setattr(ranks, "rank_and_world_size", lambda: (0, number))
    monkeypatch.setattr(ranks, "max_all_reduce", lambda votes: votes.clamp(min=int(others)))
    clock = CpuTime(seconds=5)
    clock.used = own
    trainer = SimpleNamespace(should_stop=False, strategy=SimpleNamespace(root_device="cpu"))
    for step in range(2):
        clock.on_train_batch_start()
        clock.on_train_batch_end(trainer)
        assert trainer.should_stop == ((own > 5 if number == 1 else stops) and step >= number - 1)


def test_seeds_give_different_weights(tmp_path):
    results = []
    for seed in (0, 1):
        data, task = parts(f"seed={seed}")
        trainer_for(tmp_path, steps=2).fit(task, datamodule=data)
        results.append(task.model.denoiser.network.last[2].linear.weight.clone())
    assert not torch.equal(*results)


def test_bound_terms_are_logged_and_add_up(tmp_path):
    data, task = parts()
    logger = pl.loggers.CSVLogger(tmp_path, name="", version="")
    terms = BoundTerms(every=3)
    trainer_for(tmp_path, terms, logger=logger).fit(task, datamodule=data)
    logger.finalize("success")
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    for stage in ("train", "val"):
        row = next(row for row in rows if row.get(f"{stage}/bits_per_dim"))
        parts_of = sum(float(row[f"{stage}/{name}"]) for name in ("reconstruction", "prior_matching", "denoising_matching"))
        assert parts_of == pytest.approx(float(row[f"{stage}/bits_per_dim"]))
        assert int(row["step"]) == 3
    assert terms.results["val"]["bits_per_dim"].mc_se > 0


def test_validation_changes_nothing_in_training(tmp_path):
    found = []
    for interval in (1, 100):
        data, task = parts()
        callbacks = [BoundTerms(every=1)] if interval == 1 else []
        trainer_for(tmp_path, *callbacks, val_check_interval=interval).fit(task, datamodule=data)
        found.append(weights(task))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_nan_loss_stops_before_it_changes_the_weights(tmp_path):
    data, task = parts()
    healthy = weights(task)
    original = task.model.loss

    def nan_loss(batch, draws):
        loss = original(batch, draws)
        return loss._replace(value=loss.value * float("nan"))

    task.model.loss = nan_loss
    with pytest.raises(InvalidInput, match="training loss is nan at step 0"):
        trainer_for(tmp_path, StopOnNonFinite()).fit(task, datamodule=data)
    assert all(torch.equal(healthy[name], value) for name, value in weights(task).items())


def test_checkpoint_round_trips_weights_and_metadata(tmp_path):
    data, task = parts()
    trainer = trainer_for(tmp_path, CheckpointMetadata({"seed": 0}, {"data": "digits"}))
    trainer.fit(task, datamodule=data)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    checkpoint = read_checkpoint(tmp_path / "some.ckpt")
    assert (checkpoint.config, checkpoint.provenance, checkpoint.step) == ({"seed": 0}, {"data": "digits"}, 6)
    for ema, module in ((True, task.averaged.module), (False, task.model)):
        read = checkpoint.weights(ema)
        assert read.keys() == module.state_dict().keys()
        assert all(torch.equal(read[name], value) for name, value in module.state_dict().items())


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    """The old file is intact, and no temporary file is left."""
    target, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"vdm": {"format": 1}, "value": 1}, target)
    old = target.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InvalidInput, match=r"last\.ckpt cannot be written \(No space left on device\)"):
        io.save_checkpoint({"vdm": {"format": 1}, "value": 2}, target)
    assert target.read_bytes() == old
    assert list(tmp_path.iterdir()) == [target]
