"""Settings of the Trainer that would be ignored, and runs that end early: said in one line, never left unnoticed."""

import json

import pytest

from support.training_runs import vdm_train

EARLY = "lightning.pytorch.callbacks.EarlyStopping"
REFUSED = {
    "+trainer.callbacks=[{_target_: lightning.pytorch.callbacks.Timer}]": "+callbacks.mine._target_=",
    "+trainer.logger=true": "logger=tensorboard or",
    "+trainer.plugins=[x]": "vdm-train gives it its own",
    "+trainer.enable_checkpointing=false": "~callbacks.checkpoint",
    "trainer.enable_progress_bar=true": "~callbacks.progress",
    "+trainer.barebones=true": "leave it out",
    "+trainer.limit_train_batches=0": "trainer.limit_train_batches=0 trains nothing",
    "+trainer.limit_train_batches=0.01": "trainer.limit_train_batches=0.01 of 21 batches trains nothing",
    "+trainer.limit_val_batches=0": "would evaluate part of a split",
    "+trainer.limit_test_batches=3": "would evaluate part of a split",
    "trainer.max_epochs=0": "trains nothing",
    f"+callbacks.stop={{_target_: {EARLY}, monitor: val_loss}}": "callbacks.stop.monitor=val_loss is not measured",
}


def line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("override", REFUSED)
def test_ignored_trainer_setting_is_refused(override, tmp_path, capsys):
    assert vdm_train(tmp_path / "run", override) == 2
    assert REFUSED[override] in line(capsys)
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize(
    "override", ["trainer.logger=false", "+trainer.callbacks=null", "+trainer.enable_checkpointing=true"]
)
def test_trainer_setting_that_changes_nothing_is_taken(override):
    from vdm.cli.preflight import check_trainer_arguments

    name, _, value = override.partition("=")
    check_trainer_arguments({name.rpartition(".")[2]: json.loads(value)})


SHORT = {
    "trainer.max_epochs=1": "training took 21 of 30 steps, which trainer.max_epochs=1 ended",
    "callbacks.cpu_time.seconds=0.0001": "training took 1 of 30 steps, which callbacks.cpu_time.seconds=0.0001 ended",
    f"+callbacks.stop={{_target_: {EARLY}, monitor: val/bits_per_dim, patience: 1, min_delta: 100}}": (
        "training took 14 of 30 steps, which early stopping on val/bits_per_dim ended"
    ),
}


@pytest.mark.parametrize("override", SHORT)
def test_run_that_ends_early_says_why(override, tmp_path, capsys):
    assert vdm_train(tmp_path, override) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["provenance"]["ended"] == SHORT[override]
    assert SHORT[override] in metrics["warnings"]
    assert SHORT[override] in " ".join(capsys.readouterr().out.split())


def test_run_without_a_step_is_no_result(tmp_path, capsys):
    assert vdm_train(tmp_path / "run", "+trainer.max_time=00:00:00:00") == 2
    assert "none of 30 steps was taken, which trainer.max_time ended" in line(capsys)
    assert not (tmp_path / "run/metrics.json").exists()
