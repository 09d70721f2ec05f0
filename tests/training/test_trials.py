"""Runs that are no results: trainer=debug, overfit, limited and profile; and what a run shows on the way."""

import sys
from types import SimpleNamespace

import pytest
import torch

from support.catalogue import composed, options, part
from vdm.data.module import limited
from vdm.errors import InvalidInput
from vdm.training.callbacks.no_result import NoResult
from vdm.training.callbacks.progress import Progress

TRIALS = options("short")


@pytest.mark.parametrize("mode", TRIALS)
def test_trial_says_so_and_wins_over_an_experiment(mode):
    config = composed(f"trainer={mode}", "experiment=mnist")
    assert config.callbacks.no_result._target_ == f"{NoResult.__module__}.{NoResult.__qualname__}"
    assert f"trainer={mode}" in config.callbacks.no_result.reason
    assert config.data.limit <= 256
    if mode in ("debug", "profile"):
        assert config.trainer.max_steps < composed("experiment=mnist").trainer.max_steps
    assert mode in options("trainer")


@pytest.mark.parametrize("mode", sorted({*options("trainer")} - {*TRIALS}))
def test_other_trainers_use_all_data(mode):
    config = composed(f"trainer={mode}")
    assert "limit" not in config.data
    assert "no_result" not in config.callbacks


def test_limited_data_are_the_first_of_each_split():
    whole, few = part("data"), part("data", "trainer=overfit", "data.batch_size=7")
    for name, split in few.splits().items():
        assert torch.equal(split.x, whole.splits()[name].x[:7])
    assert "first 7 examples" in few.title
    assert few.provenance()["splits"]["test"]["size"] == 7
    with pytest.raises(InvalidInput, match="limit must be at least 1"):
        limited(0)


def lines(monkeypatch, capsys, terminal):
    """What Progress writes over two steps and a validation, where standard error is a terminal or not."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    rates = [SimpleNamespace(param_groups=[{"lr": 2e-3}])]
    trainer = SimpleNamespace(is_global_zero=True, estimated_stepping_batches=2, global_step=0, optimizers=rates)
    trainer.callback_metrics = {"val/bits_per_dim": torch.tensor(2.5)}
    bound = SimpleNamespace(terms=lambda: {"bits_per_dim": torch.tensor([3.0, 4.0])})
    progress = Progress()
    progress.on_train_start(trainer, None)
    for trainer.global_step in (1, 2):
        progress.on_train_batch_end(trainer, None, {"bound": bound, "loss": torch.tensor(1.25)}, None, 0)
    progress.on_validation_end(trainer, None)
    progress.on_train_end()
    return capsys.readouterr().err


def test_bar_shows_loss_bound_and_rate(monkeypatch, capsys):
    text = lines(monkeypatch, capsys, True)
    assert all(each in text for each in ("loss 1.25", "3.50 bits/dim", "lr 2.0e-03", "validation 2.500 bits/dim", "2/2"))


def test_log_has_lines_and_no_bar(monkeypatch, capsys):
    text = lines(monkeypatch, capsys, False)
    numbers = "loss 1.25, 3.50 bits/dim, lr 2.0e-03"
    assert text == f"step 1 of 2: {numbers}\nstep 2 of 2: {numbers}, validation 2.500 bits/dim\n"
